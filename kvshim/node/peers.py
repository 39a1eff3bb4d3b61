"""The node among its peers: the transport between members, wired to log, member list and leases.

Event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from pathlib import Path
from typing import Final

from kvshim.config import Config, Url
from kvshim.errors import NoLeader, RequestError, StartupError
from kvshim.logs import Event, Logger
from kvshim.node.timing import patient
from kvshim.node.trust import Trust
from kvshim.pb.kvshim.member_pb2 import ClusterInfo, Member, Members
from kvshim.server.lease_calls import KEEPALIVE_METHOD, TRY_SECONDS, TTL_METHOD, LeaseCalls
from kvshim.server.members import MemberBook
from kvshim.server.repair import CALL_SECONDS
from kvshim.server.spares import SpareDesk
from kvshim.transport.peer_tls import peer_credentials
from kvshim.version import FORMAT_VERSION
from raft.core.messages import InstallSnapshot, Message
from raft.interface import LogError, MemberId, StateMachine
from raft.node import Node
from raft.snapshots import SnapshotSender
from raft.transport import (
    CallPeer,
    CallRefused,
    Formats,
    Handler,
    Identity,
    PeerTransport,
    Purpose,
    TransportHooks,
    TransportOptions,
)

INFO_METHOD: Final = "cluster-info"
INFO_SECONDS: Final = 5.0

CAUGHT_UP_ENTRIES: Final = 100
"""So few entries behind, a learner may vote; the core refuses one that lags more than 256."""


class Peers:
    """The transport of a member, and what comes in by it."""

    def __init__(
        self,
        config: Config,
        directory: Path,
        *,
        log: Node,
        cluster_id: int,
        book: MemberBook,
        logger: Logger,
        trust: Trust,
        formats: Formats,
    ) -> None:
        self._trust = trust
        self._config = config
        self._directory = directory
        self._log = log
        self._cluster_id = cluster_id
        self._book = book
        self._logger = logger
        self._snapshots: SnapshotSender | None = None
        self._spares_present: Callable[[], AbstractSet[int]] = frozenset
        self._spares_announced: Callable[[], Mapping[int, int]] = dict
        self._leader_heard_of: Callable[[], int] = _nobody
        options = trust.options() if trust.rules else _options(config, directory, logger)
        self.transport = PeerTransport(
            Identity(cluster_id, book.own_id),
            self,
            options=replace(patient(options, config.election_ms), formats=formats),
            hooks=_Told(logger),
        )
        self.transport.handle(INFO_METHOD, self._tell_cluster, open_to_strangers=True)
        book.listeners.append(self.show)

    def serve(self, machine: StateMachine, calls: LeaseCalls) -> None:
        """Say who takes what comes in; before `start`."""
        self._snapshots = SnapshotSender(machine, self.transport, self._log, self._directory)
        self._log.connect(self.transport, self._snapshots)
        self.answer(KEEPALIVE_METHOD, calls.handle_keepalive)
        self.answer(TTL_METHOD, calls.handle_ttl)

    def answer(self, method: str, handler: Callable[[bytes], Awaitable[bytes]]) -> None:
        """Answer a call of other members; its `RequestError` refuses."""
        self.transport.handle(method, _answering(handler))

    def know_spares(self, desk: SpareDesk, leader_heard_of: Callable[[], int]) -> None:
        """`desk` knows the spares that are there, `leader_heard_of` is who leads, for a spare."""
        self._spares_present = desk.present
        self._spares_announced = desk.announced
        self._leader_heard_of = leader_heard_of

    def bind(self) -> None:
        """Claim the addresses for peers, if there may be any. Raises `StartupError`."""
        urls = self._config.listen_peer_urls
        if not self._config.peer_urls_given:
            urls = tuple(self._trust.listen_urls()) or urls
            if len(self._book.members) <= 1 and not all(url.tls for url in urls):
                return
        try:
            self.transport.bind([(url.host, url.port, url.tls) for url in urls])
        except LogError as error:
            raise StartupError(str(error)) from error
        for url in urls:
            self._logger.info(Event.PEERS_LISTENING, address=str(url))
        if len(self._book.members) > 1 and not all(url.tls for url in urls):
            self._logger.warn(Event.PEERS_IN_THE_CLEAR, urls=[str(url) for url in urls])

    async def start(self) -> None:
        """Connect to the others, and answer them."""
        if self._snapshots is not None:
            await asyncio.to_thread(self._snapshots.clean)
        await self.transport.start()

    async def stop(self) -> None:
        """Close every connection."""
        if self._snapshots is not None:
            await self._snapshots.stop()
        await self.transport.stop()

    async def ask_leader(self, method: str, payload: bytes) -> bytes:
        """Call a method at whoever leads. Raises `OSError`, `CallRefused`, `NoLeader`."""
        leader = self.leader_id()
        if leader in (0, self._book.own_id):
            raise NoLeader
        return await self.transport.call(MemberId(leader), method, payload, TRY_SECONDS)

    def leader_id(self) -> int:
        """Who leads, by the log or by what others say; 0 for nobody."""
        return self._log.status().leader_id or self._leader_heard_of()

    async def call(self, member: int, method: str, payload: bytes, seconds: float) -> bytes:
        """Call a method at a member. Raises `OSError`, `CallRefused`, `LogError`."""
        return await self.transport.call(MemberId(member), method, payload, seconds)

    async def ask(self, member: int, method: str, payload: bytes) -> bytes:
        """Call a method at a member. Raises `OSError`, `CallRefused`."""
        return await self.transport.call(MemberId(member), method, payload, CALL_SECONDS)

    def reached(self) -> set[int]:
        """Members that are connected now, this one included, and the spares that are there."""
        others = self.transport.status().items()
        connected = {int(member) for member, way in others if way.connected}
        return {self._book.own_id} | connected | self._spares_present()

    def announced(self) -> dict[int, int]:
        """By member connected now, the newest cluster version that its program can run at."""
        others = self.transport.status().items()
        connected = {int(member): way.format_version for member, way in others if way.connected}
        return {**self._spares_announced(), **connected}

    def caught_up(self) -> set[int]:
        """Members that follow the log closely; empty unless this one leads."""
        status = self._log.status()
        return {
            member
            for member, match in status.matches
            if status.last_index - match <= CAUGHT_UP_ENTRIES
        }

    # -- raft.transport.Receiver

    def received(self, messages: Sequence[Message]) -> None:
        """Raft's messages."""
        self._log.received(messages)

    def unreachable(self, member: MemberId) -> None:
        """A connection broke, or its queue was full."""
        self._log.unreachable(member)

    async def snapshot_received(self, message: InstallSnapshot, path: Path) -> None:
        """Take a whole, verified snapshot."""
        assert self._snapshots is not None
        await self._snapshots.accept(message, path)

    def show(self, members: Sequence[Member]) -> None:
        """Talk to these, from now on. Spares are sent nothing, and send nothing but calls."""
        own = self._book.own
        is_spare = own is not None and own.spare
        peers: dict[MemberId, tuple[str, ...]] = {}
        known: dict[MemberId, tuple[str, ...]] = {}
        for member in members:
            if member.id != self._book.own_id:
                chosen = known if is_spare or member.spare else peers
                chosen[MemberId(member.id)] = tuple(member.peer_urls)
        self.transport.set_peers(peers)
        self.transport.set_known(known)

    async def _tell_cluster(self, _payload: bytes, _peer: CallPeer) -> bytes:
        info = ClusterInfo(cluster_id=self._cluster_id, members=Members(members=self._book.members))
        return info.SerializeToString()


async def ask_cluster(
    urls: Sequence[Url], config: Config, directory: Path, logger: Logger
) -> ClusterInfo:
    """What the first member that answers says of its cluster. Raises `StartupError`."""
    options = patient(_options(config, directory, logger), config.election_ms)
    asker = PeerTransport(Identity(0, 0), _Nobody(), options=options)
    reasons: list[str] = []
    try:
        for url in urls:
            try:
                answer = await asker.call(str(url), INFO_METHOD, b"", INFO_SECONDS)
                return ClusterInfo.FromString(answer)
            except (OSError, CallRefused) as error:
                reasons.append(f"{url}: {error or 'no answer'}")
    finally:
        await asker.stop()
    raise StartupError(
        "no member of --initial-cluster says what its cluster is: " + "; ".join(reasons)
    )


def _options(config: Config, directory: Path, logger: Logger) -> TransportOptions:
    def warn(reason: str) -> None:
        logger.warn(Event.PEER_CERTIFICATE_KEPT, reason=reason)

    hosts = [url.host for url in config.listen_peer_urls]
    credentials = peer_credentials(config.peer_tls, directory, hosts, warn)
    formats = Formats(FORMAT_VERSION)
    if credentials is None:
        return TransportOptions(directory, formats=formats)
    return TransportOptions(
        directory,
        formats=formats,
        server_tls=credentials.server,
        client_tls=credentials.client,
        authorize=credentials.authorize,
    )


class _Nobody:
    def received(self, messages: Sequence[Message]) -> None: ...
    def unreachable(self, member: MemberId) -> None: ...
    async def snapshot_received(self, message: InstallSnapshot, path: Path) -> None: ...


class _Told(TransportHooks):
    """Connections, told to the operator."""

    def __init__(self, logger: Logger) -> None:
        self._logger = logger

    def connected(self, member: MemberId, purpose: Purpose, address: str) -> None:
        if purpose is Purpose.URGENT:
            self._logger.info(Event.PEER_CONNECTED, member_id=f"{member:x}", address=address)

    def disconnected(self, member: MemberId, purpose: Purpose, reason: str) -> None:
        if purpose is Purpose.URGENT:
            self._logger.warn(Event.PEER_LOST, member_id=f"{member:x}", reason=reason)

    def unreachable(self, member: MemberId, address: str, reason: str) -> None:
        self._logger.warn(
            Event.PEER_UNREACHABLE, member_id=f"{member:x}", address=address, reason=reason
        )

    def refused(self, address: str, reason: str) -> None:
        self._logger.warn(Event.PEER_REFUSED, address=address, reason=reason)


def _nobody() -> int:
    return 0


def _answering(handler: Callable[[bytes], Awaitable[bytes]]) -> Handler:
    async def answer(payload: bytes, _peer: CallPeer) -> bytes:
        try:
            return await handler(payload)
        except RequestError as refusal:
            raise CallRefused("refused", refusal.message) from None

    return answer
