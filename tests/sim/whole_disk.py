"""The files of one member that runs all of the production storage, on a disk that loses power.

Opens what `kvshim.node.storage` opens: raft.db and the generation of kv.db that it names, both on
`tests.powercut.vfs`. A crash strikes at one of the writes, fsyncs or renames that come next.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from random import Random

from kvshim.apply.snapshots import Generations
from kvshim.backend.backend import Backend
from kvshim.backend.datadir import DataDir, remove_other_generations
from kvshim.backend.options import BackendOptions
from kvshim.errors import StorageError
from kvshim.mvcc.store import Store
from kvshim.node.storage import Storage
from kvshim.pb.kvshim.member_pb2 import Member
from raft.database import LogOptions
from raft.interface import MemberId, Membership
from raft.storage import LogStorage
from tests.powercut import names
from tests.powercut.vfs import Disk as Platter
from tests.support.memory import directory_in_memory

CLUSTER = 7
STEPS_MAX = 25
WAL_BYTES_MAX = 60_000
NEVER = 1 << 30


class Files:
    """From the first `open` to `close`, through power cuts: each leaves a new directory."""

    def __init__(self, number: int, random: Random, first_members: Membership | None) -> None:
        self._number, self._random = MemberId(number), random
        self._first = first_members
        self._root = directory_in_memory("sim-")
        self._lives = 0
        self._power_fails = False
        self._storage: Storage | None = None
        self._data_dir: DataDir | None = None
        self.home = self._root / "0"
        self.home.mkdir()
        self.platter = Platter(random)
        names.settle(self.home, self.platter)

    @property
    def storage(self) -> Storage:
        """What is open."""
        assert self._storage is not None
        return self._storage

    @property
    def is_dead(self) -> bool:
        """Has what was doomed come to its end?"""
        return self.platter.is_off

    def open(self) -> None:
        """Open both databases, sometimes dying on the way; a fresh one begins the cluster."""
        while True:
            if self._lives and self._random.random() < 0.05:
                self.doom(power=self._random.random() < 0.5)
            try:
                self._open()
            except Exception:
                if not self.is_dead:
                    raise
            if not self.is_dead:
                self.platter.cut_at = self.platter.kill_at = None
                return
            self.die()

    def doom(self, *, power: bool) -> None:
        """Let the process or the power end during one of the next steps."""
        platter = self.platter
        at = platter.operations + self._random.randint(1, STEPS_MAX)
        platter.cut_at, platter.kill_at = (at, None) if power else (None, at)
        self._power_fails = power

    def die(self) -> None:
        """The process is gone, and the power if that was the doom."""
        self._let_go()
        self._lives += 1
        platter = self.platter
        if not self._power_fails:
            platter.is_off, platter.kill_at = False, None
            return
        self._power_fails = False
        old, self.home = self.home, self._root / f"{self._lives}"
        platter.surviving(self.home)
        platter.unregister()
        names.leave(old)
        shutil.rmtree(old)
        self.platter = Platter(self._random)
        self.platter.room = platter.room
        names.settle(self.home, self.platter)

    def close(self) -> None:
        """The run is over."""
        self._let_go()
        self.platter.unregister()
        names.leave(self.home)
        shutil.rmtree(self._root)

    def _open(self) -> None:
        vfs = self.platter.name
        data_dir = self._data_dir = DataDir.open(self.home)
        log = LogStorage.open(data_dir.raft_path, LogOptions(vfs=vfs))
        options = BackendOptions(
            wal_bytes_max=WAL_BYTES_MAX,
            reader_connections=1,
            checkpoint_bytes=NEVER,
            checkpoint_seconds=NEVER,
            vfs=vfs,
        )
        try:
            remove_other_generations(data_dir, log.generation)
            store = Store(Backend.open(data_dir.generation_path(log.generation), options))
        except BaseException:
            log.abandon()
            raise
        self._storage = Storage(log, store, Generations(data_dir, log.generation, options))
        if self._storage.is_fresh:
            self._begin(self._storage)

    def _begin(self, storage: Storage) -> None:
        if self._first is None:
            storage.begin_joining(CLUSTER, self._number)
            return
        learners = self._first.learners
        members = [Member(id=one, learner=one in learners) for one in self._first.members]
        storage.begin_cluster(CLUSTER, self._number, members)

    def _let_go(self) -> None:
        """Close what is open, write nothing."""
        self.platter.is_off = True
        if self._storage is not None:
            self._storage.log.abandon()
            self._storage.backend.failure = StorageError("the process is gone")
            with suppress(Exception):
                self._storage.store.close()
        if self._data_dir is not None:
            self._data_dir.close()
        self._storage = self._data_dir = None
