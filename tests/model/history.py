"""A multi-version store as plain as it can be: the oracle of the tests here and of `tests/mvcc`.

It keeps every change in one list and answers each question by walking that list. Nothing is
shared with the code under test but the messages and `KeyValue`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from kvshim.pb.etcd import kv_pb2, rpc_pb2
from kvshim.types import KeyValue

Request = rpc_pb2.RangeRequest
COMPACTED, FUTURE = "compacted", "future"


@dataclass
class Change:
    revision: int
    sub: int
    key: bytes
    version: KeyValue | None


def in_range(key: bytes, start: bytes, range_end: bytes) -> bool:
    if not range_end:
        return key == start
    return key >= start and (range_end == b"\x00" or key < range_end)


def message(kv: KeyValue) -> kv_pb2.KeyValue:
    return kv_pb2.KeyValue(
        key=kv.key,
        value=kv.value,
        create_revision=kv.create_revision,
        mod_revision=kv.mod_revision,
        version=kv.version,
        lease=kv.lease,
    )


@dataclass
class Model:
    revision: int = 1
    compact_revision: int = -1
    changes: list[Change] = field(default_factory=list)
    leases: dict[int, int] = field(default_factory=dict)

    # --- changes

    def txn(self, operations: list[tuple]) -> list[list[KeyValue | None]]:
        """Operations ("put", key, value, lease) and ("delete", start, end): what each replaced."""
        revision = self.revision + 1
        sub, answers = 0, []
        for operation in operations:
            live = self.at(revision)
            if operation[0] == "put":
                _, key, value, lease = operation
                old = live.get(key)
                create = old.create_revision if old else revision
                version = old.version + 1 if old else 1
                kv = KeyValue(key, value, create, revision, version, lease, sub)
                self.changes.append(Change(revision, sub, key, kv))
                sub += 1
                answers.append([old])
            else:
                _, start, end = operation
                gone = [live[key] for key in sorted(live) if in_range(key, start, end)]
                for old in gone:
                    self.changes.append(Change(revision, sub, old.key, None))
                    sub += 1
                answers.append(gone)
        if sub:
            self.revision = revision
        return answers

    def compact(self, revision: int) -> str | None:
        if revision <= self.compact_revision:
            return COMPACTED
        if revision > self.revision:
            return FUTURE
        self.compact_revision = revision
        return None

    # --- questions

    def at(self, revision: int) -> dict[bytes, KeyValue]:
        state: dict[bytes, KeyValue] = {}
        for change in self.changes:
            if change.revision > revision:
                break
            if change.version is None:
                state.pop(change.key, None)
            else:
                state[change.key] = change.version
        return state

    def range(self, request: Request) -> Request | str:
        """The response with a header that has only the revision, or the name of the error."""
        if request.revision > self.revision:
            return FUTURE
        revision = request.revision if request.revision > 0 else self.revision
        if revision < self.compact_revision:
            return COMPACTED
        state = self.at(revision)
        kvs = [state[k] for k in sorted(state) if in_range(k, request.key, request.range_end)]
        response = rpc_pb2.RangeResponse(count=len(kvs))
        response.header.revision = self.revision
        if request.count_only:
            return response
        bounds = [
            (request.min_mod_revision, lambda kv, bound: kv.mod_revision >= bound),
            (request.max_mod_revision, lambda kv, bound: kv.mod_revision <= bound),
            (request.min_create_revision, lambda kv, bound: kv.create_revision >= bound),
            (request.max_create_revision, lambda kv, bound: kv.create_revision <= bound),
        ]
        unordered = request.sort_order == Request.NONE
        if unordered and not any(bound for bound, _ in bounds) and request.limit > 0:
            kvs = kvs[: request.limit + 1]
        for bound, holds in bounds:
            if bound:
                kvs = [kv for kv in kvs if holds(kv, bound)]
        by = {
            Request.KEY: lambda kv: kv.key,
            Request.VERSION: lambda kv: kv.version,
            Request.CREATE: lambda kv: kv.create_revision,
            Request.MOD: lambda kv: kv.mod_revision,
            Request.VALUE: lambda kv: kv.value,
        }[request.sort_target]
        kvs.sort(key=by, reverse=request.sort_order == Request.DESCEND)
        if 0 < request.limit < len(kvs):
            kvs, response.more = kvs[: request.limit], True
        if request.keys_only:
            kvs = [kv._replace(value=b"") for kv in kvs]
            if request.sort_target != Request.VALUE:
                kvs = [kv._replace(lease=0) for kv in kvs]
        response.kvs.extend(message(kv) for kv in kvs)
        return response

    def events(self, start: int, end: int, key: bytes, range_end: bytes) -> list[tuple]:
        """(revision, sub, kind, key, pair, previous pair) as a watch from `start` shows them."""
        result = []
        for change in self.changes:
            if not start <= change.revision <= end or not in_range(change.key, key, range_end):
                continue
            later = [
                other
                for other in self.changes
                if (other.revision, other.key) == (change.revision, change.key)
                and other.sub > change.sub
            ]
            at_compaction = change.revision == self.compact_revision
            if at_compaction and later:
                continue
            created = change.version is not None and (
                change.version.create_revision == change.revision
            )
            previous = None
            if not created and not at_compaction:
                previous = self.at(change.revision - 1).get(change.key)
            if change.version is None:
                pair = kv_pb2.KeyValue(key=change.key, mod_revision=change.revision)
            else:
                pair = message(change.version)
            result.append(
                (
                    change.revision,
                    change.sub,
                    "PUT" if change.version is not None else "DELETE",
                    change.key,
                    pair,
                    message(previous) if previous else None,
                )
            )
        return result

    def lease_keys(self, lease: int) -> list[bytes]:
        return sorted(k for k, kv in self.at(self.revision).items() if kv.lease == lease)
