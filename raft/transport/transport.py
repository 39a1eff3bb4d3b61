"""`PeerTransport`: one member's connections to and from the others. Event loop only."""

from __future__ import annotations

import asyncio
import ssl
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from raft.core.messages import Message
from raft.transport.accepting import Acceptor, Listener, claim
from raft.transport.calls import Caller, CallServer, Handler
from raft.transport.dialling import Address, Dialler
from raft.transport.lanes import PeerLanes
from raft.transport.options import (
    Identity,
    Purpose,
    Receiver,
    TransportHooks,
    TransportOptions,
)
from raft.transport.snapshots_in import SnapshotInbox
from raft.transport.snapshots_out import SnapshotOutbox
from raft.types import MemberId, SnapshotMeta, Term

_REASONS_REMEMBERED: Final = 256
_REFUSALS_APART_SECONDS: Final = 0.2


@dataclass(frozen=True, slots=True)
class PeerStatus:
    """How the way to one member is: both connections up, and messages that were dropped.

    `format_version` is what its program announced on the last connection; 0 before the first.
    """

    connected: bool
    dropped: int
    format_version: int


class PeerTransport:
    """Messages, snapshots and calls; see `docs/ARCHITECTURE.md` for who uses it."""

    def __init__(
        self,
        identity: Identity,
        receiver: Receiver,
        *,
        options: TransportOptions,
        hooks: TransportHooks | None = None,
    ) -> None:
        self._me = identity
        self._receiver = receiver
        self._hooks = _SaidOnce(hooks or TransportHooks())
        self._dialler = Dialler(identity, options)
        self._listeners: list[Listener] = []
        self._peers: dict[MemberId, PeerLanes] = {}
        self._started = False
        self._ending: set[asyncio.Task[None]] = set()
        self._outbox = SnapshotOutbox(self._dialler, self._urls_of)
        self._inbox = SnapshotInbox(identity, options, receiver)
        self._caller = Caller(self._dialler, self._urls_of)
        self._server = CallServer(options)
        self._acceptor = Acceptor(
            identity, options, receiver, self._server, self._inbox, self._hooks
        )

    def bind(self, addresses: Sequence[tuple[str, int, bool]]) -> list[tuple[str, int]]:
        """Claim (host, port, TLS?) before anything runs; port 0 is any. Returns host and port.

        Raises `LogError`, nothing being claimed.
        """
        listeners = claim(addresses, self._dialler.options)
        self._listeners += listeners
        if self._started:
            self._acceptor.start(listeners)
        return [listener.address for listener in listeners]

    async def start(self) -> None:
        """Accept and connect. Raises `LogError` when the directory for snapshots is unusable."""
        await asyncio.to_thread(self._inbox.clean)
        self._started = True
        self._acceptor.start(self._listeners)
        for lanes in self._peers.values():
            lanes.start()

    async def stop(self) -> None:
        """Close everything; calls and snapshots under way fail."""
        self._started = False
        for listener in self._listeners:
            listener.sock.close()
        for member in list(self._peers):
            self._remove(member)
        await self._caller.stop()
        await self._server.stop()
        await self._acceptor.stop()
        await self._inbox.stop()
        await asyncio.gather(*self._ending, return_exceptions=True)

    def set_peers(self, peers: Mapping[MemberId, Sequence[str]]) -> None:
        """All other members and their addresses, in order of preference, from now on.

        Raises `LogError` for what is no address, nothing being changed.
        """
        for url in (url for urls in peers.values() for url in urls):
            Address.of(url)
        for member in self._peers.keys() - peers.keys():
            self._remove(member)
            self._acceptor.drop(member)
        for member, urls in peers.items():
            if member == self._me.member_id:
                continue
            lanes = self._peers.get(member)
            if lanes is None:
                lanes = PeerLanes(member, self._dialler, self._receiver, self._hooks)
                self._peers[member] = lanes
                if self._started:
                    lanes.start()
            elif lanes.urls != tuple(urls):
                self._caller.forget(member)
            lanes.set_urls(urls)

    def send(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Queue messages to whom they name; never waits. What cannot go now is dropped.

        Returns what was dropped: it never left. Raises TypeError for an `InstallSnapshot`: that is
        `send_snapshot`.
        """
        dropped: list[Message] = []
        for message in messages:
            lanes = self._peers.get(message.to)
            if lanes is None or not lanes.send(message):
                dropped.append(message)
        return dropped

    async def send_snapshot(
        self, to: MemberId, term: Term, snapshot: SnapshotMeta, path: Path
    ) -> None:
        """Send a file as the store of `snapshot`; returns when it arrived, verified and durable.

        Raises `OSError` when it did not, `LogError` when trying again is of no use now.
        """
        await self._outbox.send(to, term, snapshot, path)

    async def call(
        self,
        to: MemberId | str,
        method: str,
        payload: bytes,
        timeout: float,  # noqa: ASYNC109
        *,
        tls: ssl.SSLContext | None = None,
    ) -> bytes:
        """Ask a member, or whoever is at an address; `timeout` in seconds.

        `tls` is used for this call to an address instead of the options' client context. Raises
        `CallRefused`, `OSError` (the call may have had its effect; `TimeoutError` is one), and
        `LogError` for what is no address.
        """
        return await self._caller.call(to, method, payload, timeout, tls)

    def handle(self, method: str, handler: Handler, *, open_to_strangers: bool = False) -> None:
        """Answer calls of `method` from now on; a handler refuses with `CallRefused`."""
        self._server.handle(method, handler, open_to_strangers=open_to_strangers)

    def status(self) -> dict[MemberId, PeerStatus]:
        """How the way to each other member is."""
        return {
            member: PeerStatus(
                lanes.urgent.connected.is_set() and lanes.bulk.connected.is_set(),
                lanes.urgent.dropped + lanes.bulk.dropped,
                min(lanes.urgent.format_version, lanes.bulk.format_version),
            )
            for member, lanes in self._peers.items()
        }

    async def connected(self, member: MemberId) -> None:
        """Wait until both connections to a member are up."""
        lanes = self._peers[member]
        await lanes.urgent.connected.wait()
        await lanes.bulk.connected.wait()

    def _urls_of(self, member: MemberId) -> Sequence[str]:
        lanes = self._peers.get(member)
        return lanes.urls if lanes is not None else ()

    def _remove(self, member: MemberId) -> None:
        self._caller.forget(member)
        for task in self._peers.pop(member).stop():
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)


class _SaidOnce(TransportHooks):
    """Passes on what is new: the same reason at the same address only once, till it is mended."""

    def __init__(self, hooks: TransportHooks) -> None:
        self._hooks = hooks
        self._known: OrderedDict[tuple[str, str], str] = OrderedDict()
        self._silent_until = 0.0

    def connected(self, member: MemberId, purpose: Purpose, address: str) -> None:
        self._known.pop(("unreachable", address), None)
        self._hooks.connected(member, purpose, address)

    def disconnected(self, member: MemberId, purpose: Purpose, reason: str) -> None:
        self._hooks.disconnected(member, purpose, reason)

    def unreachable(self, member: MemberId, address: str, reason: str) -> None:
        if self._is_new("unreachable", address, reason):
            self._hooks.unreachable(member, address, reason)

    def refused(self, address: str, reason: str) -> None:
        now = asyncio.get_running_loop().time()
        if now < self._silent_until:  # whoever is refused may try again as often as it likes
            return
        if self._is_new("refused", address, reason):
            self._silent_until = now + _REFUSALS_APART_SECONDS
            self._hooks.refused(address, reason)

    def _is_new(self, what: str, address: str, reason: str) -> bool:
        key = (what, address)
        if self._known.get(key) == reason:
            return False
        self._known[key] = reason
        self._known.move_to_end(key)
        if len(self._known) > _REASONS_REMEMBERED:
            self._known.popitem(last=False)
        return True
