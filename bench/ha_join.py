"""The join of a node to a large store under an open load: how long, and what the others feel.

Blocking; the open load has a thread of its own.
"""

from __future__ import annotations

import random
import statistics
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc

from bench import usage
from bench.narrow import narrow
from bench.nodes import Nodes
from kvshim.pb.etcd import rpc_pb2 as pb
from tests.cluster.clients import client
from tests.cluster.cluster import Cluster, wait_for
from tests.cluster.member import Member
from tests.support.datastore import Kind
from tests.support.grpc_client import EtcdClient
from tests.support.ports import free_ports

MEMBERS = 3
VALUE_BYTES = 1024
NEW_BYTES = VALUE_BYTES // 3
"""Of a value, like no other's, as UIDs, hashes and times are in an object of Kubernetes; the rest
is alike in all. It bounds what compression can win."""
BATCH = 100
PUTS_PER_SECOND = 500
BASE_SECONDS = 5.0
JOIN_SECONDS_MAX = 300.0
IN_FLIGHT_MAX = 2000
ETCD_SNAPSHOT = ("--snapshot-count=200", "--snapshot-catchup-entries=100")
"""Or etcd would still hold the few large entries of the filling, and send these, not a snapshot."""
UNHEALTHY = "etcdserver: unhealthy cluster"
"""etcd's answer while a connection between members is younger than 5 s."""


@dataclass(frozen=True, slots=True)
class Join:
    """Two members with a large store, and a third that joins them."""

    directory: Path
    objects: int
    bits_per_second: float | None = None
    """How wide the wire towards the third is; None: loopback."""

    def measure(self, kind: Kind) -> dict[str, Any]:
        """Fill, join while 500 puts/s go on; seconds from the command to three voters.

        kvshim's members come by `add-node` and `join`, and vote by themselves; etcd's by
        `MemberAdd` as learners, and are asked until they may vote.
        """
        if kind is Kind.KVSHIM:
            with Nodes(self.directory) as nodes:
                return self._kvshim(nodes)
        with Cluster(2, self.directory, *ETCD_SNAPSHOT, kind=kind) as cluster:
            return self._etcd(cluster)

    def _kvshim(self, nodes: Nodes) -> dict[str, Any]:
        first = nodes.found()
        nodes.wait_joined(nodes.add(first))
        joiner = nodes.prepared()

        def join() -> None:
            nodes.add(first, joiner)
            nodes.wait_voters(MEMBERS, JOIN_SECONDS_MAX)

        return self._measured(nodes.members, first, joiner, join)

    def _etcd(self, cluster: Cluster) -> dict[str, Any]:
        leader = cluster.start()
        joiner = cluster.add_member()

        def join() -> None:
            with client(leader.target) as etcd:
                add = pb.MemberAddRequest(peerURLs=[joiner.peer_url], isLearner=True)
                added = etcd.call("etcdserverpb.Cluster/MemberAdd", add, pb.MemberAddResponse)
                joiner.start(cluster.initial_cluster(), "existing")
                wait_for(lambda: promoted(etcd, added.member.ID), JOIN_SECONDS_MAX, cluster.tails)

        return self._measured(cluster.members, leader, joiner, join)

    def _measured(
        self, members: list[Member], leader: Member, joiner: Member, join: Callable[[], None]
    ) -> dict[str, Any]:
        with ExitStack() as stack:
            if self.bits_per_second:
                (joiner.announced_port,) = free_ports(1)
                wire = narrow(joiner.announced_port, joiner.peer_port, self.bits_per_second)
                stack.enter_context(wire)
            fill(leader.target, self.objects)
            before = leader.status()
            with OpenLoad(leader.target) as base:
                time.sleep(BASE_SECONDS)
            with OpenLoad(leader.target) as during:
                began = time.monotonic()
                join()
                seconds = time.monotonic() - began
            after = leader.status()
            assert before is not None
            assert after is not None
            peaks = _peaks(members)
            for member in members:
                list_all(member.target, self.objects)
            listed = _peaks(members)
        return {
            "objects": self.objects,
            "bits_per_second": self.bits_per_second,
            "seconds": seconds,
            "terms": int(after.raftTerm - before.raftTerm),
            "rss_peak_each_mib": peaks,
            "rss_peak_mib": max(peaks.values()),
            "rss_peak_listed_mib": max(listed.values()),
            "p99_before_ms": base.p99_ms(),
            "p99_during_ms": during.p99_ms(),
            "failures": base.failures + during.failures,
        }


def _peaks(members: list[Member]) -> dict[str, float]:
    """RSS, in MiB, by name."""
    return {one.name: usage.read(one.pid, one.data_dir).rss_peak_mib for one in members}


def fill(target: str, objects: int) -> None:
    """Objects of 1 KiB, a hundred to a transaction."""
    with client(target) as etcd:
        for first in range(0, objects, BATCH):
            keys = range(first, min(first + BATCH, objects))
            etcd.txn([put_of(b"/registry/pods/%08d" % number) for number in keys])


def list_all(target: str, objects: int) -> None:
    """One list of everything, as an API server without pages asks for."""
    request = pb.RangeRequest(key=b"/registry/", range_end=b"/registry0")
    with client(target) as etcd:
        answer = etcd.call_raw("etcdserverpb.KV/Range", request.SerializeToString(), timeout=60)
    assert len(answer) > objects * VALUE_BYTES


def put_of(key: bytes) -> pb.RequestOp:
    value = random.randbytes(NEW_BYTES) + b"v" * (VALUE_BYTES - NEW_BYTES)
    return pb.RequestOp(request_put=pb.PutRequest(key=key, value=value))


def promoted(etcd: EtcdClient, member_id: int) -> bool | None:
    """Ask for the promotion; None while the learner is not ready."""
    request = pb.MemberPromoteRequest(ID=member_id)
    try:
        etcd.call("etcdserverpb.Cluster/MemberPromote", request, pb.MemberPromoteResponse)
    except grpc.RpcError as error:
        early = error.code() is grpc.StatusCode.FAILED_PRECONDITION
        if not early and error.details() != UNHEALTHY:
            raise
        return None
    return True


@dataclass(slots=True)
class OpenLoad:
    """Puts at a fixed rate whatever the answers do, in a `with` block; latency counts from the
    moment a put was due."""

    target: str
    seconds: list[float] = field(default_factory=list)
    failures: int = 0
    _stop: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> OpenLoad:
        self._thread = threading.Thread(target=self._run, name="open-load", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        assert self._thread is not None
        self._thread.join()

    def p99_ms(self) -> float:
        return 1000 * statistics.quantiles(self.seconds, n=100)[-1]

    def _run(self) -> None:
        with client(self.target) as etcd:
            began, number, flying = time.monotonic(), 0, threading.Semaphore(IN_FLIGHT_MAX)
            while not self._stop.is_set():
                due = began + number / PUTS_PER_SECOND
                time.sleep(max(0.0, due - time.monotonic()))
                flying.acquire()
                call = etcd.put_later(b"/open/%04d" % (number % 1000), b"v" * VALUE_BYTES)
                call.add_done_callback(lambda done, due=due: self._done(done, due, flying))
                number += 1
            for _ in range(IN_FLIGHT_MAX):
                flying.acquire()

    def _done(self, call: grpc.Future, due: float, flying: threading.Semaphore) -> None:
        if call.code() is grpc.StatusCode.OK:
            self.seconds.append(time.monotonic() - due)
        else:
            self.failures += 1
        flying.release()
