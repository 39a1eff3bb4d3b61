"""One node put together: opening what lies on disk and building every room on it.

Nothing runs yet when `build` returns, and nothing that existed on disk has been changed, so a
refusal up to here leaves the data as it was. Event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from kvshim.api.cluster import ClusterService, MemberInfo
from kvshim.api.guard import guard
from kvshim.api.header import Headers
from kvshim.api.health import HealthService
from kvshim.api.kv import KVService
from kvshim.api.lease import LeaseService
from kvshim.api.maintenance import MaintenanceService
from kvshim.api.range_stream import RangeStreamService
from kvshim.api.reflection import ReflectionService
from kvshim.api.watch import WatchService
from kvshim.apply.machine import ApplyMachine, BatchTiming
from kvshim.backend.backend import Backend, BackendOptions
from kvshim.backend.datadir import DataDir
from kvshim.config import Config
from kvshim.errors import Compacted, RequestError, StartupError
from kvshim.logs import Event, Logger
from kvshim.metrics.registry import Metrics
from kvshim.mvcc.store import Store
from kvshim.node.delivery import Delivery
from kvshim.node.identity import cluster_id_of, member_id_of
from kvshim.node.timing import lease_ttl_min_seconds, request_timeout_seconds
from kvshim.pb.etcd import rpc_pb2
from kvshim.pb.kvshim.command_pb2 import Command
from kvshim.rpc import Method, service_of
from kvshim.server.alarms import Alarms
from kvshim.server.compactor import Compactor
from kvshim.server.lessor import Lessor
from kvshim.server.physical import PhysicalCompaction
from kvshim.server.proposer import Proposer
from kvshim.server.quota import Quota
from kvshim.server.reader import Reader
from kvshim.types import LeaseID, Revision
from kvshim.watch.hub import Hub
from raft.interface import LogError
from raft.node import Node, NodeHooks
from raft.storage import LogStorage

READER_THREADS = 4
"""Ranges, catching up and hashes run on these; more than the cores they would share help nobody."""

FRAGMENT_OVERHEAD_BYTES = 512 * 1024
"""What a watch response may be above `--max-request-bytes` before it is fragmented."""


@dataclass(slots=True)
class Storage:
    """What lies on disk, opened and locked."""

    log: LogStorage
    backend: Backend
    store: Store

    @classmethod
    def open(cls, data_dir: DataDir, config: Config) -> Storage:
        """Raises `StartupError`; the data is then as it was."""
        try:
            log = LogStorage.open(data_dir.raft_path)
        except LogError as error:
            raise StartupError(str(error)) from error
        try:
            options = BackendOptions(
                wal_bytes_max=config.wal_bytes_max, reader_connections=READER_THREADS
            )
            backend = Backend.open(data_dir.generation_path(log.generation), options)
            return cls(log, backend, Store(backend))
        except BaseException:
            log.abandon()
            raise


@dataclass(slots=True)
class Parts:
    """Every room of a node, wired and at rest."""

    config: Config
    logger: Logger
    metrics: Metrics
    storage: Storage
    readers: ThreadPoolExecutor
    log: Node
    machine: ApplyMachine
    hub: Hub
    headers: Headers
    proposer: Proposer
    reader: Reader
    lessor: Lessor
    alarms: Alarms
    quota: Quota
    physical: PhysicalCompaction
    compactor: Compactor
    health: HealthService
    watch: WatchService
    members: tuple[MemberInfo, ...]

    def methods(self) -> list[Method]:
        """Everything that clients can call, for a transport."""
        config = self.config
        services = (
            KVService(
                proposer=self.proposer,
                reader=self.reader,
                quota=self.quota,
                physical=self.physical,
                headers=self.headers,
                txn_ops_max=config.max_txn_ops,
            ),
            RangeStreamService(self.reader, self.headers, config.max_request_bytes),
            self.watch,
            LeaseService(
                proposer=self.proposer,
                reader=self.reader,
                quota=self.quota,
                lessor=self.lessor,
                headers=self.headers,
                ttl_min_seconds=lease_ttl_min_seconds(config.heartbeat_ms, config.election_ms),
            ),
            ClusterService(self.members, self.reader, self.headers),
            MaintenanceService(
                store=self.storage.store,
                log=self.log,
                proposer=self.proposer,
                reader=self.reader,
                alarms=self.alarms,
                headers=self.headers,
                sizes=self.storage.backend.sizes,
                quota_bytes=config.quota_backend_bytes,
            ),
            self.health,
        )
        methods = [method for service in services for method in service.methods()]
        methods += ReflectionService({service_of(method) for method in methods}).methods()
        slow_seconds = config.warning_unary_request_duration_s
        return guard(methods, self.log, self.logger, slow_seconds)


def build(
    config: Config,
    data_dir: DataDir,
    logger: Logger,
    on_fatal: Callable[[BaseException], None],
) -> Parts:
    """Open the data and wire a node on it. Raises `StartupError`.

    `on_fatal` may be called on any thread.
    """
    loop = asyncio.get_running_loop()
    metrics = Metrics(config.metrics)
    storage = Storage.open(data_dir, config)
    store = storage.store
    member_id, cluster_id = _identity(config, storage.log)
    hooks = NodeHooks(
        on_fsync=metrics.disk.wal_fsync_seconds.observe,
        on_slow_fsync=partial(_tell_slow_fsync, logger),
        on_fatal=on_fatal,
    )
    log = Node(storage.log, cluster_id=cluster_id, member_id=member_id, hooks=hooks)
    timeout_seconds = request_timeout_seconds(config.election_ms)
    readers = ThreadPoolExecutor(READER_THREADS, thread_name_prefix="reader")
    proposer = Proposer(log, member_id, config.max_request_bytes, timeout_seconds)
    reader = Reader(store, log, readers, timeout_seconds)
    with store.read() as view:
        alarms = Alarms(view.alarms(), member_id)
        leases = [(record.id, record.ttl) for record in view.leases()]
    quota = Quota(
        config.quota_backend_bytes,
        lambda: storage.backend.sizes().db_bytes_in_use,
        lambda raised: alarms.change_own_nospace(proposer, raised=raised),
    )
    quota.observe(alarms.own_nospace)
    headers = Headers(cluster_id, member_id, store, log)
    hub = Hub(store, readers, config.watch_progress_notify_interval_s, logger)
    lessor = Lessor(leases, _revoker(proposer), loop.time, partial(_tell_expired, logger))
    physical = PhysicalCompaction(store.physically_compacted)

    def tell_compacted(revision: Revision) -> None:
        logger.info(Event.COMPACTION_FINISHED, compact_revision=revision)
        loop.call_soon_threadsafe(physical.observe, revision)

    delivery = Delivery(loop, hub, lessor, alarms, quota, proposer, reader, logger)
    machine = ApplyMachine(
        store, delivery.post, on_fatal, _observe_batches(metrics, config, logger)
    )
    store.on_work = machine.wake
    store.on_compacted = tell_compacted
    storage.backend.on_failure = on_fatal
    storage.backend.checkpointer.on_wal_pinned = partial(_tell_wal_pinned, logger)
    return Parts(
        config=config,
        logger=logger,
        metrics=metrics,
        storage=storage,
        readers=readers,
        log=log,
        machine=machine,
        hub=hub,
        headers=headers,
        proposer=proposer,
        reader=reader,
        lessor=lessor,
        alarms=alarms,
        quota=quota,
        physical=physical,
        compactor=Compactor(lambda: store.revision, _compactor(proposer, logger), loop.time),
        health=HealthService(),
        watch=WatchService(
            hub,
            headers.encode,
            config.max_request_bytes + FRAGMENT_OVERHEAD_BYTES,
            lambda: log.status().leader_id != 0,
        ),
        members=(_member_info(config, member_id),),
    )


def _identity(config: Config, log: LogStorage) -> tuple[int, int]:
    """(member id, cluster id): those the data began with, or those that the flags give."""
    if log.member_id:
        return log.member_id, log.cluster_id
    urls = [str(url) for url in config.initial_advertise_peer_urls]
    member_id = member_id_of(urls, config.initial_cluster_token)
    return member_id, cluster_id_of([member_id])


def _member_info(config: Config, member_id: int) -> MemberInfo:
    return MemberInfo(
        member_id=member_id,
        name=config.name,
        peer_urls=tuple(str(url) for url in config.initial_advertise_peer_urls),
        client_urls=tuple(str(url) for url in config.advertise_client_urls),
    )


def _revoker(proposer: Proposer) -> Callable[[LeaseID], Awaitable[None]]:
    async def revoke(lease: LeaseID) -> None:
        request = rpc_pb2.LeaseRevokeRequest(ID=lease)
        await proposer.propose(Command(lease_revoke=request), rpc_pb2.LeaseRevokeResponse)

    return revoke


def _compactor(proposer: Proposer, logger: Logger) -> Callable[[Revision], Awaitable[None]]:
    async def compact(revision: Revision) -> None:
        request = rpc_pb2.CompactionRequest(revision=revision)
        try:
            await proposer.propose(Command(compaction=request), rpc_pb2.CompactionResponse)
        except RequestError as refusal:
            if not isinstance(refusal, Compacted):
                logger.warn(Event.AUTO_COMPACTION_FAILED, revision=revision, error=str(refusal))
            raise

    return compact


def _tell_expired(logger: Logger, leases: int) -> None:
    logger.info(Event.LEASES_EXPIRED, leases=leases)


def _tell_wal_pinned(logger: Logger, seconds: float, wal_bytes: int) -> None:
    logger.warn(Event.WAL_PINNED, seconds=round(seconds, 1), wal_bytes=wal_bytes)


def _tell_slow_fsync(logger: Logger, seconds: float) -> None:
    logger.warn(Event.SLOW_FSYNC, took_seconds=round(seconds, 3))


def _observe_batches(
    metrics: Metrics, config: Config, logger: Logger
) -> Callable[[BatchTiming], None]:
    """What the apply thread reports after each batch."""

    def observe(timing: BatchTiming) -> None:
        metrics.apply.batch_seconds.observe(timing.seconds)
        metrics.apply.batch_size.observe(timing.entries)
        metrics.disk.backend_commit_seconds.observe(timing.commit_seconds)
        if timing.seconds > config.warning_apply_duration_s:
            metrics.server.slow_apply.inc()
            took = round(timing.seconds, 3)
            logger.warn(Event.SLOW_APPLY, took_seconds=took, entries=timing.entries)

    return observe
