"""Whatever clients do, kvshim's rooms answer as the reference does: keys, leases and watches.

hypothesis makes up the sequences, thousands a run, and shortens one that fails; it prints how to
run that again.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from kvshim.pb.etcd import rpc_pb2
from tests.model.reference import Reference
from tests.model.rooms import Rooms

PARTS = 4
SEQUENCES = 500
STEPS = 24

keys = st.sampled_from([b"a", b"a\x00", b"a/1", b"b", b"\xff"])
ends = st.sampled_from([b"", b"", b"\x00", b"a0", b"b", b"\xff\xff"])
leases = st.sampled_from([0, 0, 0, 1, 2, -3])
values = st.sampled_from([b"", b"1", b"2", b"x" * 300])
yes = st.booleans()
rarely = st.sampled_from([False] * 7 + [True])


@st.composite
def puts(draw: Any) -> rpc_pb2.PutRequest:
    put = rpc_pb2.PutRequest(key=draw(keys), prev_kv=draw(yes))
    if draw(rarely):
        put.ignore_value = True
    else:
        put.value = draw(values)
    if draw(rarely):
        put.ignore_lease = True
    else:
        put.lease = draw(leases)
    return put


deletes = st.builds(rpc_pb2.DeleteRangeRequest, key=keys, range_end=ends, prev_kv=yes)
compares = st.builds(
    rpc_pb2.Compare,
    key=keys,
    range_end=ends,
    result=st.sampled_from(rpc_pb2.Compare.CompareResult.values()),
    target=st.just(rpc_pb2.Compare.VERSION),
    version=st.integers(0, 2),
) | st.builds(
    rpc_pb2.Compare,
    key=keys,
    result=st.sampled_from(rpc_pb2.Compare.CompareResult.values()),
    target=st.just(rpc_pb2.Compare.VALUE),
    value=values,
)


@st.composite
def operations(draw: Any) -> list[rpc_pb2.RequestOp]:
    """Puts and deletes of different single keys."""
    made = []
    for key in draw(st.lists(keys, max_size=3, unique=True)):
        if draw(yes):
            put = draw(puts())
            put.key = key
            made.append(rpc_pb2.RequestOp(request_put=put))
        else:
            delete = rpc_pb2.DeleteRangeRequest(key=key, prev_kv=draw(yes))
            made.append(rpc_pb2.RequestOp(request_delete_range=delete))
    return made


txns = st.builds(
    rpc_pb2.TxnRequest,
    compare=st.lists(compares, max_size=2),
    success=operations(),
    failure=operations(),
)
watches = st.builds(
    rpc_pb2.WatchCreateRequest,
    key=keys,
    range_end=ends,
    prev_kv=yes,
    filters=st.sampled_from([[], [], [0], [1]]),
).filter(lambda watch: watch.range_end in (b"", b"\x00") or watch.key < watch.range_end)


class Clients(RuleBasedStateMachine):
    """Every rule does the same to both and compares the answers."""

    @initialize()
    def start(self) -> None:
        self.rooms = Rooms()
        self.reference = Reference()
        self.next_watch_id = 1

    def teardown(self) -> None:
        if hasattr(self, "rooms"):
            try:
                self.look_at_watches()
                self.look_at_history()
            finally:
                self.rooms.close()

    # --- what clients do

    @rule(request=puts())
    def put(self, request: rpc_pb2.PutRequest) -> None:
        self._same(self.rooms.apply(put=request), self.reference.put(request))

    @rule(request=deletes)
    def delete(self, request: rpc_pb2.DeleteRangeRequest) -> None:
        self._same(self.rooms.apply(delete_range=request), self.reference.delete(request))

    @rule(request=txns)
    def txn(self, request: rpc_pb2.TxnRequest) -> None:
        self._same(self.rooms.apply(txn=request), self.reference.txn(request))

    @rule(back=st.integers(-1, 6))
    def compact(self, back: int) -> None:
        # What watchers have asked for before is theirs, so that the answer does not depend on time.
        self.look_at_watches()
        request = rpc_pb2.CompactionRequest(revision=self.reference.revision - back)
        self._same(self.rooms.apply(compaction=request), self.reference.compact(request))

    @rule(lease=leases.filter(bool), ttl=st.sampled_from([2, 60]))
    def grant(self, lease: int, ttl: int) -> None:
        request = rpc_pb2.LeaseGrantRequest(ID=lease, TTL=ttl)
        self._same(self.rooms.apply(lease_grant=request), self.reference.grant(request))

    @rule(lease=leases.filter(bool))
    def revoke(self, lease: int) -> None:
        request = rpc_pb2.LeaseRevokeRequest(ID=lease)
        self._same(self.rooms.apply(lease_revoke=request), self.reference.revoke(request))

    @rule(request=watches, start=st.sampled_from([None, None, -6, -3, -1, 0, 1, 3]))
    def watch(self, request: rpc_pb2.WatchCreateRequest, start: int | None) -> None:
        """From now on, from a revision that was, or from one that is to come."""
        self.rooms.publish()
        if start is not None:
            request.start_revision = max(1, self.reference.revision + start)
        watch_id, self.next_watch_id = self.next_watch_id, self.next_watch_id + 1
        self.reference.watch(watch_id, request)
        self.rooms.watch(watch_id, request)

    @precondition(lambda self: self.reference.watchers)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        self.look_at_watches()
        watch_id = data.draw(st.sampled_from(sorted(self.reference.watchers)))
        self.rooms.cancel(watch_id)
        del self.reference.watchers[watch_id]

    @rule()
    def publish(self) -> None:
        self.rooms.publish()

    @rule()
    def upkeep(self) -> None:
        self.rooms.upkeep()

    @precondition(lambda self: not self.reference.watchers)
    @rule()
    def restart(self) -> None:
        self.rooms.reopen()

    @rule(key=keys, range_end=ends, back=st.integers(-1, 8), limit=st.sampled_from([0, 1, 2]))
    def read(self, key: bytes, range_end: bytes, back: int, limit: int) -> None:
        revision = max(0, self.reference.revision - back)
        request = rpc_pb2.RangeRequest(key=key, range_end=range_end, limit=limit, revision=revision)
        self._same(self.rooms.range(request), self.reference.range(request))

    # --- what is always so

    @invariant()
    def holds_the_same(self) -> None:
        if not hasattr(self, "rooms"):
            return
        everything = rpc_pb2.RangeRequest(key=b"\x00", range_end=b"\x00")
        self._same(self.rooms.range(everything), self.reference.range(everything))
        assert self.rooms.leases() == self.reference.leases
        for lease in self.reference.leases:
            assert self.rooms.lease_keys(lease) == self.reference.history.lease_keys(lease)

    def look_at_history(self) -> None:
        """Every revision that is still there."""
        history = self.reference.history
        for revision in range(max(history.compact_revision, 1), history.revision + 1):
            request = rpc_pb2.RangeRequest(key=b"\x00", range_end=b"\x00", revision=revision)
            self._same(self.rooms.range(request), self.reference.range(request))

    def look_at_watches(self) -> None:
        """Every watcher was told of all that it asked for, once and in order."""
        self.rooms.publish()
        expected = {watch_id: self.reference.told(watch_id) for watch_id in self._watchers()}
        compacted = {
            watch_id for watch_id, watched in self.reference.watchers.items() if watched.compacted
        }
        wanted = {watch_id: len(events) for watch_id, events in expected.items()}
        self.rooms.settle(wanted, compacted)
        for watch_id, events in expected.items():
            assert self.rooms.told[watch_id] == events, (watch_id, events)

    def _watchers(self) -> list[int]:
        return [
            watch_id
            for watch_id, watched in self.reference.watchers.items()
            if not watched.compacted
        ]

    def _same(self, answered: Any, expected: Any) -> None:
        assert answered == expected, f"answered {answered}\nexpected {expected}"


_SETTINGS = settings(
    max_examples=SEQUENCES,
    stateful_step_count=STEPS,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", range(PARTS))
def test_the_rooms_answer_as_the_reference_does(part: int) -> None:
    """In parts, so that parallel workers share them; each draws sequences of its own."""
    assert part < PARTS
    run_state_machine_as_test(Clients, settings=_SETTINGS)
