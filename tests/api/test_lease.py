"""Lease: granting, keeping, revoking, and keys that live as long as their lease."""

import random
import time

import pytest

from tests.api import ops
from tests.api.errors import LEASE_EXISTS, LEASE_NOT_FOUND, LEASE_TTL_TOO_LARGE, refused
from tests.support.grpc_client import prefix_end

LONG = 1000
TTL_MAX = 9_000_000_000
UNKNOWN = 4711


@pytest.fixture
def lease_id():
    return random.randrange(1, 2**62)


def wait_until(holds, seconds_max=15.0):
    deadline = time.monotonic() + seconds_max
    while not holds():
        assert time.monotonic() < deadline, f"not so after {seconds_max} s"
        time.sleep(0.02)


# --- grant


def test_a_grant_tells_id_and_ttl_and_makes_no_revision(etcd):
    before = etcd.revision()
    response = etcd.grant(60)
    assert (response.TTL, response.error) == (60, "")
    assert response.ID > 0
    assert response.header.revision == before == etcd.revision()


def test_a_client_may_choose_the_id(etcd, lease_id):
    assert lease_id == etcd.grant(60, lease_id).ID
    assert etcd.time_to_live(lease_id).grantedTTL == 60


def test_a_chosen_id_may_be_negative(etcd, lease_id):
    assert -lease_id == etcd.grant(60, -lease_id).ID
    assert etcd.time_to_live(-lease_id).grantedTTL == 60


def test_chosen_ids_differ(etcd):
    assert len({etcd.grant(60).ID for _ in range(20)}) == 20


@pytest.mark.parametrize("ttl", [1, 0, -1])
def test_a_ttl_below_two_seconds_becomes_two(etcd, ttl):
    assert etcd.grant(ttl).TTL == 2


def test_the_longest_ttl_is_granted_and_one_more_is_refused(etcd):
    assert etcd.grant(TTL_MAX).TTL == TTL_MAX
    with refused(LEASE_TTL_TOO_LARGE):
        etcd.grant(TTL_MAX + 1)


def test_an_existing_id_is_refused(etcd, lease_id):
    etcd.grant(60, lease_id)
    with refused(LEASE_EXISTS):
        etcd.grant(600, lease_id)
    assert etcd.time_to_live(lease_id).grantedTTL == 60


def test_too_long_a_ttl_is_told_before_the_existing_id(etcd, lease_id):
    etcd.grant(60, lease_id)
    with refused(LEASE_TTL_TOO_LARGE):
        etcd.grant(TTL_MAX + 1, lease_id)


def test_a_revoked_id_can_be_granted_again(etcd, lease_id):
    etcd.grant(60, lease_id)
    etcd.revoke(lease_id)
    assert etcd.grant(70, lease_id).TTL == 70


# --- time to live


def test_the_time_to_live_counts_down_from_the_grant(etcd):
    lease = etcd.grant(LONG).ID
    response = etcd.time_to_live(lease)
    assert (response.ID, response.grantedTTL) == (lease, LONG)
    assert LONG - 5 <= response.TTL < LONG
    assert response.header.revision == etcd.revision()


def test_keys_are_told_only_when_asked_for(etcd, prefix):
    lease = etcd.grant(LONG).ID
    for name in (b"b", b"a", b"c"):
        etcd.put(prefix + name, lease=lease)
    assert list(etcd.time_to_live(lease).keys) == []
    names = [prefix + b"a", prefix + b"b", prefix + b"c"]
    assert sorted(etcd.time_to_live(lease, keys=True).keys) == names


def test_an_unknown_lease_has_a_ttl_of_minus_one(etcd):
    response = etcd.time_to_live(UNKNOWN, keys=True)
    assert (response.ID, response.TTL, response.grantedTTL) == (UNKNOWN, -1, 0)
    assert list(response.keys) == []
    assert response.header.revision == etcd.revision()


# --- keep alive


def test_a_keep_alive_answers_the_granted_ttl_and_makes_no_revision(etcd):
    lease = etcd.grant(60).ID
    before = etcd.revision()
    (response,) = etcd.keep_alive(lease)
    assert (lease, 60) == (response.ID, response.TTL)
    assert response.header.revision == before == etcd.revision()


def test_a_keep_alive_starts_the_time_again(etcd):
    lease = etcd.grant(5).ID
    wait_until(lambda: etcd.time_to_live(lease).TTL <= 3)
    etcd.keep_alive(lease)
    assert etcd.time_to_live(lease).TTL == 4


def test_a_keep_alive_of_an_unknown_lease_answers_zero(etcd):
    (response,) = etcd.keep_alive(UNKNOWN)
    assert (response.ID, response.TTL) == (UNKNOWN, 0)
    assert response.header.revision > 0


def test_one_stream_keeps_many_leases_answered_in_order(etcd):
    leases = [etcd.grant(60 + n).ID for n in range(5)] + [UNKNOWN]
    responses = etcd.keep_alive(*leases)
    assert [response.ID for response in responses] == leases
    assert [response.TTL for response in responses] == [60, 61, 62, 63, 64, 0]


# --- list


def test_leases_are_listed_in_order_of_expiry(etcd):
    mine = {ttl: etcd.grant(ttl).ID for ttl in (5000, 3000, 4000)}
    response = etcd.leases()
    listed = [item.ID for item in response.leases if item.ID in mine.values()]
    assert listed == [mine[3000], mine[4000], mine[5000]]
    assert response.header.revision == etcd.revision()


def test_a_revoked_lease_is_listed_no_more(etcd):
    lease = etcd.grant(LONG).ID
    etcd.revoke(lease)
    assert lease not in {item.ID for item in etcd.leases().leases}


def test_a_new_store_has_no_lease(fresh):
    assert list(fresh.leases().leases) == []


# --- attaching and detaching


def test_a_key_tells_its_lease(etcd, prefix):
    lease = etcd.grant(LONG).ID
    etcd.put(prefix, lease=lease)
    assert etcd.range(prefix).kvs[0].lease == lease


@pytest.mark.parametrize(
    "change",
    [
        lambda etcd, key: etcd.put(key),
        lambda etcd, key: etcd.put(key, lease=0),
        lambda etcd, key: etcd.delete(key),
        lambda etcd, key: etcd.txn([ops.put(key)]),
        lambda etcd, key: etcd.put(key, lease=etcd.grant(LONG).ID),
    ],
    ids=["put again", "put with lease 0", "delete", "put in a txn", "put with another lease"],
)
def test_a_key_is_detached_by(etcd, prefix, change):
    lease = etcd.grant(LONG).ID
    etcd.put(prefix, lease=lease)
    change(etcd, prefix)
    assert list(etcd.time_to_live(lease, keys=True).keys) == []
    count = etcd.range(prefix).count
    etcd.revoke(lease)
    assert etcd.range(prefix).count == count


def test_a_key_moves_to_the_lease_of_its_last_put(etcd, prefix):
    first, second = etcd.grant(LONG).ID, etcd.grant(LONG).ID
    etcd.put(prefix, lease=first)
    etcd.put(prefix, lease=second)
    etcd.revoke(first)
    assert etcd.range(prefix).count == 1
    assert list(etcd.time_to_live(second, keys=True).keys) == [prefix]
    etcd.revoke(second)
    assert etcd.range(prefix).count == 0


def test_a_key_deleted_and_put_back_is_free_of_its_old_lease(etcd, prefix):
    lease = etcd.grant(LONG).ID
    etcd.put(prefix, lease=lease)
    etcd.delete(prefix)
    etcd.put(prefix)
    etcd.revoke(lease)
    assert etcd.range(prefix).count == 1


def test_a_past_revision_tells_the_lease_of_then(etcd, prefix):
    lease = etcd.grant(LONG).ID
    revision = etcd.put(prefix, lease=lease).header.revision
    etcd.put(prefix)
    assert etcd.range(prefix, revision=revision).kvs[0].lease == lease


# --- revoke


def test_a_revoke_deletes_all_keys_in_one_revision_in_key_order(etcd, stream, prefix):
    lease = etcd.grant(LONG).ID
    for name in (b"c", b"a", b"b"):
        etcd.put(prefix + name, name, lease=lease)
    etcd.put(prefix + b"free")
    before = etcd.revision()
    stream.create(prefix, prefix_end(prefix), prev_kv=True)
    assert etcd.revoke(lease).header.revision == before + 1
    response = stream.next()
    told = [(e.type, e.kv.key, e.kv.mod_revision, e.prev_kv.value) for e in response.events]
    assert told == [(1, prefix + name, before + 1, name) for name in (b"a", b"b", b"c")]
    assert etcd.list_prefix(prefix).count == 1


def test_a_revoke_without_keys_makes_no_revision(etcd):
    before = etcd.revision()
    lease = etcd.grant(LONG).ID
    assert etcd.revoke(lease).header.revision == before == etcd.revision()


def test_a_revoke_of_an_unknown_lease_is_refused(etcd):
    with refused(LEASE_NOT_FOUND):
        etcd.revoke(UNKNOWN)
    with refused(LEASE_NOT_FOUND):
        etcd.revoke(0)


def test_a_lease_is_revoked_once(etcd):
    lease = etcd.grant(LONG).ID
    etcd.revoke(lease)
    with refused(LEASE_NOT_FOUND):
        etcd.revoke(lease)
    assert etcd.time_to_live(lease).TTL == -1
    assert etcd.keep_alive(lease)[0].TTL == 0


def test_a_revoked_lease_takes_no_key(etcd, prefix):
    lease = etcd.grant(LONG).ID
    etcd.revoke(lease)
    with refused(LEASE_NOT_FOUND):
        etcd.put(prefix, lease=lease)


# --- expiry


def test_an_expired_lease_deletes_all_keys_in_one_revision_and_tells_it(etcd, stream, prefix):
    stream.create(prefix, prefix_end(prefix), prev_kv=True)
    lease = etcd.grant(2).ID
    granted = time.monotonic()
    for name in (b"b", b"a"):
        etcd.put(prefix + name, name, lease=lease)
    stream.events(2)
    response = stream.next()
    assert time.monotonic() - granted > 1.9
    assert [(e.type, e.kv.key) for e in response.events] == [(1, prefix + b"a"), (1, prefix + b"b")]
    assert [e.prev_kv.lease for e in response.events] == [lease, lease]
    assert {e.kv.mod_revision for e in response.events} == {response.header.revision}
    assert etcd.list_prefix(prefix).count == 0
    assert etcd.time_to_live(lease).TTL == -1
    with refused(LEASE_NOT_FOUND):
        etcd.revoke(lease)


def test_each_expired_lease_is_a_revision_of_its_own(etcd, stream, prefix):
    stream.create(prefix, prefix_end(prefix))
    before = etcd.revision()
    for name in (b"a", b"b", b"c"):
        etcd.put(prefix + name, lease=etcd.grant(2).ID)
    events = stream.events(6)[3:]
    assert {event.kv.key for event in events} == {prefix + name for name in (b"a", b"b", b"c")}
    assert [event.kv.mod_revision for event in events] == [before + 4, before + 5, before + 6]


def test_a_lease_that_is_kept_alive_does_not_expire(etcd, prefix):
    lease = etcd.grant(2).ID
    etcd.put(prefix, lease=lease)
    end = time.monotonic() + 3.5
    while time.monotonic() < end:
        assert etcd.keep_alive(lease)[0].TTL == 2
        time.sleep(0.4)
    assert etcd.range(prefix).count == 1
    etcd.revoke(lease)


def test_a_keep_alive_of_an_expired_lease_finds_it_gone(etcd, prefix):
    lease = etcd.grant(2).ID
    granted = time.monotonic()
    revision = etcd.put(prefix, lease=lease).header.revision
    # A moment after the deadline: the lease is dead, whether its revoke was applied or not.
    time.sleep(max(0.0, granted + 2.03 - time.monotonic()))
    (response,) = etcd.keep_alive(lease)
    assert response.TTL == 0
    assert response.header.revision in (revision, revision + 1)
    assert etcd.range(prefix).count == 0
    assert etcd.revision() == revision + 1


def test_an_expired_lease_without_keys_makes_no_revision(etcd):
    before = etcd.revision()
    lease = etcd.grant(2).ID
    wait_until(lambda: etcd.time_to_live(lease).TTL == -1)
    assert etcd.revision() == before
