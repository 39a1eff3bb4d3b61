"""Election: the oldest key under a name leads, its value can be watched."""

import time

import pytest

from kvshim.pb.etcd import election_pb2 as pb
from tests.api.errors import ApiError, Code, refused
from tests.support.grpc_client import CALL_SECONDS_MAX

SERVICE = "v3electionpb.Election/"
NO_LEASE = ApiError(Code.UNKNOWN, "etcdserver: requested lease not found")
NO_KEY = ApiError(Code.UNKNOWN, "etcdserver: key is not provided")
NOT_LEADER = ApiError(Code.UNKNOWN, "election: not leader")
NO_LEADER = ApiError(Code.UNKNOWN, "election: no leader")
NO_FIELD = ApiError(Code.UNKNOWN, '"leader" field must be provided')


def ask(client, method, **fields):
    kinds = {"Leader": pb.LeaderRequest}
    kind = kinds.get(method) or getattr(pb, f"{method}Request")
    return client.call(SERVICE + method, kind(**fields), getattr(pb, f"{method}Response"))


def campaign_later(client, **fields):
    return client.call_later(
        SERVICE + "Campaign", pb.CampaignRequest(**fields), pb.CampaignResponse
    )


def observe(client, name):
    method = client.channel.unary_stream(
        "/" + SERVICE + "Observe",
        request_serializer=pb.LeaderRequest.SerializeToString,
        response_deserializer=pb.LeaderResponse.FromString,
    )
    return method(pb.LeaderRequest(name=name), timeout=CALL_SECONDS_MAX)


def wait_for_queue(client, name, count):
    deadline = time.monotonic() + CALL_SECONDS_MAX
    while client.list_prefix(name + b"/").count != count:
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def leases(etcd):
    made = [etcd.grant(1000).ID for _ in range(2)]
    yield made
    for lease in etcd.leases().leases:
        if lease.ID in made:
            etcd.revoke(lease.ID)


def test_the_first_candidate_is_elected(etcd, prefix, leases):
    elected = ask(etcd, "Campaign", name=prefix, lease=leases[0], value=b"one")
    [kv] = etcd.list_prefix(prefix + b"/").kvs
    key = prefix + b"/%x" % leases[0]
    assert elected.leader == pb.LeaderKey(
        name=prefix, key=key, rev=kv.create_revision, lease=leases[0]
    )
    assert (kv.key, kv.value, kv.lease) == (key, b"one", leases[0])
    assert elected.header.revision == kv.create_revision
    assert ask(etcd, "Leader", name=prefix).kv == kv


def test_without_a_lease_the_server_grants_one(etcd, prefix):
    elected = ask(etcd, "Campaign", name=prefix, value=b"one")
    assert etcd.time_to_live(elected.leader.lease).grantedTTL == 60
    etcd.revoke(elected.leader.lease)


def test_the_next_one_leads_when_the_leader_resigns(etcd, prefix, leases):
    first = ask(etcd, "Campaign", name=prefix, lease=leases[0], value=b"one")
    second = campaign_later(etcd, name=prefix, lease=leases[1], value=b"two")
    wait_for_queue(etcd, prefix, 2)
    assert not second.done()
    assert ask(etcd, "Leader", name=prefix).kv.value == b"one"
    resigned = ask(etcd, "Resign", leader=first.leader)
    elected = second.result()
    assert elected.header.revision < resigned.header.revision  # that of its own key
    assert elected.leader.rev == elected.header.revision
    assert ask(etcd, "Leader", name=prefix).kv.value == b"two"


def test_a_candidate_that_gives_up_leaves_the_queue(etcd, prefix, leases):
    ask(etcd, "Campaign", name=prefix, lease=leases[0], value=b"one")
    second = campaign_later(etcd, name=prefix, lease=leases[1], value=b"two")
    wait_for_queue(etcd, prefix, 2)
    second.cancel()
    wait_for_queue(etcd, prefix, 1)


def test_campaigning_again_keeps_the_key_and_proclaims_the_value(etcd, prefix, leases):
    first = ask(etcd, "Campaign", name=prefix, lease=leases[0], value=b"one")
    same = ask(etcd, "Campaign", name=prefix, lease=leases[0], value=b"one")
    assert same == first
    again = ask(etcd, "Campaign", name=prefix, lease=leases[0], value=b"two")
    assert again.leader == first.leader
    assert again.header.revision == first.header.revision
    kv = ask(etcd, "Leader", name=prefix).kv
    assert (kv.value, kv.version) == (b"two", 2)


def test_a_leader_proclaims_other_values(etcd, prefix, leases):
    leader = ask(etcd, "Campaign", name=prefix, lease=leases[0], value=b"one").leader
    told = ask(etcd, "Proclaim", leader=leader, value=b"two")
    kv = ask(etcd, "Leader", name=prefix).kv
    assert (kv.value, kv.mod_revision, kv.lease) == (b"two", told.header.revision, leases[0])


def test_who_does_not_lead_proclaims_nothing_and_resigns_in_vain(etcd, prefix, leases):
    leader = ask(etcd, "Campaign", name=prefix, lease=leases[0], value=b"one").leader
    other = pb.LeaderKey()
    other.CopyFrom(leader)
    other.rev -= 1
    with refused(NOT_LEADER):
        ask(etcd, "Proclaim", leader=other, value=b"two")
    before = etcd.revision()
    assert ask(etcd, "Resign", leader=other).header.revision == before
    assert ask(etcd, "Leader", name=prefix).kv.value == b"one"


def test_what_is_refused(etcd, prefix):
    with refused(NO_LEADER):
        ask(etcd, "Leader", name=prefix)
    for method in ("Proclaim", "Resign"):
        with refused(NO_FIELD):
            ask(etcd, method)
    with refused(NO_LEASE):
        ask(etcd, "Campaign", name=prefix, lease=4711)
    with refused(NO_KEY):
        ask(etcd, "Proclaim", leader=pb.LeaderKey(lease=4711))
    with refused(NO_LEASE):
        ask(etcd, "Proclaim", leader=pb.LeaderKey(key=prefix, lease=4711))


def test_an_observer_is_told_of_every_leader_and_value(etcd, prefix, leases):
    watched = observe(etcd, prefix)
    first = ask(etcd, "Campaign", name=prefix, lease=leases[0], value=b"one")
    told = next(watched)
    assert (told.kv.value, told.header.revision) == (b"one", first.header.revision)
    proclaimed = ask(etcd, "Proclaim", leader=first.leader, value=b"two")
    told = next(watched)
    assert (told.kv.value, told.header.revision) == (b"two", proclaimed.header.revision)
    second = campaign_later(etcd, name=prefix, lease=leases[1], value=b"three")
    wait_for_queue(etcd, prefix, 2)
    ask(etcd, "Resign", leader=first.leader)
    assert next(watched).kv.value == b"three"
    second.result()
    etcd.revoke(leases[1])
    ask(etcd, "Campaign", name=prefix, lease=leases[0], value=b"four")
    assert next(watched).kv.value == b"four"
    watched.cancel()


def test_an_observer_that_comes_late_is_told_of_who_leads(etcd, prefix, leases):
    ask(etcd, "Campaign", name=prefix, lease=leases[0], value=b"one")
    watched = observe(etcd, prefix)
    told = next(watched)
    assert told.kv.value == b"one"
    assert told.header.revision == etcd.revision()
    watched.cancel()
