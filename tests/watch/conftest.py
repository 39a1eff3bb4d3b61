"""A node's watch room on a fake store: a hub, the service and clients that tidy up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from kvshim.api.watch import WatchService
from kvshim.pb.etcd import rpc_pb2
from kvshim.watch.hub import Hub
from tests.watch.fakes import FakeCall, FakeLog, FakeStore, RealStore

Created = rpc_pb2.WatchCreateRequest


class Client:
    """Speaks on one stream."""

    def __init__(self, service: WatchService, metadata: dict[str, str] | None = None) -> None:
        self.call = FakeCall(metadata or {})
        self.task = asyncio.ensure_future(service.watch(self.call))

    def request(self, request: rpc_pb2.WatchRequest) -> None:
        self.call.requests.put_nowait(request)

    def create(self, key: bytes, range_end: bytes = b"", **options: object) -> None:
        create = Created(key=key, range_end=range_end, **options)  # type: ignore[arg-type]
        self.request(rpc_pb2.WatchRequest(create_request=create))

    def cancel(self, watch_id: int) -> None:
        cancel = rpc_pb2.WatchCancelRequest(watch_id=watch_id)
        self.request(rpc_pb2.WatchRequest(cancel_request=cancel))

    def progress(self) -> None:
        self.request(rpc_pb2.WatchRequest(progress_request=rpc_pb2.WatchProgressRequest()))

    async def next(self) -> rpc_pb2.WatchResponse:
        async with asyncio.timeout(5):
            return await self.call.responses.get()

    async def created(
        self, key: bytes, range_end: bytes = b"", **options: object
    ) -> rpc_pb2.WatchResponse:
        self.create(key, range_end, **options)
        response = await self.next()
        assert response.created, response
        return response

    async def silent(self, seconds: float = 0.05) -> None:
        await asyncio.sleep(seconds)
        assert self.call.responses.empty(), self.call.responses.get_nowait()

    async def gone(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


class Node:
    """Store, hub and service; `put`, `delete` and `write` commit and publish."""

    def __init__(self, store: FakeStore, interval: float, max_response_bytes: int) -> None:
        self.store = store
        self.log = FakeLog()
        self.readers = ThreadPoolExecutor(4)
        self.hub = Hub(self.store, self.readers, interval, self.log)
        self.has_leader = True
        self.service = WatchService(
            self.hub, header_of, max_response_bytes, has_leader=lambda: self.has_leader
        )
        self.clients: list[Client] = []

    def client(self, metadata: dict[str, str] | None = None) -> Client:
        self.clients.append(Client(self.service, metadata))
        return self.clients[-1]

    def put(self, key: bytes, value: bytes = b"v") -> None:
        self.write([(key, value)])

    def delete(self, key: bytes) -> None:
        self.write([(key, None)])

    def write(self, *transactions: Sequence[tuple[bytes, bytes | None]]) -> None:
        events = self.store.commit(*transactions)
        self.hub.publish(self.store.revision, events)

    def forget_recent(self) -> None:
        """Make watchers read history: nothing is left in memory."""
        self.hub._recent.reset(self.hub.revision)

    async def stop(self) -> None:
        self.store.gate.set()
        for client in self.clients:
            await client.gone()
        self.hub.close()
        assert self.hub.stream_count == 0
        assert self.hub.watcher_count == 0
        assert self.hub.slow_watcher_count == 0
        self.readers.shutdown()
        self.store.close()
        orphans = asyncio.all_tasks() - {asyncio.current_task()}
        assert not [task for task in orphans if "watch" in repr(task.get_coro())]


def header_of(revision: int) -> bytes:
    header = rpc_pb2.ResponseHeader(cluster_id=7, member_id=9, revision=revision, raft_term=2)
    return header.SerializeToString()


@pytest.fixture
def progress_interval() -> float:
    return 600.0


@pytest.fixture
def max_response_bytes() -> int:
    return 2 << 20


@pytest.fixture(params=[FakeStore, RealStore])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> FakeStore:
    return RealStore(tmp_path) if request.param is RealStore else FakeStore()


@pytest.fixture
async def node(
    store: FakeStore, progress_interval: float, max_response_bytes: int
) -> AsyncIterator[Node]:
    node = Node(store, progress_interval, max_response_bytes)
    yield node
    await node.stop()
