"""What writers sent, what was acknowledged, and whether a store's history agrees with it.

Any thread may record; `check` runs while nobody writes.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from kvshim.pb.etcd import rpc_pb2 as pb
from tests.support.grpc_client import ALL, EtcdClient

Ops = tuple[tuple[bytes, bytes | None], ...]
"""The events of one revision: (key, value) each, None for a deletion. Never sent twice."""


@dataclass(slots=True)
class Ledger:
    """A record of every write; `history` is what the store said at the last check."""

    acknowledged: dict[int, Ops] = field(default_factory=dict)
    unanswered: set[Ops] = field(default_factory=set)
    history: dict[int, Ops] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def sent(self, ops: Ops) -> None:
        """About to be sent: from now on the store may hold it."""
        with self._lock:
            self.unanswered.add(ops)

    def answered(self, ops: Ops, revision: int) -> None:
        """Acknowledged: from now on the store must hold it, at this revision."""
        with self._lock:
            self.unanswered.discard(ops)
            assert revision not in self.acknowledged, f"revision {revision} was given twice"
            self.acknowledged[revision] = ops

    def check(self, client: EtcdClient) -> None:
        """Compare all revisions from the first on, and then the live keys."""
        listed = client.range(ALL, ALL)
        head = listed.header.revision
        history = read_history(client, head)
        assert list(history) == list(range(2, head + 1)), "revisions are missing or out of order"
        for revision, ops in self.history.items():
            assert history.get(revision) == ops, f"revision {revision} changed"
        for revision, ops in self.acknowledged.items():
            assert history.get(revision) == ops, f"revision {revision} was acknowledged"
        for revision, ops in history.items():
            if revision in self.acknowledged or revision in self.history:
                continue
            assert ops in self.unanswered, f"revision {revision} was never sent, or is there twice"
            self.unanswered.discard(ops)
        self.history = history
        live: dict[bytes, tuple[bytes, int]] = {}
        for revision, ops in history.items():
            for key, value in ops:
                if value is None:
                    del live[key]
                else:
                    live[key] = (value, revision)
        assert {kv.key: (kv.value, kv.mod_revision) for kv in listed.kvs} == live


def read_history(client: EtcdClient, head: int) -> dict[int, Ops]:
    """Every revision up to `head` with its events, in the order a watch tells them."""
    history: dict[int, list[tuple[bytes, bytes | None]]] = {}
    if head < 2:
        return {}
    with client.watch_stream() as stream:
        stream.create(ALL, ALL, start_revision=2)
        while head not in history:
            for event in stream.next().events:
                is_delete = event.type == event.DELETE
                ops = history.setdefault(event.kv.mod_revision, [])
                ops.append((event.kv.key, None if is_delete else event.kv.value))
    return {revision: tuple(ops) for revision, ops in history.items()}


def send(client: EtcdClient, ops: Ops) -> int:
    """Write as a Put, a DeleteRange or a Txn; the revision it got."""
    if len(ops) == 1:
        key, value = ops[0]
        answer = client.delete(key) if value is None else client.put(key, value)
        return answer.header.revision
    requests = [
        pb.RequestOp(request_delete_range=pb.DeleteRangeRequest(key=key))
        if value is None
        else pb.RequestOp(request_put=pb.PutRequest(key=key, value=value))
        for key, value in ops
    ]
    return client.txn(requests).header.revision
