"""What lies on disk, opened: the log, the store, and whose they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kvshim.apply.members import members_of, store_members
from kvshim.apply.snapshots import Generations
from kvshim.backend.backend import Backend, BackendOptions
from kvshim.backend.datadir import DataDir, remove_other_generations
from kvshim.config import Config
from kvshim.errors import StartupError
from kvshim.mvcc.store import Store
from kvshim.node.draft import refuse_draft
from kvshim.pb.kvshim.member_pb2 import Member
from raft.interface import Index, LogError, Term
from raft.storage import LogStorage

FIRST_INDEX = Index(1)
FIRST_TERM = Term(1)
"""The entry that stands for the membership that a cluster begins with."""

READER_THREADS = 4
"""Ranges, catching up and hashes run on these; more than the cores they would share help nobody."""


@dataclass(slots=True)
class Storage:
    """Both SQLite files of a member."""

    log: LogStorage
    store: Store
    generations: Generations

    @classmethod
    def open(cls, data_dir: DataDir, config: Config) -> Storage:
        """Raises `StartupError`; what the files say is then as it was."""
        refuse_draft(data_dir.path)
        try:
            log = LogStorage.open(data_dir.raft_path)
        except LogError as error:
            raise StartupError(str(error)) from error
        try:
            options = BackendOptions(
                wal_bytes_max=config.wal_bytes_max, reader_connections=READER_THREADS
            )
            remove_other_generations(data_dir, log.generation)
            backend = Backend.open(data_dir.generation_path(log.generation), options)
            return cls(log, Store(backend), Generations(data_dir, log.generation, options))
        except BaseException:
            log.abandon()
            raise

    @property
    def backend(self) -> Backend:
        """The database in use; a snapshot puts another one in its place."""
        return self.store.backend

    @property
    def is_fresh(self) -> bool:
        """Does it belong to no cluster yet?"""
        return self.log.member_id == 0

    @property
    def is_imported(self) -> bool:
        """Is there data of no cluster yet, from `kvshim import`?"""
        return self.is_fresh and self.store.applied_index == 0 and self.store.revision > 1

    def members(self) -> list[Member]:
        """As of the last applied entry."""
        with self.store.read() as view:
            return members_of(view)

    def begin_cluster(self, cluster_id: int, member_id: int, members: Sequence[Member]) -> None:
        """Make fresh data the beginning of a new cluster, the same on each of its members.

        The first membership is not in the log: both files begin behind entry 1, which stands for
        it, so that whoever comes later gets it with a snapshot. The store is durable before the
        log says that it exists; a crash between the two leaves data that is still fresh.
        """
        self.store_first_members(members)
        self.log.bootstrap(
            cluster_id, member_id, cut_index=FIRST_INDEX, cut_term=FIRST_TERM, term=FIRST_TERM
        )

    @property
    def lost_its_first_members(self) -> bool:
        """Is the store new, and the log whole but for the entry that stands for them?"""
        return self.store.applied_index == 0 and self.log.first_index == FIRST_INDEX + 1

    def store_first_members(self, members: Sequence[Member]) -> None:
        """Make the store what it is behind entry 1, durably."""
        with self.store.write() as batch:
            store_members(batch, members)
            batch.set_applied(FIRST_INDEX, FIRST_TERM)
        self.backend.checkpointer.truncate()

    def begin_joining(self, cluster_id: int, member_id: int) -> None:
        """Make fresh data that of a member who waits for a snapshot."""
        self.log.set_identity(cluster_id, member_id)

    def name_sole_member(self, member: Member) -> None:
        """Name the only member of data from a version that knew no others."""
        with self.store.write() as batch:
            store_members(batch, [member])
