"""Cluster.MemberList and Maintenance: Status, Defragment, Hash, and what only says hello."""

import re
import time

import grpc
import pytest

from kvshim.pb.etcd import rpc_pb2 as pb

GIBIBYTE = 2**30


# --- members


@pytest.mark.parametrize("linearizable", [True, False])
def test_the_only_member_is_listed_with_its_urls(etcd, server, linearizable):
    response = etcd.members(linearizable=linearizable)
    (member,) = response.members
    assert member.ID == response.header.member_id != 0
    assert member.name == server.name
    assert list(member.peerURLs) == [server.peer_url]
    assert list(member.clientURLs) == [server.client_url]
    assert not member.isLearner


def test_the_header_of_a_member_list_has_no_revision(etcd, prefix):
    etcd.put(prefix)
    header = etcd.members().header
    assert header.revision == 0
    assert header.cluster_id == etcd.put(prefix).header.cluster_id
    assert header.raft_term >= 1


# --- status


def test_the_status_tells_a_version_clients_can_work_with(etcd):
    found = re.fullmatch(r"(\d+)\.(\d+)\.(\d+)", etcd.status().version)
    assert found
    assert (3, 5, 13) <= tuple(int(part) for part in found.groups()) < (3, 8)


def test_the_status_tells_the_storage_version(etcd):
    status = etcd.status()
    assert status.storageVersion == status.version.rpartition(".")[0] + ".0"


def test_the_status_tells_leader_term_and_indexes(etcd, prefix):
    before = etcd.status()
    assert before.leader == before.header.member_id
    assert before.raftTerm == before.header.raft_term >= 1
    etcd.put(prefix)
    after = etcd.status()
    assert after.raftIndex > before.raftIndex
    assert after.header.revision == before.header.revision + 1
    # A client may have its answer a moment before the applied index moves.
    deadline = time.monotonic() + 5
    while etcd.status().raftAppliedIndex < after.raftIndex:
        assert time.monotonic() < deadline, "the applied index does not follow"


def test_the_status_tells_sizes_and_quota(etcd):
    status = etcd.status()
    assert 0 < status.dbSizeInUse <= status.dbSize
    assert status.dbSizeQuota == 2 * GIBIBYTE


def test_the_status_of_a_healthy_member_has_no_errors(fresh):
    status = fresh.status()
    assert list(status.errors) == []
    assert not status.isLearner
    assert status.HasField("downgradeInfo")
    assert not status.downgradeInfo.enabled


def test_the_quota_of_the_flag_is_told(launch):
    assert launch(f"--quota-backend-bytes={GIBIBYTE}").status().dbSizeQuota == GIBIBYTE


# --- defragment and hash


def test_defragment_answers_without_a_header_and_keeps_everything(etcd, prefix):
    etcd.put(prefix, b"kept")
    assert not etcd.defragment().HasField("header")
    assert etcd.range(prefix).kvs[0].value == b"kept"


def test_the_hash_stays_the_same_until_something_changes(fresh):
    fresh.put(b"k", b"v")
    first = fresh.hash()
    assert first.header.revision == 2
    assert fresh.hash().hash == first.hash
    fresh.put(b"k", b"w")
    assert fresh.hash().hash != first.hash


# --- gRPC health


SERVING, SERVICE_UNKNOWN = b"\x08\x01", b"\x08\x03"
CHECK = "grpc.health.v1.Health/Check"


def named(service):
    """A HealthCheckRequest for one service."""
    return b"\x0a" + bytes([len(service)]) + service


def test_the_server_is_serving(etcd):
    assert etcd.call_raw(CHECK) == SERVING


def test_a_service_of_no_name_is_not_found(etcd):
    with pytest.raises(grpc.RpcError) as caught:
        etcd.call_raw(CHECK, named(b"no.such.Service"))
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND
    assert caught.value.details() == "unknown service"


@pytest.mark.parametrize(
    ("request_bytes", "status"), [(b"", SERVING), (named(b"no.such.Service"), SERVICE_UNKNOWN)]
)
def test_health_can_be_watched(etcd, request_bytes, status):
    watch = etcd.channel.unary_stream("/grpc.health.v1.Health/Watch")(request_bytes, timeout=10)
    assert next(watch) == status
    watch.cancel()


# --- what is not there


@pytest.mark.parametrize("method", ["etcdserverpb.KV/Upsert", "etcdserverpb.Cache/Get"])
def test_an_unknown_method_or_service_is_unimplemented(etcd, method):
    with pytest.raises(grpc.RpcError) as caught:
        etcd.call_raw(method)
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.kvshim_only
@pytest.mark.parametrize("version", ["v1", "v1alpha"])
def test_reflection_lists_the_services(etcd, version):
    method = f"/grpc.reflection.{version}.ServerReflection/ServerReflectionInfo"
    list_services = b"\x3a\x01*"
    (answer,) = etcd.channel.stream_stream(method)(iter([list_services]), timeout=10)
    services = ("KV", "Watch", "Lease", "Cluster", "Maintenance")
    names = [*(f"etcdserverpb.{service}" for service in services), "grpc.health.v1.Health"]
    for name in (*names, "v3lockpb.Lock", "v3electionpb.Election"):
        assert name.encode() in answer


def test_status_survives_an_unknown_field(etcd):
    # A newer client may send fields this server has never heard of.
    answer = etcd.call_raw("etcdserverpb.Maintenance/Status", b"\xf8\x07\x01")
    assert pb.StatusResponse.FromString(answer).version
