"""What a stopped member's data says, for whoever thinks of making a new cluster of it.

Looking opens log and store as a start does, which checks all of the log, and changes nothing that
they say. The calling thread owns everything; the data directory is locked by the caller.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kvshim.apply.members import members_of
from kvshim.backend.backend import Backend
from kvshim.backend.datadir import DataDir
from kvshim.config.url import parse_url
from kvshim.errors import KvshimError, StartupError
from kvshim.mvcc.store import Store
from kvshim.pb.kvshim.member_pb2 import Member
from kvshim.pki.files import Pki
from raft.interface import LogError
from raft.storage import LogStorage

CONNECT_SECONDS: Final = 1.0


class RecoverError(KvshimError):
    """No new cluster was made: says why."""


@dataclass(frozen=True, slots=True)
class Survivor:
    """A member and how far its data goes.

    Entries up to `committed_index` are known to be in the cluster's history; of those behind it
    nobody knows. `revision` is the store's, before the log's tail is applied to it. `log_written`
    is when the log was last written to, in Unix seconds.
    """

    cluster_id: int
    member: Member
    others: Sequence[Member]
    last_index: int
    last_term: int
    committed_index: int
    applied_index: int
    revision: int
    generation: int
    own_trust: bool
    """Does the cluster have a CA of its own, as those formed by `kvshim join` do?"""
    log_written: float

    @property
    def uncertain_entries(self) -> int:
        """Entries that are in the log and may never have been committed."""
        return self.last_index - self.committed_index


def look(data_dir: DataDir) -> Survivor:
    """Raises `RecoverError`, `StartupError`, `StorageError`."""
    written = _last_written(data_dir.raft_path)
    with opened_log(data_dir) as log:
        if log.member_id == 0:
            raise RecoverError(f"{data_dir.path} belongs to no cluster yet: there is nothing in it")
        path = data_dir.generation_path(log.generation)
        if not path.exists():
            raise RecoverError(f"{path}, which the log names, is missing: restore it from a backup")
        with opened_store(path) as store:
            check_fit(log, store)
            with store.read() as view:
                members = members_of(view)
            own = next((member for member in members if member.id == log.member_id), None)
            if own is None:
                raise RecoverError(
                    f"{data_dir.path} is that of a member which holds no data yet or was removed:"
                    " recover another one"
                )
            return Survivor(
                cluster_id=log.cluster_id,
                member=own,
                others=[member for member in members if member.id != log.member_id],
                last_index=log.last_index,
                last_term=log.last_term,
                committed_index=max(log.hard_state.commit, store.applied_index),
                applied_index=store.applied_index,
                revision=store.revision,
                generation=log.generation,
                own_trust=Pki.of(data_dir.path).exists(),
                log_written=written,
            )


def answers(member: Member) -> bool:
    """Does anybody listen at one of its addresses for peers? Asks for at most a second each."""
    for text in member.peer_urls:
        try:
            url = parse_url(text)
            with socket.create_connection((url.host, url.port), CONNECT_SECONDS):
                return True
        except (OSError, ValueError):
            continue
    return False


@contextmanager
def opened_log(data_dir: DataDir) -> Iterator[LogStorage]:
    """The log; raises `RecoverError`."""
    try:
        log = LogStorage.open(data_dir.raft_path)
    except LogError as error:
        raise RecoverError(str(error)) from error
    try:
        yield log
        log.close()
    except LogError as error:
        log.abandon()
        raise RecoverError(str(error)) from error
    except BaseException:
        log.abandon()
        raise


@contextmanager
def opened_store(path: Path) -> Iterator[Store]:
    """The store in a file; at the end all of it is durable. Raises `StorageError`."""
    store = Store(Backend.open(path))
    try:
        yield store
    finally:
        store.close()


def check_fit(log: LogStorage, store: Store) -> None:
    """Raises `StartupError` when the log does not go on where the store ends."""
    if not log.first_index - 1 <= store.applied_index <= log.last_index:
        raise StartupError(
            f"log and store do not fit together: the store holds entry {store.applied_index}, the"
            f" log {log.first_index} to {log.last_index}: restore both from a backup"
        )


def _last_written(path: Path) -> float:
    wal = path.with_name(path.name + "-wal")
    return max(file.stat().st_mtime for file in (path, wal) if file.exists())
