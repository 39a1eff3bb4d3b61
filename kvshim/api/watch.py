"""The Watch service: requests to a stream's watchers, its responses to the client.

One reader and one sender task per stream, in one task group; both end with the call. Event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

from kvshim import errors
from kvshim.api.access import Access
from kvshim.api.guard import requires_leader
from kvshim.pb.etcd import rpc_pb2
from kvshim.rpc import Bidi, BidiCall, Method
from kvshim.types import EventKind, KeyRange, Revision
from kvshim.watch.encode import HeaderOf
from kvshim.watch.hub import Hub
from kvshim.watch.sending import send_all
from kvshim.watch.stream import WatchStream
from kvshim.watch.watcher import WatchSpec

_EXCLUDED_BY_FILTER = {
    rpc_pb2.WatchCreateRequest.NOPUT: EventKind.PUT,
    rpc_pb2.WatchCreateRequest.NODELETE: EventKind.DELETE,
}


class WatchService:
    """`/etcdserverpb.Watch`. `max_response_bytes` is etcd's limit for fragments: the largest
    request plus 512 KiB."""

    def __init__(
        self,
        hub: Hub,
        header: HeaderOf,
        max_response_bytes: int,
        has_leader: Callable[[], bool] = lambda: True,
        access: Access | None = None,
    ) -> None:
        self._hub = hub
        self._header = header
        self._max_response_bytes = max_response_bytes
        self._has_leader = has_leader
        self._access = access
        self._leader_streams: set[WatchStream] = set()

    def methods(self) -> list[Method]:
        """The methods of the service, for a transport."""
        return [Bidi("/etcdserverpb.Watch/Watch", rpc_pb2.WatchRequest, self.watch)]

    def leader_lost(self) -> None:
        """End the streams that require a leader; called when there has been none for three
        election timeouts."""
        for stream in self._leader_streams:
            stream.fail(errors.NoLeader())

    async def watch(self, call: BidiCall) -> None:
        """Serve one stream until the client goes or the stream fails."""
        leader_required = requires_leader(call)
        if leader_required and not self._has_leader():
            raise errors.NoLeader
        stream = self._hub.open_stream(call.peer)
        if leader_required:
            self._leader_streams.add(stream)
        try:
            await self._serve(call, stream)
        except BaseExceptionGroup as group:
            raise _first(group) from None
        finally:
            self._leader_streams.discard(stream)
            stream.close()

    async def _serve(self, call: BidiCall, stream: WatchStream) -> None:
        async with asyncio.TaskGroup() as tasks:
            sending = send_all(call, stream, self._header, self._max_response_bytes)
            for work in (self._receive(call, stream), sending):
                tasks.create_task(work).add_done_callback(partial(_end_if_cancelled, stream))
            # A client that half-closes still gets its events, so only failure ends the stream.
            await stream.failure

    async def _receive(self, call: BidiCall, stream: WatchStream) -> None:
        while (request := await call.receive()) is not None:
            assert isinstance(request, rpc_pb2.WatchRequest)
            match request.WhichOneof("request_union"):
                case "create_request":
                    await self._create(call, stream, _spec(request.create_request))
                case "cancel_request":
                    stream.cancel(request.cancel_request.watch_id)
                case "progress_request":
                    stream.request_progress()
                case None:
                    pass  # etcd ignores what it does not know
            await stream.outbox.room()

    async def _create(self, call: BidiCall, stream: WatchStream, spec: WatchSpec) -> None:
        """Permission is looked at now and, as in etcd, not again while the watcher lives."""
        if self._access is not None and spec.start_revision >= 0:
            refusal = await self._access.watch_refusal(call, spec.keys)
            if refusal is not None:
                stream.refuse(refusal)
                return
        stream.create(spec)


def _end_if_cancelled(stream: WatchStream, task: asyncio.Task[None]) -> None:
    """A task group overlooks a cancelled child; here it means that the client is gone."""
    if task.cancelled():
        stream.failure.cancel()


def _spec(request: rpc_pb2.WatchCreateRequest) -> WatchSpec:
    return WatchSpec(
        keys=KeyRange.of(request.key or b"\x00", request.range_end),
        start_revision=Revision(request.start_revision),
        watch_id=request.watch_id,
        excluded=frozenset(
            _EXCLUDED_BY_FILTER[kind] for kind in request.filters if kind in _EXCLUDED_BY_FILTER
        ),
        prev_kv=request.prev_kv,
        fragment=request.fragment,
        progress_notify=request.progress_notify,
    )


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The error that ended the stream; the others only followed from it."""
    first = group.exceptions[0]
    return _first(first) if isinstance(first, BaseExceptionGroup) else first
