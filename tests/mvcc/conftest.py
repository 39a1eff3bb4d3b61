"""A store in a temporary directory, and a driver that does the same to it and to the model."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kvshim.backend.backend import Backend, BackendOptions
from kvshim.errors import Compacted, FutureRevision
from kvshim.mvcc.ranges import execute_range
from kvshim.mvcc.store import Store
from kvshim.pb.etcd import kv_pb2, rpc_pb2
from kvshim.types import KeyRange, LeaseID
from tests.model.history import COMPACTED, FUTURE, Model


def framed(pair: bytes | None) -> kv_pb2.KeyValue | None:
    """The pair in a framed field 2."""
    if pair is None:
        return None
    (kv,) = rpc_pb2.RangeResponse.FromString(pair).kvs
    return kv


class Driver:
    """One store and its model; every change goes to both, and answers are compared at once."""

    def __init__(self, path: Path, options: BackendOptions | None = None) -> None:
        self.path = path
        self.options = options
        self.model = Model()
        self.store = Store(Backend.open(path, options))
        self.events: list = []

    def close(self) -> None:
        self.store.backend.close()

    def reopen(self) -> None:
        self.close()
        self.reopen_after_damage()

    def reopen_after_damage(self) -> None:
        """Open what was closed, and perhaps changed, before."""
        self.store = Store(Backend.open(self.path, self.options))

    def txn(self, *operations: tuple) -> list:
        """One command; its events."""
        answers = []
        with self.store.write() as batch:
            txn = batch.begin()
            for operation in operations:
                if operation[0] == "put":
                    _, key, value, lease = operation
                    answers.append([txn.put(key, value, LeaseID(lease))])
                else:
                    _, start, end = operation
                    answers.append(txn.delete_range(KeyRange.of(start, end)))
            events = txn.finish()
        assert answers == self.model.txn(list(operations))
        assert self.store.revision == self.model.revision
        self.events.extend(events)
        return events

    def put(self, key: bytes, value: bytes = b"", lease: int = 0) -> list:
        return self.txn(("put", key, value, lease))

    def delete(self, start: bytes, end: bytes = b"") -> list:
        return self.txn(("delete", start, end))

    def compact(self, revision: int) -> str | None:
        outcome = None
        try:
            with self.store.write() as batch:
                batch.compact(revision)
        except Compacted:
            outcome = COMPACTED
        except FutureRevision:
            outcome = FUTURE
        assert outcome == self.model.compact(revision)
        assert self.store.compact_revision == self.model.compact_revision
        return outcome

    def upkeep(self) -> None:
        """All upkeep there is."""
        while self.store.between_batches():
            pass

    def range(self, **fields: object) -> object:
        """The store's answer, after it was compared with the model's."""
        request = rpc_pb2.RangeRequest(**fields)
        expected = self.model.range(request)
        with self.store.read() as view:
            try:
                result = execute_range(view, request)
            except Compacted:
                assert expected == COMPACTED
                return COMPACTED
            except FutureRevision:
                assert expected == FUTURE
                return FUTURE
        answer = result.message()
        assert answer == expected, f"{request}\nanswered {answer}\nexpected {expected}"
        encoded = rpc_pb2.RangeResponse.FromString(
            result.encode(rpc_pb2.ResponseHeader(revision=result.revision).SerializeToString())
        )
        assert encoded == expected
        assert result.returned == len(answer.kvs)
        return answer

    def history(self, start: int, key: bytes, range_end: bytes, max_bytes: int = 1 << 30) -> list:
        """All events from `start`, in as many calls as it takes; compared with the model's."""
        events, at = [], start
        with self.store.read() as view:
            keys = KeyRange.of(key, range_end)
            while at <= view.revision:
                found, following = view.history(keys, at, view.revision, max_bytes)
                assert following > at
                events.extend(found)
                at = following
        assert [seen(event) for event in events] == self.model.events(
            start, self.model.revision, key, range_end
        )
        return events


def seen(event) -> tuple:
    """An event as the model has it."""
    return (
        event.revision,
        event.sub,
        event.kind.name,
        event.key,
        framed(event.pair),
        framed(event.prev),
    )


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Driver]:
    made = Driver(tmp_path / "kv-1.db")
    yield made
    made.close()
