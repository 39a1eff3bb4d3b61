"""The Watch streams of one run: what they were told, watcher by watcher, and when they are settled.

How events are packed into responses depends on time, in etcd as in kvshim: a watcher's events are
compared one by one, in order. That a header never promises more than was told is checked here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

from google.protobuf.message import Message

from conformance.differential.client import Client, Metadata, Watch
from conformance.differential.steps import Known, Step, message
from kvshim.pb.etcd import rpc_pb2

SETTLE_SECONDS_MAX = 15.0
ASK_AGAIN_SECONDS = 0.03
UNSETTLED = 1 << 60
"""In the place of a watch id."""
FUTURE_MAX = 50
"""Revisions that are made up at most for watchers of the future."""


class Stream:
    """One stream, as far as its responses tell."""

    def __init__(self, client: Client, metadata: Metadata) -> None:
        self.watch = Watch(client, metadata)
        self._looked_at = 0
        self._asked: list[int] = []  # the start revisions of watchers that are not created yet
        self.live: dict[int, int] = {}  # those that are told of events, with their start revision
        self.compacted: set[int] = set()
        self.progress: rpc_pb2.WatchResponse | None = None
        self.told: dict[int, list[Message | str]] = {}

    def create(self, request: rpc_pb2.WatchCreateRequest) -> None:
        self._asked.append(request.start_revision)
        self.watch.send(rpc_pb2.WatchRequest(create_request=request))

    def cancel(self, watch_id: int) -> None:
        request = rpc_pb2.WatchCancelRequest(watch_id=watch_id)
        self.watch.send(rpc_pb2.WatchRequest(cancel_request=request))

    def ask_progress(self) -> None:
        request = rpc_pb2.WatchProgressRequest()
        self.watch.send(rpc_pb2.WatchRequest(progress_request=request))

    @property
    def awaits_creation(self) -> bool:
        return bool(self._asked)

    @property
    def has_ended(self) -> bool:
        return self.watch.failure is not None

    def wait(self, seconds_max: float) -> None:
        """Until there is another response."""
        self.watch.wait(self._looked_at, seconds_max)
        self.look()

    def wait_for_progress(self, revision: int, seconds_max: float) -> bool:
        """Whether it is told, within the time, that it knows of everything up to a revision."""
        deadline = time.monotonic() + seconds_max
        while self.progress is None or self.progress.header.revision < revision:
            left = deadline - time.monotonic()
            if left <= 0 or self.has_ended:
                return False
            self.wait(left)
        return True

    def look(self) -> None:
        """Take in what has come."""
        told = self.watch.told
        while self._looked_at < len(told):
            self._take(told[self._looked_at])
            self._looked_at += 1

    def _take(self, response: rpc_pb2.WatchResponse) -> None:
        watch_id, items = response.watch_id, self.told.setdefault(response.watch_id, [])
        if response.events:
            last = response.events[-1].kv.mod_revision
            if not 0 < last <= response.header.revision:
                items.append(f"header {response.header.revision} before event {last}")
            items.extend(response.events)
            return
        if response.created:
            start = self._asked.pop(0) if self._asked else 0
            if not response.canceled:
                self.live[watch_id] = start
        elif not response.canceled:
            self.progress = response
            return
        if response.canceled:
            self.live.pop(watch_id, None)
            if response.compact_revision:
                self.compacted.add(watch_id)
            elif watch_id in self.compacted:
                self.compacted.discard(watch_id)
                return  # asked for by `_settle`, at a time that depends on when it had to be
        items.append(response)


class Streams:
    """All streams of one run. `fill` makes a revision."""

    def __init__(self, client: Client, known: Known, fill: Callable[[], None]) -> None:
        self._client = client
        self._known = known
        self._fill = fill
        self._streams: dict[str, Stream] = {}

    def step(self, name: str, step: Step, metadata: Metadata) -> Message | str | None:
        """Do a step; the answer, if it has one that does not depend on time."""
        if (stream := self._streams.get(name)) is None:
            stream = self._streams[name] = Stream(self._client, metadata)
        match step:
            case {"create": create}:
                request = message(rpc_pb2.WatchCreateRequest, create, self._known)
                assert isinstance(request, rpc_pb2.WatchCreateRequest)
                request.start_revision = min(
                    request.start_revision, self._known.now + FUTURE_MAX // 2
                )
                stream.create(request)
                self._wait_created(stream)
            case {"cancel": watch_id}:
                self._settle(stream)
                was_live = watch_id in stream.live
                stream.cancel(watch_id)
                deadline = time.monotonic() + SETTLE_SECONDS_MAX
                while was_live and watch_id in stream.live and time.monotonic() < deadline:
                    stream.wait(SETTLE_SECONDS_MAX)
            case {"progress": _}:
                stream.progress = None
                self._settle(stream)
                return stream.progress or "nobody watches"
        return None

    def settle(self) -> None:
        """Wait until every watcher has been told of everything."""
        for stream in self._streams.values():
            self._wait_created(stream)
            self._reach_future(stream)
        for stream in self._streams.values():
            self._settle(stream)

    def told(self) -> Iterator[tuple[str, Any]]:
        """What each watcher was told."""
        for name, stream in sorted(self._streams.items()):
            stream.look()
            for watch_id, items in sorted(stream.told.items()):
                for number, item in enumerate(items):
                    yield f"watch {name}/{watch_id} item {number}", item
            if stream.has_ended:
                yield f"watch {name} ended", stream.watch.failure

    def close(self) -> None:
        for stream in self._streams.values():
            stream.watch.close()

    def _wait_created(self, stream: Stream) -> None:
        deadline = time.monotonic() + SETTLE_SECONDS_MAX
        while stream.awaits_creation and not stream.has_ended and time.monotonic() < deadline:
            stream.wait(SETTLE_SECONDS_MAX)

    def _reach_future(self, stream: Stream) -> bool:
        """Make revisions until no watcher of the stream is of the future; whether that worked."""
        while stream.live and max(stream.live.values()) > self._known.now:
            before = self._known.now
            self._fill()
            if self._known.now == before:
                return False
        return True

    def _settle(self, stream: Stream) -> None:
        """As etcd answers: silent while a watcher is behind, is of the future, or was cancelled by
        a compaction and not by its client."""
        self._wait_created(stream)
        deadline = time.monotonic() + SETTLE_SECONDS_MAX
        stream.progress = None
        while not stream.has_ended and time.monotonic() < deadline:
            stream.look()
            if stream.compacted:
                stream.cancel(min(stream.compacted))
                stream.wait(ASK_AGAIN_SECONDS)
                continue
            if not stream.live:
                return
            if not self._reach_future(stream):
                return
            stream.ask_progress()
            if stream.wait_for_progress(self._known.now, ASK_AGAIN_SECONDS):
                return
        state = f"live {stream.live} compacted {stream.compacted} at {self._known.now}"
        stream.told.setdefault(UNSETTLED, []).append(f"was not settled: {state}")
