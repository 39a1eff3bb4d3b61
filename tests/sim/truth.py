"""What the committed log means: a plain model of the store, for whoever saw something of it.

It knows the commands that the simulation sends, and is told them in the order of the log.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from kvshim.mvcc.ranges import execute_range
from kvshim.mvcc.store import Store
from kvshim.pb.etcd import rpc_pb2
from kvshim.pb.kvshim.command_pb2 import Command
from kvshim.types import EventKind, KeyRange, Revision
from raft.core import Entry, EntryKind
from tests.sim.machine import TwiceApplied


class Version(NamedTuple):
    """A key that is there."""

    value: bytes
    create: int
    mod: int
    number: int
    lease: int


class Change(NamedTuple):
    """One event; `value` is None for a DELETE."""

    revision: int
    key: bytes
    value: bytes | None


@dataclass(slots=True)
class Truth:
    """Revisions, keys, leases and events after the entries told so far."""

    revision: int = 1
    compacted: int = -1
    keys: dict[bytes, Version] = field(default_factory=dict)
    leases: dict[int, tuple[int, int]] = field(default_factory=dict)
    events: list[Change] = field(default_factory=list)
    index: int = 1
    _seen: set[int] = field(default_factory=set)
    _next: int = 0

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> Truth:
        """After all of these."""
        truth = cls()
        for entry in entries:
            truth.tell(entry)
        return truth

    def tell(self, entry: Entry) -> None:
        """The next entry."""
        self.index = entry.index
        if entry.kind is EntryKind.CONF_CHANGE or not entry.data:
            return
        command = Command.FromString(entry.data)
        if command.id in self._seen:
            raise TwiceApplied(f"command {command.id} was applied again by entry {entry.index}")
        self._seen.add(command.id)
        if command.decided_in_term in (0, entry.term):
            self._next = self.revision + 1
            self._apply(command)

    def differs(self, store: Store) -> str | None:
        """How a store differs, in words."""
        with store.read() as view:
            found = execute_range(view, rpc_pb2.RangeRequest(key=b"\0", range_end=b"\0"))
            keys = {
                kv.key: Version(kv.value, kv.create_revision, kv.mod_revision, kv.version, kv.lease)
                for kv in found.message().kvs
            }
            leases = {record.id: (record.ttl, record.remaining_ttl) for record in view.leases()}
            since = Revision(max(self.compacted, 0) + 1)
            events, _ = view.history(KeyRange(b"", None), since, view.revision, 1 << 30)
            held = (view.revision, view.compact_revision)
        history = [(event.revision, event.key, event.kind is EventKind.DELETE) for event in events]
        wanted = [(e.revision, e.key, e.value is None) for e in self.events if e.revision >= since]
        for name, has, should in (
            ("(revision, compacted)", held, (self.revision, self.compacted)),
            ("keys", keys, self.keys),
            ("leases", leases, self.leases),
            ("history", history, wanted),
            ("applied", store.applied_index, self.index),
        ):
            if has != should:
                return f"{name}: it has {has}, the log says {should}"
        return None

    def _apply(self, command: Command) -> None:
        match command.WhichOneof("operation"):
            case "put":
                if command.put.lease == 0 or command.put.lease in self.leases:
                    self._put(command.put)
            case "delete_range":
                self._delete_range(command.delete_range)
            case "txn":
                self._txn(command.txn)
            case "compaction":
                if self.compacted < command.compaction.revision <= self.revision:
                    self.compacted = command.compaction.revision
            case "lease_grant":
                self.leases.setdefault(command.lease_grant.ID, (command.lease_grant.TTL, 0))
            case "lease_revoke":
                lease = command.lease_revoke.ID
                if self.leases.pop(lease, None) is not None:
                    for key in sorted(k for k, v in self.keys.items() if v.lease == lease):
                        self._delete(key)
            case "lease_checkpoint":
                for left in command.lease_checkpoint.leases:
                    if left.id in self.leases:
                        self.leases[left.id] = (self.leases[left.id][0], left.remaining_ttl)
            case other:
                raise AssertionError(f"the model does not know {other}")

    def _txn(self, request: rpc_pb2.TxnRequest) -> None:
        (compare,) = request.compare
        known = self.keys.get(compare.key)
        holds = (0 if known is None else known.number) == compare.version
        for op in request.success if holds else request.failure:
            if op.HasField("request_put"):
                self._put(op.request_put)
            else:
                self._delete_range(op.request_delete_range)

    def _put(self, request: rpc_pb2.PutRequest) -> None:
        old, revision = self.keys.get(request.key), self._next
        created, number = (revision, 1) if old is None else (old.create, old.number + 1)
        self.keys[request.key] = Version(request.value, created, revision, number, request.lease)
        self._event(request.key, request.value)

    def _delete_range(self, request: rpc_pb2.DeleteRangeRequest) -> None:
        keys = KeyRange.of(request.key, request.range_end)
        for key in sorted(key for key in self.keys if keys.contains(key)):
            self._delete(key)

    def _delete(self, key: bytes) -> None:
        del self.keys[key]
        self._event(key, None)

    def _event(self, key: bytes, value: bytes | None) -> None:
        self.revision = self._next
        self.events.append(Change(self._next, key, value))
