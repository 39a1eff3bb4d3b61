"""Clients that watch the simulated cluster through the production watch service.

Each watches a part of the keys on one stream, at any member. It changes members now and then, or
because its member died, and goes on behind the last revision that it was sent or promised; it may
be slow, ask for fragments and for progress. Where compaction overtakes it, it begins anew and its
history has a gap there, and nowhere else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from random import Random
from typing import Any, cast

from kvshim.errors import RequestError
from kvshim.pb.etcd import rpc_pb2
from kvshim.types import KeyRange
from tests.sim.server import Server
from tests.sim.truth import Change, Truth
from tests.sim.world import World

WATCHERS = 6
RANGES = (
    KeyRange(b"", None),
    KeyRange(b"a/", b"a0"),
    KeyRange(b"a/2", b"a/6"),
    KeyRange.of(b"a/1", b""),
    KeyRange.of(b"x", b""),
)
PROGRESS = rpc_pb2.WatchRequest(progress_request=rpc_pb2.WatchProgressRequest())
_Create = rpc_pb2.WatchCreateRequest


@dataclass(slots=True)
class Segment:
    """Without a gap: all events from `start` on, as they came."""

    start: int
    events: list[Change] = field(default_factory=list)
    through: int = 0
    """Up to here everything was sent, or promised to be nothing."""


class Stream:
    """The server's side of a watcher's stream: a `BidiCall`."""

    def __init__(self, watcher: Watcher, metadata: Mapping[str, str]) -> None:
        self.peer, self.metadata = f"watcher {watcher.number}", metadata
        self.requests: asyncio.Queue[Any] = asyncio.Queue()
        self._watcher = watcher

    async def receive(self) -> Any:
        return await self.requests.get()

    async def send(self, reply: bytes) -> None:
        """To the client, who may read slowly."""
        if self._watcher.random.random() < 0.1:
            await asyncio.sleep(self._watcher.random.uniform(0.0, 0.3))
        self._watcher.take(self, rpc_pb2.WatchResponse.FromString(reply))

    def flush(self) -> None: ...


@dataclass(slots=True)
class Watcher:
    """See the module."""

    number: int
    world: World
    random: Random
    servers: Mapping[int, Server]
    keys: KeyRange
    segments: list[Segment] = field(default_factory=lambda: [Segment(2, through=1)])
    only: Sequence[int] | None = None
    """Members to watch at; any, if None."""
    resumed: int = 0
    compacted: int = 0
    problem: str = ""
    _server: Server | None = None
    _stream: Stream | None = None
    _call: asyncio.Task[None] | None = None
    _from_now: bool = False
    _part: list[Change] = field(default_factory=list)

    def start(self) -> None:
        """Begin, and change members now and then."""
        self._connect()
        self.world.after(self.random.uniform(200_000, 2_000_000), self._move)

    def settle(self, members: Sequence[int]) -> None:
        """Stay at one of these from here on."""
        self.only = members
        if self._server is None or self._server.id not in members:
            self._leave()

    def server_ended(self, server: Server) -> None:
        """A process died, and whatever was under way with it."""
        if server is self._server:
            self._server = self._stream = self._call = None
            self._part.clear()
            self._connect_later()

    def take(self, stream: Stream, response: rpc_pb2.WatchResponse) -> None:
        """A response has come."""
        if stream is not self._stream:
            return
        segment, revision = self.segments[-1], response.header.revision
        if response.created and self._from_now:
            self._from_now = False
            self.segments.append(Segment(revision + 1, through=revision))
        elif response.canceled:
            self._cancelled(segment, response)
        elif response.events:
            self._part += [
                Change(e.kv.mod_revision, e.kv.key, None if e.type == e.DELETE else e.kv.value)
                for e in response.events
            ]
            if self._part[0].revision <= segment.through:
                self.problem = f"{self._part[0]} comes after the promise of {segment.through}"
            if not response.fragment:
                segment.events += self._part
                segment.through = max(segment.through, self._part[-1].revision)
                self._part = []
        elif not response.created:
            segment.through = max(segment.through, revision)  # a progress response's promise

    def differs(self, truth: Truth) -> str | None:
        """What is wrong with what it saw, in words."""
        if self.problem:
            return self.problem
        for segment in self.segments:
            last = segment is self.segments[-1]
            through = truth.revision if last else segment.through
            wanted = [
                event
                for event in truth.events
                if segment.start <= event.revision <= through and self.keys.contains(event.key)
            ]
            if segment.events != wanted:
                return f"of {self.keys} from {segment.start} it saw {segment.events}, not {wanted}"
        return None

    def _cancelled(self, segment: Segment, response: rpc_pb2.WatchResponse) -> None:
        at = response.compact_revision
        if at:
            if at <= segment.through + 1:
                self.problem = f"at {segment.through} it was told that {at} is compacted"
            self.compacted += 1
            if self.random.random() < 0.5:
                self.segments.append(Segment(at, through=at - 1))
            else:
                self._from_now = True
        self._leave()

    def _move(self) -> None:
        if self.only is None:
            self.world.after(self.random.uniform(200_000, 2_000_000), self._move)
            if self.random.random() < 0.5:
                self._ask(PROGRESS)
            else:
                self._leave()

    def _ask(self, request: rpc_pb2.WatchRequest) -> None:
        if self._stream is not None:
            self._stream.requests.put_nowait(request)

    def _leave(self) -> None:
        if self._call is not None:
            self._call.cancel()
        self._server = self._stream = self._call = None
        self._part.clear()
        self._connect_later()

    def _connect_later(self) -> None:
        self.resumed += 1
        stays = self.only is not None
        away_us = 1_500_000 if self.random.random() < 0.2 and not stays else 100_000
        self.world.after(self.random.uniform(1_000, away_us), self._connect)

    def _connect(self) -> None:
        if self._stream is not None:
            return
        chosen = sorted(self.servers) if self.only is None else self.only
        there = [self.servers[member] for member in chosen if member in self.servers]
        if not there:
            self._connect_later()
            return
        server = self._server = self.random.choice(there)
        metadata = {"hasleader": "true"} if self.random.random() < 0.3 else {}
        stream = self._stream = Stream(self, metadata)
        self._call = server.spawn(self._serve(server, stream))
        create = _Create(
            key=self.keys.start or b"\0",
            range_end=b"\0" if self.keys.end is None else self.keys.end,
            start_revision=0 if self._from_now else self.segments[-1].through + 1,
            fragment=self.random.random() < 0.5,
            prev_kv=self.random.random() < 0.5,
            progress_notify=self.random.random() < 0.5,
        )
        self._ask(rpc_pb2.WatchRequest(create_request=create))
        if self.random.random() < 0.3:  # while it catches up, most likely
            self._ask(PROGRESS)

    async def _serve(self, server: Server, stream: Stream) -> None:
        with suppress(RequestError):
            await server.watches.watch(cast(Any, stream))
        if stream is self._stream:
            self._leave()
