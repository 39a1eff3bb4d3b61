"""kvshim's own rooms, wired without log and transport: apply, the store on SQLite, watches.

One command is one batch, whose events are published at once or, to be late, with the next. Drives
an event loop of its own, since watches live on one.
"""

from __future__ import annotations

import asyncio
import shutil
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from kvshim.api.watch import WatchService
from kvshim.apply.dispatch import Applier
from kvshim.auth.book import AuthBook
from kvshim.auth.state import AuthState
from kvshim.backend.backend import Backend, BackendOptions
from kvshim.errors import RequestError
from kvshim.mvcc.ranges import execute_range
from kvshim.mvcc.store import Store
from kvshim.pb.etcd import kv_pb2, rpc_pb2
from kvshim.pb.kvshim.command_pb2 import Command
from kvshim.watch.hub import Hub
from tests.support.memory import directory_in_memory
from tests.watch.conftest import Client, header_of
from tests.watch.fakes import FakeLog

TERM = 1
SETTLE_SECONDS_MAX = 10.0
OPTIONS = BackendOptions(page_size=1024)


class Rooms:
    """One server's rooms on a directory of its own, in memory; `close` it."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._directory = directory_in_memory("kvshim-test-")
        self._readers = ThreadPoolExecutor(1)
        self._open()
        self.told: dict[int, list[kv_pb2.Event]] = {}
        self.compacted: set[int] = set()
        self._unpublished: list[Any] = []
        self.run(self._begin())

    def run(self, work: Any) -> Any:
        return self.loop.run_until_complete(work)

    def _open(self) -> None:
        self.store = Store(Backend.open(self._directory / "kv-1.db", OPTIONS))
        with self.store.read() as view:
            self._applier = Applier.of(view, AuthBook(AuthState()))

    async def _begin(self) -> None:
        self._hub = Hub(self.store, self._readers, 600, FakeLog())  # type: ignore[arg-type]
        self._client = Client(WatchService(self._hub, header_of, 2 << 20))

    async def _end(self) -> None:
        await self._client.gone()
        self._hub.close()

    def close(self) -> None:
        self.run(self._end())
        self.loop.close()
        self._readers.shutdown()
        self.store.close()
        shutil.rmtree(self._directory)

    def reopen(self) -> None:
        """As after a restart; only while nobody watches."""
        self.publish()
        self.run(self._end())
        self.store.close()
        self._open()
        self.run(self._begin())

    # --- changes

    def apply(self, **command: Any) -> Any:
        """The answer to a command, or the text of its error; its events wait for `publish`."""
        with self.store.write() as batch:
            applied = self._applier.apply(batch, Command(**command), TERM)
        self._unpublished.extend(applied.events)
        if isinstance(applied.response, RequestError):
            return applied.response.message
        return applied.response

    def publish(self) -> None:
        events, self._unpublished = self._unpublished, []

        async def tell() -> None:
            self._hub.publish(self.store.revision, events)

        self.run(tell())

    def upkeep(self) -> None:
        """Physical compaction, to its end."""
        while self.store.between_batches():
            pass

    # --- questions

    def range(self, request: rpc_pb2.RangeRequest) -> Any:
        with self.store.read() as view:
            try:
                return execute_range(view, request).message()
            except RequestError as refusal:
                return refusal.message

    def lease_keys(self, lease: int) -> list[bytes]:
        with self.store.read() as view:
            return list(view.lease_keys(lease))

    def leases(self) -> dict[int, int]:
        with self.store.read() as view:
            return {record.id: record.ttl for record in view.leases()}

    # --- watches

    def watch(self, watch_id: int, request: rpc_pb2.WatchCreateRequest) -> None:
        """Create a watcher of this id and wait until it is."""
        self.told[watch_id] = []
        create = rpc_pb2.WatchCreateRequest()
        create.CopyFrom(request)
        create.watch_id = watch_id

        async def ask() -> None:
            self._client.request(rpc_pb2.WatchRequest(create_request=create))
            while not (response := await self._client.next()).created:
                self._take(response)
            assert response.watch_id == watch_id

        self.run(ask())

    def cancel(self, watch_id: int) -> None:
        """End a watcher that was told of everything."""

        async def ask() -> None:
            self._client.cancel(watch_id)
            while not (response := await self._client.next()).canceled:
                self._take(response)
            assert response.watch_id == watch_id

        self.run(ask())

    def settle(self, wanted: dict[int, int], compacted: set[int]) -> None:
        """Wait until each watcher was told so much, and these that what they want is gone."""

        async def wait() -> None:
            async with asyncio.timeout(SETTLE_SECONDS_MAX):
                while not compacted <= self.compacted or any(
                    len(self.told[watch_id]) < count for watch_id, count in wanted.items()
                ):
                    self._take(await self._client.next())
                # Whoever is to be told of nothing may still have to look, and a compaction that
                # came before that would be what it is told of.
                while self._hub.slow_watcher_count:  # noqa: ASYNC110 - it tells nobody
                    await asyncio.sleep(0.001)
                await asyncio.sleep(0)
                while not self._client.call.responses.empty():
                    self._take(await self._client.next())

        self.run(wait())

    def _take(self, response: rpc_pb2.WatchResponse) -> None:
        if response.compact_revision:
            self.compacted.add(response.watch_id)
            return
        assert response.events, response
        assert response.header.revision >= response.events[-1].kv.mod_revision
        self.told[response.watch_id].extend(response.events)
