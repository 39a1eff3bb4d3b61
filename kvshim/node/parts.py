"""One node put together: opening what lies on disk and building every room on it.

Nothing runs yet when `build` returns, and nothing that existed on disk has been changed, so a
refusal up to here leaves the data as it was. Event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from kvshim.api.access import Access
from kvshim.api.auth import AuthService
from kvshim.api.changes import Changes
from kvshim.api.cluster import ClusterService
from kvshim.api.election import ElectionService
from kvshim.api.guard import guard
from kvshim.api.header import Headers
from kvshim.api.health import HealthService
from kvshim.api.kv import KVService
from kvshim.api.lease import LeaseService
from kvshim.api.lock import LockService
from kvshim.api.maintenance import MaintenanceService
from kvshim.api.own_client import OwnClient
from kvshim.api.range_stream import RangeStreamService
from kvshim.api.reflection import ReflectionService, service_names
from kvshim.api.watch import WatchService
from kvshim.apply.machine import ApplyMachine
from kvshim.apply.members import members_of
from kvshim.backend.backups import last_backup
from kvshim.backend.datadir import DataDir
from kvshim.config import Config, WithoutQuorum
from kvshim.errors import NoDataHere
from kvshim.logs import Logger
from kvshim.metrics.registry import Metrics
from kvshim.node.delivery import Delivery
from kvshim.node.duties import Duties, give_duties
from kvshim.node.forming import form
from kvshim.node.peers import Peers
from kvshim.node.proposals import OwnProposals
from kvshim.node.reports import Reports
from kvshim.node.sameness import Sameness, keep_same
from kvshim.node.storage import READER_THREADS, Storage
from kvshim.node.tenure import announce
from kvshim.node.timing import (
    lease_ttl_min_seconds,
    node_options,
    raft_election_ms,
    request_timeout_seconds,
)
from kvshim.node.trust import Trust
from kvshim.rpc import Method
from kvshim.server.alarms import Alarms
from kvshim.server.authenticator import Authenticator
from kvshim.server.compactor import Compactor
from kvshim.server.expiry import expiries
from kvshim.server.leadership import Leadership
from kvshim.server.lease_calls import LeaseCalls, LeasePrimacy
from kvshim.server.lease_proposals import LeaseProposals
from kvshim.server.lessor import Lessor
from kvshim.server.members import MemberBook
from kvshim.server.physical import PhysicalCompaction
from kvshim.server.proposer import Proposer
from kvshim.server.quota import Quota
from kvshim.server.reader import Reader
from kvshim.server.settling import Settling
from kvshim.server.snapshots import Snapshots
from kvshim.server.status import METHOD as STATUS_METHOD
from kvshim.server.status import ClusterStatus
from kvshim.server.versions import ClusterVersion, VersionRaiser
from kvshim.transport.options import GRPC_OVERHEAD_BYTES
from kvshim.version import FORMAT_VERSION
from kvshim.watch.hub import Hub
from raft.node import Node
from raft.options import NodeHooks
from raft.transport import Formats


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
    delivery: Delivery
    headers: Headers
    compactor: Compactor
    same: Sameness
    health: HealthService
    leadership: Leadership
    lease_calls: LeaseCalls
    peers: Peers
    trust: Trust
    primacy: LeasePrimacy
    duties: Duties
    raiser: VersionRaiser
    auth: Authenticator

    def methods(self) -> list[Method]:
        """Everything that clients can call, for a transport."""
        config, work, headers = self.config, self.delivery, self.headers
        changes = Changes(work.proposer, work.quota, headers, self.auth)
        access = Access(self.auth, work.reader, config.max_txn_ops)
        services = (
            KVService(
                changes=changes,
                reader=work.reader,
                physical=work.physical,
                headers=headers,
                txn_ops_max=config.max_txn_ops,
            ),
            RangeStreamService(work.reader, headers),
            self._watches(access),
            self._leases(changes, access),
            AuthService(changes, work.reader, self.auth, headers),
            ClusterService(work.members, work.reader, headers),
            MaintenanceService(
                store=self.storage.store,
                log=self.log,
                changes=changes,
                reader=work.reader,
                alarms=work.alarms,
                headers=headers,
                snapshots=Snapshots(
                    self.storage.store,
                    work.reader,
                    config.data_dir,
                    lambda: self.storage.backend.bytes_in_use,
                    self.logger,
                ),
                version=work.version,
                sizes=lambda: self.storage.backend.sizes(),  # noqa: PLW0108 - snapshots replace it
                quota_bytes=config.quota_backend_bytes,
            ),
            self.health,
        )
        methods = [method for service in services for method in service.methods()]
        methods = access.restrict(methods)
        own = OwnClient(methods)
        methods += LockService(own).methods() + ElectionService(own).methods()
        methods += ReflectionService(service_names(methods)).methods()
        slow_seconds = config.warning_unary_request_duration_s
        return guard(methods, self.log, self.logger, slow_seconds, self._refuses)

    def _refuses(self) -> bool:
        """Are clients refused as by etcd's learners? A member without data answers nothing itself:
        a connection may be older than that, and grpcio has nowhere to carry one.
        """
        if self.duties.follower.forwards:
            raise NoDataHere
        return self.delivery.members.refuses_clients()

    def _leases(self, changes: Changes, access: Access) -> LeaseService:
        config, work = self.config, self.delivery
        service = LeaseService(
            calls=self.lease_calls,
            changes=changes,
            reader=work.reader,
            lessor=work.lessor,
            headers=self.headers,
            access=access,
            ttl_min_seconds=lease_ttl_min_seconds(config.heartbeat_ms, config.election_ms),
        )
        self.leadership.on_leaderless(service.leader_lost)
        return service

    def _watches(self, access: Access) -> WatchService:
        service = WatchService(
            self.delivery.hub,
            self.headers.encode,
            self.config.max_request_bytes + GRPC_OVERHEAD_BYTES,
            lambda: self.log.status().leader_id != 0,
            access,
        )
        self.leadership.on_leaderless(service.leader_lost)
        return service


async def build(
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
    reports = Reports(logger, metrics, config.warning_apply_duration_s)
    storage = Storage.open(data_dir, config)
    store = storage.store
    formation = await form(storage, config, data_dir.path, logger)
    member_id, cluster_id = formation.member_id, formation.cluster_id
    election_ms = raft_election_ms(
        config.heartbeat_ms, config.election_ms, given=config.election_given
    )
    leadership = Leadership(
        member_id, election_ms / 1000, stream_election_seconds=config.election_ms / 1000
    )

    def on_leader(leader_id: int, term: int) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(leadership.observe, leader_id, term)

    hooks = NodeHooks(
        on_leader=on_leader,
        on_snapshot_sent=reports.snapshot_sent,
        on_fsync=reports.fsynced,
        on_slow_fsync=reports.slow_fsync,
        on_fatal=on_fatal,
        on_wal_pinned=reports.log_wal_pinned,
        on_wal_released=reports.log_wal_released,
    )
    log = Node(
        storage.log,
        cluster_id=cluster_id,
        member_id=member_id,
        options=node_options(config.heartbeat_ms, election_ms),
        hooks=hooks,
    )
    timeout_seconds = request_timeout_seconds(config.election_ms)
    readers = ThreadPoolExecutor(READER_THREADS, thread_name_prefix="reader")
    with store.read() as view:
        version = ClusterVersion(view.format_version)
        alarms = Alarms(view.alarms(), member_id)
        leases = list(view.leases())
        members = members_of(view) or formation.others
    proposer = Proposer(
        log,
        member_id,
        config.max_request_bytes,
        timeout_seconds,
        leadership=leadership,
        gate=version,
    )
    own = OwnProposals(proposer, member_id, lambda: leadership.leads, reports.compaction_failed)
    quota = Quota(
        config.quota_backend_bytes,
        lambda: storage.backend.bytes_in_use,
        own.change_nospace,
        config.max_request_bytes,
    )
    quota.observe(alarms.own_nospace)
    headers = Headers(cluster_id, member_id, store, log)
    on_leases = LeaseProposals(proposer, leadership)
    lessor = Lessor((), on_leases.revoke, loop.time, reports.leases_expired, on_leases.checkpoint)
    book = MemberBook(member_id, members, proposer, strict=config.strict_reconfig_check)
    delivery = Delivery(
        loop=loop,
        hub=Hub(store, readers, config.watch_progress_notify_interval_s, logger),
        lessor=lessor,
        members=book,
        version=version,
        alarms=alarms,
        quota=quota,
        proposer=proposer,
        reader=Reader(
            store,
            log,
            readers,
            timeout_seconds,
            leadership,
            stale_reads=config.read_only_without_quorum is WithoutQuorum.STALE_READS,
            logger=logger,
        ),
        physical=PhysicalCompaction(store.physically_compacted, lambda: store.compact_revision),
        settling=Settling(loop, store),
        reports=reports,
        on_fatal=on_fatal,
    )
    machine = ApplyMachine(
        store,
        delivery.post,
        on_fatal,
        reports.applied,
        storage.generations,
        sync_seconds=reports.sync_seconds,
    )
    machine.on_applied = log.applied
    store.on_work = machine.wake
    store.on_compacted = delivery.post_compacted
    storage.backend.on_failure = on_fatal
    _report(storage, reports)
    trust = Trust(config, data_dir.path, cluster_id, book, store=store)
    peers = Peers(
        config,
        data_dir.path,
        log=log,
        cluster_id=cluster_id,
        book=book,
        logger=logger,
        trust=trust,
        formats=Formats(FORMAT_VERSION, lambda: version.current),
    )
    peers.show(book.members)
    duties = give_duties(
        config,
        data_dir.path,
        store=store,
        peers=peers,
        book=book,
        leadership=leadership,
        proposer=proposer,
        logger=logger,
        version=version,
    )
    status = ClusterStatus(
        cluster_id,
        book,
        leadership,
        log,
        leader_id=peers.leader_id,
        numbers=duties.held,
        version=version,
        announced=peers.announced,
        reached=peers.reached,
        ask_leader=peers.ask_leader,
        sizes=lambda: storage.backend.sizes(),  # noqa: PLW0108 - snapshots replace it
        applied=lambda: store.applied_index,
        now=loop.time,
        certificates=lambda: expiries(config, data_dir.path),
        backup=lambda: last_backup(data_dir.path),
    )
    peers.answer(STATUS_METHOD, status.handle)
    same = keep_same(
        config, store, machine, delivery, peers, log=log, leadership=leadership, own=own
    )
    trust.start(
        peers.transport,
        proposer,
        delivery.reader,
        logger,
        {"status": status.admin, "roles": duties.numbers.admin, **same.operator},
        numbers=duties.wanted,
    )
    primacy = LeasePrimacy(lessor, delivery.reader, leadership)
    lessor.restore(leases)
    lease_calls = LeaseCalls(lessor, delivery.reader, leadership, peers.ask_leader, timeout_seconds)
    peers.serve(machine, lease_calls)
    announce(leadership, logger)
    return Parts(
        config=config,
        logger=logger,
        metrics=metrics,
        storage=storage,
        readers=readers,
        log=log,
        machine=machine,
        delivery=delivery,
        headers=headers,
        compactor=Compactor(lambda: store.revision, own.compact, loop.time),
        same=same,
        health=HealthService(),
        leadership=leadership,
        lease_calls=lease_calls,
        peers=peers,
        trust=trust,
        primacy=primacy,
        duties=duties,
        raiser=VersionRaiser(version, leadership, book, proposer, peers.announced),
        auth=Authenticator(
            machine.auth,
            config.auth,
            delivery.reader,
            logger,
            by_certificate=config.client_tls.client_cert_auth,
        ),
    )


def _report(storage: Storage, reports: Reports) -> None:
    checkpointer = storage.backend.checkpointer
    checkpointer.on_checkpoint = reports.checkpointed
    checkpointer.on_wal_pinned = reports.wal_pinned
    checkpointer.on_wal_released = reports.wal_released
