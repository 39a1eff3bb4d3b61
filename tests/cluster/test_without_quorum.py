"""What clients are told while no majority is there: streams that end, and reads that may be old."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
import pytest

from kvshim.pb.etcd import rpc_pb2 as pb
from tests.cluster.clients import HAS_LEADER, client
from tests.cluster.cluster import wait_for
from tests.cluster.conftest import FormCluster
from tests.cluster.test_join import command
from tests.support.grpc_client import EtcdClient, WatchStream

ELECTION_SECONDS = 1.0
"""etcd's default, which streams go by although members elect sooner."""
SECONDS_MAX = 40.0
NO_LEADER = "etcdserver: no leader"


class KeepAlives:
    """One stream that renews a lease ten times a second, until it is ended or ends."""

    def __init__(self, etcd: EtcdClient, lease: int, metadata: tuple[tuple[str, str], ...]) -> None:
        self._stop = threading.Event()
        method = etcd.channel.stream_stream(
            "/etcdserverpb.Lease/LeaseKeepAlive",
            request_serializer=pb.LeaseKeepAliveRequest.SerializeToString,
            response_deserializer=pb.LeaseKeepAliveResponse.FromString,
        )
        self._call = method(self._requests(lease), metadata=metadata)
        self.answers: queue.SimpleQueue[int] = queue.SimpleQueue()
        self.error: grpc.RpcError | None = None
        self.ended_at = 0.0
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _requests(self, lease: int) -> Iterator[pb.LeaseKeepAliveRequest]:
        while not self._stop.is_set():
            yield pb.LeaseKeepAliveRequest(ID=lease)
            self._stop.wait(0.1)

    def _read(self) -> None:
        try:
            for answer in self._call:
                self.answers.put(answer.TTL)
        except grpc.RpcError as error:
            self.ended_at, self.error = time.monotonic(), error

    def close(self) -> None:
        self._stop.set()
        self._call.cancel()
        self._reader.join()


@contextmanager
def keeping(
    etcd: EtcdClient, lease: int, metadata: tuple[tuple[str, str], ...] = ()
) -> Iterator[KeepAlives]:
    stream = KeepAlives(etcd, lease, metadata)
    try:
        assert stream.answers.get(timeout=SECONDS_MAX) > 0
        yield stream
    finally:
        stream.close()


def ended(stream: WatchStream) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as error:
        stream.next(SECONDS_MAX)
    return error.value


def test_streams_with_hasleader_end_after_three_elections_and_not_before(form: FormCluster) -> None:
    cluster = form(3)
    leader = cluster.wait_leader()
    followers = cluster.followers()
    with client(leader.target) as etcd:
        lease = etcd.grant(600).ID
        with (
            keeping(etcd, lease, HAS_LEADER) as strict,
            keeping(etcd, lease) as patient,
            etcd.watch_stream(HAS_LEADER) as watch,
            etcd.watch_stream() as patient_watch,
        ):
            watch.create(b"key")
            patient_watch.create(b"key")
            lost = time.monotonic()
            for member in followers:
                member.kill()
            error = ended(watch)
            took = time.monotonic() - lost
            wait_for(lambda: strict.error, SECONDS_MAX, leader.tail)
            assert strict.error is not None
            for reason in (error, strict.error):
                assert reason.code() is grpc.StatusCode.UNAVAILABLE
                assert reason.details() == NO_LEADER
            assert took >= 3 * ELECTION_SECONDS
            assert strict.ended_at - lost >= 3 * ELECTION_SECONDS
            for open_one in (watch_anew, keep_alive_anew, get_anew):
                began = time.monotonic()
                assert open_one(etcd, lease).details() == NO_LEADER
                assert time.monotonic() - began < 2.0
            # The others wait, and go on once somebody leads again.
            assert patient.error is None or time.monotonic() - lost > 7
            for member in followers:
                cluster.restart(member)
            cluster.wait_leader()
            etcd.put(b"key", b"value")
            assert patient_watch.events(1)[0].kv.value == b"value"


def watch_anew(etcd: EtcdClient, _lease: int) -> grpc.RpcError:
    with etcd.watch_stream(HAS_LEADER) as stream:
        return ended(stream)


def keep_alive_anew(etcd: EtcdClient, lease: int) -> grpc.RpcError:
    stream = KeepAlives(etcd, lease, HAS_LEADER)
    try:
        wait_for(lambda: stream.error, SECONDS_MAX, lambda: "the stream does not end")
    finally:
        stream.close()
    assert stream.error is not None
    return stream.error


def get_anew(etcd: EtcdClient, _lease: int) -> grpc.RpcError:
    request = pb.RangeRequest(key=b"key")
    with pytest.raises(grpc.RpcError) as error:
        etcd.call("etcdserverpb.KV/Range", request, pb.RangeResponse, metadata=HAS_LEADER)
    return error.value


def test_a_failover_ends_no_stream(form: FormCluster) -> None:
    cluster = form(3)
    leader = cluster.wait_leader()
    survivor = cluster.followers()[0]
    with client(survivor.target) as etcd:
        lease = etcd.grant(600).ID
        with keeping(etcd, lease, HAS_LEADER) as strict, etcd.watch_stream(HAS_LEADER) as watch:
            watch.create(b"key")
            leader.kill()
            cluster.wait_leader(other_than=leader)
            while not strict.answers.empty():
                strict.answers.get()
            wait_for(lambda: etcd.put(b"key", b"value").header.revision, SECONDS_MAX, survivor.tail)
            assert watch.next(SECONDS_MAX).events[0].kv.value == b"value"
            assert strict.answers.get(timeout=SECONDS_MAX) > 0
            assert strict.error is None


@pytest.mark.parametrize("flags", [(), ("--read-only-without-quorum=stale-reads",)])
def test_gets_and_lists_without_a_majority_if_asked_for(
    form: FormCluster, flags: tuple[str, ...]
) -> None:
    cluster = form(3, *flags)
    leader = cluster.wait_leader()
    followers = cluster.followers()
    with client(leader.target) as etcd:
        for number in range(3):
            etcd.put(b"/list/%d" % number, b"value")
        for member in followers:
            member.kill()
        wait_for(lambda: status_without_leader(etcd), SECONDS_MAX, leader.tail)
        if flags:
            began = time.monotonic()
            assert etcd.range(b"/list/1").kvs[0].value == b"value"
            assert etcd.list_prefix(b"/list/").count == 3
            assert time.monotonic() - began < 2.0
            assert "may be old" in leader.log.read_text()
        else:
            with pytest.raises(grpc.RpcError) as unread:
                etcd.list_prefix(b"/list/")
            assert unread.value.details() == "etcdserver: request timed out"
        with pytest.raises(grpc.RpcError) as refused:
            etcd.put(b"/list/1", b"other")
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert refused.value.details() == "etcdserver: request timed out"
        assert leader.page("/readyz")[0] == 503
        shown = json.loads(command("status", "--data-dir", str(leader.data_dir), "-o", "json"))
        assert (shown["leader_id"], shown["quorum"]["voters_reached"]) == ("", 1)
        assert "1 of 3 voters are reached, 2 are needed" in shown["quorum"]["warnings"]
        assert "without a leader" in command("status", "--data-dir", str(leader.data_dir))
        for member in followers:
            cluster.restart(member)
        cluster.wait_leader()
        etcd.put(b"/list/3", b"value")
        assert etcd.list_prefix(b"/list/").count == 4
        if flags:
            assert "linearizable again" in leader.log.read_text()


def status_without_leader(etcd: EtcdClient) -> bool | None:
    return etcd.status().leader == 0 or None
