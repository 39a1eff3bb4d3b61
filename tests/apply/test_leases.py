"""What a leader decides about leases counts only in its own term, on every member alike."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kvshim.apply.dispatch import Applier
from kvshim.apply.outcome import Applied, LeaseCheckpointed, LeaseRevoked
from kvshim.backend.backend import Backend
from kvshim.errors import NotLeader
from kvshim.mvcc.records import LeaseRecord
from kvshim.mvcc.store import Store
from kvshim.pb.etcd import rpc_pb2
from kvshim.pb.kvshim.command_pb2 import Command, LeaseCheckpointRequest

OLD_TERM, TERM = 3, 4


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(Backend.open(tmp_path / "kv.db", None))
    grant(store, 1)
    yield store
    store.backend.close()


def apply(store: Store, command: Command, term: int = TERM) -> Applied:
    with store.write() as batch:
        return Applier(()).apply(batch, command, term)


def grant(store: Store, lease: int) -> None:
    apply(store, Command(lease_grant=rpc_pb2.LeaseGrantRequest(ID=lease, TTL=3600)))


def leases(store: Store) -> list[LeaseRecord]:
    with store.read() as view:
        return view.leases()


def checkpoint(*left: tuple[int, int], term: int) -> Command:
    made = [LeaseCheckpointRequest.Lease(id=lease, remaining_ttl=ttl) for lease, ttl in left]
    return Command(lease_checkpoint=LeaseCheckpointRequest(leases=made), decided_in_term=term)


def test_a_revoke_that_a_deposed_leader_decided_ends_nothing(store):
    revoke = Command(lease_revoke=rpc_pb2.LeaseRevokeRequest(ID=1), decided_in_term=OLD_TERM)
    applied = apply(store, revoke)
    assert isinstance(applied.response, NotLeader)
    assert leases(store) == [LeaseRecord(1, 3600)]
    revoke.decided_in_term = TERM
    assert apply(store, revoke).effects == [LeaseRevoked(1)]
    assert leases(store) == []


def test_a_client_may_revoke_in_any_term(store):
    applied = apply(store, Command(lease_revoke=rpc_pb2.LeaseRevokeRequest(ID=1)))
    assert applied.effects == [LeaseRevoked(1)]


def test_a_checkpoint_is_stored_cleared_and_passes_over_ended_leases(store):
    applied = apply(store, checkpoint((1, 400), (2, 400), term=TERM))
    assert applied.effects == [LeaseCheckpointed(1, 400)]
    assert leases(store) == [LeaseRecord(1, 3600, 400)]
    apply(store, checkpoint((1, 0), term=TERM))
    assert leases(store) == [LeaseRecord(1, 3600)]


def test_a_stale_checkpoint_does_not_undo_a_renewal(store):
    apply(store, checkpoint((1, 0), term=TERM))
    apply(store, checkpoint((1, 10), term=OLD_TERM))
    assert leases(store) == [LeaseRecord(1, 3600)]
