"""Running a node: start its parts in order, serve until told to stop, stop them in reverse.

`run_node` is what the command calls. SIGTERM and SIGINT drain and end with 0; whatever makes the
node unable to go on ends it with one sentence and 1, and what it had not answered stays unanswered.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeAlias

from kvshim.backend.datadir import DataDir
from kvshim.config import CompactionMode, Config
from kvshim.errors import KvshimError, StartupError, StorageError
from kvshim.logs import Event, Logger
from kvshim.metrics.runtime import Sampler
from kvshim.node.edge import Edge
from kvshim.node.memory import tune_memory
from kvshim.node.metering import wire_metrics
from kvshim.node.notify import READY, STOPPING, notify
from kvshim.node.parts import Parts, build
from raft.interface import LogError

Job: TypeAlias = Coroutine[Any, Any, None]

DRAIN_SECONDS = 2.0
"""How long running requests may take to finish once the node stops; all of stopping takes 5."""

UNKNOWN_SECONDS_MAX = 1.0
"""How long a member that starts answers nobody, since the others do not know it by name yet."""

SWITCH_SECONDS = 0.0005
"""How long a thread in Python code keeps the interpreter from the event loop; by default 5 ms, ten
times as much, which showed as loop lag while watchers caught up."""


def run_node(config: Config, logger: Logger, on_ready: Callable[[], None]) -> int:
    """Run a node until it is told to stop; returns the exit code. Blocks the calling thread.

    Raises `KvshimError` with one sentence for the operator when it cannot start or go on.
    """
    data_dir = DataDir.open(config.data_dir)
    try:
        return asyncio.run(_Run(config, data_dir, logger, on_ready).run())
    finally:
        data_dir.close()


class _Run:
    """One run of a node, from opening its data to closing it."""

    def __init__(
        self, config: Config, data_dir: DataDir, logger: Logger, on_ready: Callable[[], None]
    ) -> None:
        self._config = config
        self._data_dir = data_dir
        self._logger = logger
        self._on_ready = on_ready
        self._stop = asyncio.Event()
        self._failure: BaseException | None = None

    async def run(self) -> int:
        self._loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._stop.set)
        parts = await build(self._config, self._data_dir, self._logger, self._fail)
        edge = Edge(parts, self._data_dir)
        try:
            edge.bind()
            parts.peers.bind()
            await self._start_log(parts)
            await self._serve(parts, edge)
        finally:
            await self._close(parts, edge)
        if self._failure is not None:
            raise _sentence(self._failure)
        return 0

    async def _start_log(self, parts: Parts) -> None:
        parts.machine.start()
        try:
            await parts.log.start(parts.machine)
        except LogError as error:
            raise StartupError(str(error)) from error
        parts.leadership.start()
        await parts.peers.start()
        await parts.delivery.reader.applied(parts.log.status().commit_index)

    async def _serve(self, parts: Parts, edge: Edge) -> None:
        await self._introduce_first(parts)
        await edge.start()
        await parts.trust.admin.start()
        wire_metrics(parts)
        sampler = Sampler(parts.metrics.runtime, self._loop)
        sampler.start()
        sys.setswitchinterval(SWITCH_SECONDS)
        tune_memory()
        try:
            await self._work(parts)
        finally:
            sampler.stop()
            parts.health.shutdown()

    async def _introduce_first(self, parts: Parts) -> None:
        """Answer nobody before all know this member's name and addresses, as etcd does; but where
        nobody leads clients shall hear of that soon."""
        if parts.duties.follower.forwards:
            return
        with suppress(TimeoutError):
            async with asyncio.timeout(UNKNOWN_SECONDS_MAX):
                await parts.log.leader_known()
                await parts.duties.introduce()

    async def _work(self, parts: Parts) -> None:
        """Run the node's own tasks until it is to stop; one that fails stops the node."""
        tasks = [asyncio.create_task(work) for work in self._jobs(parts)]
        stop = asyncio.create_task(self._stop.wait())
        try:
            done, _ = await asyncio.wait([stop, *tasks], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (stop, *tasks):
                task.cancel()
            await asyncio.gather(stop, *tasks, return_exceptions=True)
        for task in done:
            if task is not stop and (error := task.exception()) is not None:
                self._fail(error)

    def _jobs(self, parts: Parts) -> list[Job]:
        jobs: list[Job] = [
            parts.delivery.lessor.run(),
            parts.delivery.quota.run(),
            parts.same.scrubber.run(),
            parts.same.divergence.run(),
            parts.duties.roles.run(),
            parts.duties.follower.run(),
            parts.raiser.run(),
            self._become_ready(parts),
        ]
        if parts.trust.keeper is not None:
            jobs.append(parts.trust.keeper.run())
        wanted = self._config.auto_compaction
        if wanted is not None and wanted.mode is CompactionMode.PERIODIC:
            jobs.append(parts.compactor.run_periodic(wanted.period_s))
        elif wanted is not None:
            jobs.append(parts.compactor.run_by_revision(wanted.revisions))
        return jobs

    async def _become_ready(self, parts: Parts) -> None:
        """Be ready once somebody leads and everybody knows how clients reach this member."""
        await _first_of(parts.log.leader_known(), parts.duties.follower.found())
        await parts.duties.introduce()
        self._logger.info(Event.READY, revision=parts.storage.store.revision)
        notify(READY)
        self._on_ready()
        await parts.duties.stay_known()

    async def _close(self, parts: Parts, edge: Edge) -> None:
        self._logger.info(Event.STOPPING)
        notify(STOPPING)
        await parts.log.resign()
        parts.primacy.stop()
        await parts.same.resync.stop()
        failed = self._failure is not None
        await parts.trust.admin.stop()
        parts.delivery.hub.close()
        await edge.stop(0.0 if failed else DRAIN_SECONDS)
        parts.delivery.proposer.stop()
        parts.delivery.reader.stop()
        await parts.log.stop()
        await parts.peers.stop()
        parts.leadership.stop()
        await asyncio.to_thread(parts.machine.stop)
        parts.auth.stop()
        parts.readers.shutdown(wait=True, cancel_futures=True)
        parts.storage.store.close()
        self._logger.info(Event.STOPPED)

    def _fail(self, error: BaseException) -> None:
        """The node cannot go on; any thread. The first reason is the one that counts."""
        if self._failure is None:
            self._failure = error
            self._logger.error(Event.STORAGE_FAILED, error=str(error))
        self._loop.call_soon_threadsafe(self._stop.set)


async def _first_of(*jobs: Job) -> None:
    tasks = [asyncio.ensure_future(job) for job in jobs]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()


def _sentence(error: BaseException) -> KvshimError:
    if isinstance(error, KvshimError):
        return error
    if isinstance(error, LogError):
        return StorageError(str(error))
    return StorageError(f"the node cannot go on: {error!r}")
