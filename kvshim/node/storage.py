"""What lies on disk, opened: the log, the store, and whose they are."""

from __future__ import annotations

from dataclasses import dataclass

from kvshim.backend.backend import Backend, BackendOptions
from kvshim.backend.datadir import DataDir
from kvshim.config import Config
from kvshim.errors import StartupError
from kvshim.mvcc.store import Store
from kvshim.node.identity import cluster_id_of, member_id_of
from kvshim.types import ClusterID, MemberID
from raft.interface import LogError
from raft.storage import LogStorage

READER_THREADS = 4
"""Ranges, catching up and hashes run on these; more than the cores they would share help nobody."""


@dataclass(slots=True)
class Storage:
    """Both SQLite files of a member."""

    log: LogStorage
    backend: Backend
    store: Store

    @classmethod
    def open(cls, data_dir: DataDir, config: Config) -> Storage:
        """Raises `StartupError`; what the files say is then as it was."""
        try:
            log = LogStorage.open(data_dir.raft_path)
        except LogError as error:
            raise StartupError(str(error)) from error
        try:
            options = BackendOptions(
                wal_bytes_max=config.wal_bytes_max, reader_connections=READER_THREADS
            )
            backend = Backend.open(data_dir.generation_path(log.generation), options)
            return cls(log, backend, Store(backend))
        except BaseException:
            log.abandon()
            raise

    def identity(self, config: Config) -> tuple[MemberID, ClusterID]:
        """The ids that the data began with; for new data those that the flags give."""
        if self.log.member_id:
            return MemberID(self.log.member_id), ClusterID(self.log.cluster_id)
        urls = [str(url) for url in config.initial_advertise_peer_urls]
        member_id = member_id_of(urls, config.initial_cluster_token)
        return member_id, cluster_id_of([member_id])
