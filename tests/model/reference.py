"""The reference: what etcd answers to changes, leases and watches, over a plain history.

Requests and answers are etcd's messages, so that they can be compared as they are; what is refused
is answered with etcd's text. Headers have a revision only. Nothing is shared with kvshim's rooms
but the messages.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from kvshim.pb.etcd import kv_pb2, rpc_pb2
from tests.model.history import Model, in_range, message

LEASE_NOT_FOUND = "etcdserver: requested lease not found"
LEASE_EXISTS = "etcdserver: lease already exists"
KEY_NOT_FOUND = "etcdserver: key not found"
COMPACTED = "etcdserver: mvcc: required revision has been compacted"
FUTURE = "etcdserver: mvcc: required revision is a future revision"
ERRORS = {"compacted": COMPACTED, "future": FUTURE}


@dataclass
class Watched:
    """A watcher: what it asked for, and how far it has to be told."""

    request: rpc_pb2.WatchCreateRequest
    start: int
    compacted: bool = False
    """It asked for what is gone: it is told of nothing."""
    told: list[kv_pb2.Event] = field(default_factory=list)


@dataclass
class Reference:
    """One server. Every method takes a request and gives the answer, or the text of an error."""

    history: Model = field(default_factory=Model)
    leases: dict[int, int] = field(default_factory=dict)
    watchers: dict[int, Watched] = field(default_factory=dict)

    @property
    def revision(self) -> int:
        return self.history.revision

    # --- keys

    def range(self, request: rpc_pb2.RangeRequest) -> Any:
        answer = self.history.range(request)
        return ERRORS.get(answer, answer) if isinstance(answer, str) else answer

    def put(self, request: rpc_pb2.PutRequest) -> Any:
        if refusal := self._refuse_put(request):
            return refusal
        return self._put(request, self.history.txn([self._operation(request)])[0])

    def delete(self, request: rpc_pb2.DeleteRangeRequest) -> Any:
        gone = self.history.txn([("delete", request.key, request.range_end)])[0]
        return self._deleted(request, gone)

    def txn(self, request: rpc_pb2.TxnRequest) -> Any:
        """One without ranges and transactions inside, whose operations touch different keys."""
        response = rpc_pb2.TxnResponse(succeeded=all(map(self._holds, request.compare)))
        operations = request.success if response.succeeded else request.failure
        puts = [each.request_put for each in operations if each.HasField("request_put")]
        for put in puts:
            if refusal := self._refuse_put(put):
                return refusal
        changes = [
            self._operation(each.request_put)
            if each.HasField("request_put")
            else ("delete", each.request_delete_range.key, each.request_delete_range.range_end)
            for each in operations
        ]
        # A response inside tells of the revision as it was at that point.
        for each, replaced in zip(operations, self._one_by_one(changes), strict=True):
            answer = response.responses.add()
            revision, old = replaced
            if each.HasField("request_put"):
                answer.response_put.CopyFrom(self._put(each.request_put, old, revision))
            else:
                deleted = self._deleted(each.request_delete_range, old, revision)
                answer.response_delete_range.CopyFrom(deleted)
        response.header.revision = self.revision
        return response

    def compact(self, request: rpc_pb2.CompactionRequest) -> Any:
        if outcome := self.history.compact(request.revision):
            return ERRORS[outcome]
        return rpc_pb2.CompactionResponse(header=self._header())

    # --- leases

    def grant(self, request: rpc_pb2.LeaseGrantRequest) -> Any:
        if request.ID in self.leases:
            return LEASE_EXISTS
        self.leases[request.ID] = request.TTL
        return rpc_pb2.LeaseGrantResponse(header=self._header(), ID=request.ID, TTL=request.TTL)

    def revoke(self, request: rpc_pb2.LeaseRevokeRequest) -> Any:
        """The keys go at one revision, in the order of their bytes."""
        if self.leases.pop(request.ID, None) is None:
            return LEASE_NOT_FOUND
        keys = self.history.lease_keys(request.ID)
        self.history.txn([("delete", key, b"") for key in keys])
        return rpc_pb2.LeaseRevokeResponse(header=self._header())

    # --- watches

    def watch(self, watch_id: int, request: rpc_pb2.WatchCreateRequest) -> None:
        start = request.start_revision or self.revision + 1
        compacted = start <= self.revision and start < self.history.compact_revision
        self.watchers[watch_id] = Watched(request, start, compacted)

    def told(self, watch_id: int) -> list[kv_pb2.Event]:
        """All that a watcher is told until now. What it was told stays, whatever is compacted."""
        watched = self.watchers[watch_id]
        if watched.compacted:
            return []
        request = watched.request
        filters = {rpc_pb2.WatchCreateRequest.FilterType.Name(each) for each in request.filters}
        for _, _, kind, _, pair, previous in self.history.events(
            watched.start, self.revision, request.key, request.range_end
        ):
            if f"NO{kind}" in filters:
                continue
            event = kv_pb2.Event(type=kind, kv=pair)
            if request.prev_kv and previous is not None:
                event.prev_kv.CopyFrom(previous)
            watched.told.append(event)
        watched.start = max(watched.start, self.revision + 1)
        return watched.told

    # --- parts

    def _header(self, revision: int = 0) -> rpc_pb2.ResponseHeader:
        return rpc_pb2.ResponseHeader(revision=revision or self.revision)

    def _live(self) -> dict[bytes, Any]:
        return self.history.at(self.revision)

    def _refuse_put(self, request: rpc_pb2.PutRequest) -> str:
        if request.lease and request.lease not in self.leases:
            return LEASE_NOT_FOUND
        if (request.ignore_value or request.ignore_lease) and request.key not in self._live():
            return KEY_NOT_FOUND
        return ""

    def _operation(self, request: rpc_pb2.PutRequest) -> tuple[Any, ...]:
        value, lease, old = request.value, request.lease, self._live().get(request.key)
        if request.ignore_value:
            value = old.value
        if request.ignore_lease:
            lease = old.lease
        return ("put", request.key, value, lease)

    def _one_by_one(self, changes: list[tuple[Any, ...]]) -> list[tuple[int, list[Any]]]:
        """What each replaced, and the revision after it."""
        before, outcomes = self.revision, []
        replaced = self.history.txn(changes)
        changed = False
        for change, old in zip(changes, replaced, strict=True):
            changed = changed or change[0] == "put" or bool(old)
            outcomes.append((before + changed, old))
        return outcomes

    def _put(
        self, request: rpc_pb2.PutRequest, replaced: list[Any], revision: int = 0
    ) -> rpc_pb2.PutResponse:
        response = rpc_pb2.PutResponse(header=self._header(revision))
        if request.prev_kv and replaced[0] is not None:
            response.prev_kv.CopyFrom(message(replaced[0]))
        return response

    def _deleted(
        self, request: rpc_pb2.DeleteRangeRequest, gone: list[Any], revision: int = 0
    ) -> rpc_pb2.DeleteRangeResponse:
        response = rpc_pb2.DeleteRangeResponse(header=self._header(revision), deleted=len(gone))
        if request.prev_kv:
            response.prev_kvs.extend(map(message, gone))
        return response

    def _holds(self, compare: rpc_pb2.Compare) -> bool:
        found = [
            kv
            for key, kv in sorted(self._live().items())
            if in_range(key, compare.key, compare.range_end)
        ]
        target = rpc_pb2.Compare.CompareTarget.Name(compare.target)
        if not found and target == "VALUE":
            return False
        operands = {
            "VERSION": ("version", compare.version),
            "CREATE": ("create_revision", compare.create_revision),
            "MOD": ("mod_revision", compare.mod_revision),
            "VALUE": ("value", compare.value),
            "LEASE": ("lease", compare.lease),
        }
        name, operand = operands[target]
        tests = {
            "EQUAL": lambda have: have == operand,
            "GREATER": lambda have: have > operand,
            "LESS": lambda have: have < operand,
            "NOT_EQUAL": lambda have: have != operand,
        }
        holds = tests[rpc_pb2.Compare.CompareResult.Name(compare.result)]
        return all(holds(getattr(kv, name)) for kv in found) if found else holds(0)
