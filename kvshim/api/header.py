"""The header of every response: which cluster and member answered, at which revision and term."""

from __future__ import annotations

from kvshim.mvcc.store import Store
from kvshim.pb.etcd import rpc_pb2
from raft.interface import ReplicatedLog


class Headers:
    """Makes response headers. Event loop."""

    def __init__(self, cluster_id: int, member_id: int, store: Store, log: ReplicatedLog) -> None:
        self._cluster_id = cluster_id
        self._member_id = member_id
        self._store = store
        self._log = log
        self._encoded: tuple[tuple[int, int], bytes] = ((-1, -1), b"")

    def make(self, revision: int | None = None) -> rpc_pb2.ResponseHeader:
        """A header at `revision`, by default the store's present one."""
        return rpc_pb2.ResponseHeader(
            cluster_id=self._cluster_id,
            member_id=self._member_id,
            revision=self._store.revision if revision is None else revision,
            raft_term=self._log.status().term,
        )

    def fill(self, header: rpc_pb2.ResponseHeader) -> None:
        """Complete a header that apply made; a revision of 0 becomes the present one."""
        header.cluster_id = self._cluster_id
        header.member_id = self._member_id
        header.raft_term = self._log.status().term
        if header.revision == 0:
            header.revision = self._store.revision

    def encode(self, revision: int) -> bytes:
        """The encoded header message at `revision`; the last one is remembered."""
        key = (revision, self._log.status().term)
        if self._encoded[0] != key:
            self._encoded = (key, self.make(revision).SerializeToString())
        return self._encoded[1]
