"""Alarms: raised and cleared by call, raised by the quota, and what they refuse."""

import time

import pytest

from kvshim.pb.etcd import rpc_pb2 as pb
from tests.api import ops
from tests.api.errors import CORRUPT, NO_SPACE, refused
from tests.support.grpc_client import prefix_end

GET, ACTIVATE, DEACTIVATE = (
    pb.AlarmRequest.GET,
    pb.AlarmRequest.ACTIVATE,
    pb.AlarmRequest.DEACTIVATE,
)
NONE, NOSPACE, CORRUPTED = pb.NONE, pb.NOSPACE, pb.CORRUPT

QUOTA_BYTES = 40 * 2**20
MEGABYTE = b"m" * 1_000_000


def told(response):
    """The alarms of an answer as (member, kind)."""
    return [(alarm.memberID, alarm.alarm) for alarm in response.alarms]


@pytest.fixture(scope="module")
def etcd(launch):
    return launch()


@pytest.fixture
def member(etcd):
    """The member's id; whatever alarm a test left is cleared."""
    member_id = etcd.status().header.member_id
    yield member_id
    for alarm in etcd.alarm(GET).alarms:
        etcd.alarm(DEACTIVATE, member_id=alarm.memberID, alarm=alarm.alarm)


def test_a_new_store_has_no_alarm(etcd, member):
    response = etcd.alarm(GET)
    assert told(response) == []
    assert response.header.member_id == member
    assert response.header.revision == etcd.revision()


def test_an_alarm_is_raised_once_listed_and_cleared(etcd, member):
    assert told(etcd.alarm(ACTIVATE, member_id=member, alarm=NOSPACE)) == [(member, NOSPACE)]
    assert told(etcd.alarm(ACTIVATE, member_id=member, alarm=NOSPACE)) == [(member, NOSPACE)]
    assert told(etcd.alarm(GET)) == [(member, NOSPACE)]
    assert told(etcd.alarm(GET, alarm=NOSPACE)) == [(member, NOSPACE)]
    assert told(etcd.alarm(GET, alarm=CORRUPTED)) == []
    assert told(etcd.alarm(DEACTIVATE, member_id=member, alarm=NOSPACE)) == [(member, NOSPACE)]
    assert told(etcd.alarm(DEACTIVATE, member_id=member, alarm=NOSPACE)) == []
    assert told(etcd.alarm(GET)) == []


def test_raising_no_kind_of_alarm_is_nothing(etcd, member):
    assert told(etcd.alarm(ACTIVATE, member_id=member, alarm=NONE)) == []
    assert told(etcd.alarm(GET)) == []


def test_an_alarm_makes_no_revision(etcd, member):
    before = etcd.revision()
    etcd.alarm(ACTIVATE, member_id=member, alarm=NOSPACE)
    assert etcd.revision() == before


def test_the_status_tells_the_alarm(etcd, member):
    etcd.alarm(ACTIVATE, member_id=member, alarm=NOSPACE)
    (error,) = etcd.status().errors
    # The number of blanks between the fields is not etcd's promise.
    assert error.split() == [f"memberID:{member}", "alarm:NOSPACE"]


def test_without_space_what_takes_space_is_refused(etcd, member, prefix):
    lease = etcd.grant(1000).ID
    etcd.put(prefix, b"v")
    before = etcd.revision()
    etcd.alarm(ACTIVATE, member_id=member, alarm=NOSPACE)
    with refused(NO_SPACE):
        etcd.put(prefix, b"w")
    with refused(NO_SPACE):
        etcd.put(prefix, lease=lease)
    with refused(NO_SPACE):
        etcd.txn([ops.put(prefix, b"w")])
    with refused(NO_SPACE):
        etcd.txn([ops.delete(prefix)], failure=[ops.put(prefix, b"w")])
    with refused(NO_SPACE):
        etcd.txn([ops.txn(ops.put(prefix, b"w"))])
    with refused(NO_SPACE):
        etcd.grant(1000)
    assert etcd.revision() == before


def test_without_space_reading_and_freeing_go_on(etcd, member, prefix):
    lease = etcd.grant(1000).ID
    for name in (b"a", b"b", b"c"):
        etcd.put(prefix + name, lease=lease)
    etcd.alarm(ACTIVATE, member_id=member, alarm=NOSPACE)
    assert etcd.list_prefix(prefix).count == 3
    assert etcd.delete(prefix + b"a").deleted == 1
    assert etcd.txn([ops.delete(prefix + b"b"), ops.get(prefix + b"c")]).succeeded
    assert etcd.keep_alive(lease)[0].TTL == 1000
    etcd.revoke(lease)
    assert etcd.list_prefix(prefix).count == 0
    etcd.compact(etcd.revision())
    etcd.alarm(DEACTIVATE, member_id=member, alarm=NOSPACE)
    etcd.put(prefix)


def test_the_alarm_of_any_member_counts(etcd, member, prefix):
    etcd.alarm(ACTIVATE, member_id=4711, alarm=NOSPACE)
    assert told(etcd.alarm(GET)) == [(4711, NOSPACE)]
    with refused(NO_SPACE):
        etcd.put(prefix)
    etcd.alarm(DEACTIVATE, member_id=member, alarm=NOSPACE)
    with refused(NO_SPACE):
        etcd.put(prefix)


def test_a_corrupt_member_takes_no_change(etcd, member, prefix):
    lease = etcd.grant(1000).ID
    etcd.put(prefix, b"v")
    etcd.alarm(ACTIVATE, member_id=member, alarm=CORRUPTED)
    for change in (
        lambda: etcd.put(prefix),
        lambda: etcd.delete(prefix),
        lambda: etcd.txn([ops.put(prefix)]),
        lambda: etcd.compact(etcd.revision()),
        lambda: etcd.grant(1000),
        lambda: etcd.revoke(lease),
    ):
        with refused(CORRUPT):
            change()
    assert etcd.range(prefix).kvs[0].value == b"v"


# --- the quota


@pytest.fixture(scope="module")
def full(launch):
    """A server filled up to its quota: the put that does not fit was refused."""
    etcd = launch(f"--quota-backend-bytes={QUOTA_BYTES}")
    with refused(NO_SPACE):
        for n in range(2 * QUOTA_BYTES // len(MEGABYTE)):
            etcd.put(b"full/%03d" % n, MEGABYTE)
    return etcd


def test_the_quota_raises_the_alarm_of_its_member(full):
    member = full.status().header.member_id
    assert told(full.alarm(GET)) == [(member, NOSPACE)]
    with refused(NO_SPACE):
        full.put(b"small")
    with refused(NO_SPACE):
        full.grant(1000)


def test_the_quota_is_not_reached_much_too_early(full):
    stored = full.range(b"full/", prefix_end(b"full/"), count_only=True).count
    assert stored * len(MEGABYTE) > QUOTA_BYTES // 3


def test_space_freed_and_the_alarm_cleared_lets_writes_in_again(full):
    member = full.status().header.member_id
    full.delete(b"full/", prefix_end(b"full/"))
    full.compact(full.revision(), physical=True)
    full.defragment()
    full.alarm(DEACTIVATE, member_id=member, alarm=NOSPACE)
    full.put(b"small")
    assert told(full.alarm(GET)) == []


@pytest.mark.kvshim_only
def test_the_alarm_clears_itself_when_space_is_back(launch):
    etcd = launch(f"--quota-backend-bytes={QUOTA_BYTES}")
    with refused(NO_SPACE):
        for n in range(2 * QUOTA_BYTES // len(MEGABYTE)):
            etcd.put(b"full/%03d" % n, MEGABYTE)
    etcd.delete(b"full/", prefix_end(b"full/"))
    etcd.compact(etcd.revision(), physical=True)
    deadline = time.monotonic() + 30
    while etcd.alarm(GET).alarms:
        assert time.monotonic() < deadline, "the alarm stays although nothing is stored"
        time.sleep(0.1)
    etcd.put(b"small")
