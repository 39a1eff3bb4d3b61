"""A new cluster of one member, made of what is left of one whose majority is lost for good.

Idempotent steps, of which one transaction of raft.db is the turn: before it the member's data is as
it was, from it on it is the new cluster's. `recover.json` in the data directory says what is under
way; a recovery that was cut short before the turn never happened, one that was cut short after it
must be finished before the node starts. The old store is never written to: the log's tail is
applied to a copy, the next generation.

All of the log is kept, also entries that nobody here knows to be committed: the lost majority may
have acknowledged them. The calling thread owns everything; the data directory is locked.
"""

from __future__ import annotations

import json
import secrets
import shutil
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Final, Self, TypeAlias

from kvshim.apply.machine import ApplyMachine
from kvshim.apply.members import keep_only, members_of
from kvshim.apply.tokens import forget_tokens
from kvshim.backend.backups import BackupRecord, note_backup, replace_text
from kvshim.backend.datadir import DataDir
from kvshim.backend.files import remove_database, side_files, sync
from kvshim.errors import MemberNotFound, StartupError
from kvshim.mvcc.store import REVISIONS_SKIPPED, Store
from kvshim.node.survivor import (
    RecoverError,
    Survivor,
    check_fit,
    opened_log,
    opened_store,
)
from kvshim.pki.certificates import make_csr, new_key
from kvshim.pki.files import Pki
from kvshim.server.admission import hosts_of
from kvshim.server.joining import JOINED_NAME, Joined
from raft.interface import Index
from raft.storage import LogStorage

PLAN_NAME: Final = "recover.json"
BACKUPS_NAME: Final = "backups"

_CHUNK_BYTES: Final = 4 << 20
_SPARE_BYTES: Final = 16 << 20
_BACKED_UP: Final = (JOINED_NAME, "pki/ca.crt", "pki/node.pem")
"""Beside the databases. Not the CA's key, which is in no backup."""

Tell: TypeAlias = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a recovery is going to do, written down before it changes anything."""

    old_cluster_id: int
    cluster_id: int
    member_id: int
    generation: int
    backup: str
    new_ca: bool

    def save(self, data_dir: Path) -> None:
        """Raises `StorageError`."""
        replace_text(data_dir / PLAN_NAME, json.dumps(asdict(self)) + "\n")

    @classmethod
    def load(cls, data_dir: Path) -> Self | None:
        """None when none is under way. Raises `StartupError`."""
        path = data_dir / PLAN_NAME
        try:
            kept = json.loads(path.read_bytes())
            return cls(
                old_cluster_id=int(kept["old_cluster_id"]),
                cluster_id=int(kept["cluster_id"]),
                member_id=int(kept["member_id"]),
                generation=int(kept["generation"]),
                backup=str(kept["backup"]),
                new_ca=bool(kept["new_ca"]),
            )
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StartupError(f"{path} cannot be read: {error}") from None


def settle_plan(data_dir: Path, cluster_id: int) -> None:
    """Before a node starts: forget a recovery that never came to its turn.

    Raises `StartupError` for one that must be finished first.
    """
    plan = Plan.load(data_dir)
    if plan is None:
        return
    if plan.cluster_id == cluster_id:
        raise StartupError(
            "a recovery of this data was cut short: run kvshim recover --from-this-node again,"
            " which finishes it"
        )
    _forget_plan(data_dir)


def unfinished(data_dir: DataDir) -> Plan | None:
    """A recovery that came to its turn and was cut short behind it. Raises `KvshimError`."""
    plan = Plan.load(data_dir.path)
    if plan is None:
        return None
    with opened_log(data_dir) as log:
        return plan if log.cluster_id == plan.cluster_id else None


def recover(
    data_dir: DataDir, found: Survivor, backups: Path, tell: Tell, *, new_ca: bool = False
) -> Plan:
    """Do all of it. Raises `KvshimError`; before the turn the data is then as it was."""
    _check_room(data_dir, found.generation, backups)
    plan = Plan(
        old_cluster_id=found.cluster_id,
        cluster_id=new_cluster_id(),
        member_id=found.member.id,
        generation=max({found.generation, *data_dir.generations()}) + 1,
        backup=str(_backup_name(backups)),
        new_ca=new_ca,
    )
    for step in STEPS:
        step(data_dir, plan, tell)
    return plan


def finish(data_dir: DataDir, plan: Plan, tell: Tell) -> None:
    """Do what is left of one that came to its turn. Raises `KvshimError`."""
    for step in STEPS_BEHIND_THE_TURN:
        step(data_dir, plan, tell)


def new_cluster_id() -> int:
    """One that no other cluster has."""
    return secrets.randbits(64) or 1


# -- the steps, in order


def back_up(data_dir: DataDir, plan: Plan, tell: Tell) -> None:
    """Copy the databases as they lie there, which nobody writes to meanwhile."""
    target = Path(plan.backup)
    draft = target.with_name(target.name + ".unfinished")
    with opened_log(data_dir) as log:
        store_path = data_dir.generation_path(log.generation)
    with opened_store(store_path) as store:
        revision = store.revision
    databases = (data_dir.raft_path, store_path)
    names = [file for path in databases for file in (path, *side_files(path))]
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if (
            target.parent == data_dir.path / BACKUPS_NAME
        ):  # nobody else's: tries that were cut short
            for unfinished_one in target.parent.glob("recover-*.unfinished"):
                shutil.rmtree(unfinished_one)
        draft.mkdir(mode=0o700)
        for file in (*names, *(data_dir.path / name for name in _BACKED_UP)):
            if file.exists() and not file.name.endswith("-shm"):
                _copy(file, draft / file.relative_to(data_dir.path))
        sync(draft)
        draft.rename(target)
        sync(target.parent)
    except OSError as error:
        with suppress(OSError):
            shutil.rmtree(draft)
        raise RecoverError(
            f"cannot keep a backup in {target.parent}: {error.strerror or error}"
        ) from error
    record = BackupRecord(time.time(), "recover", str(target.absolute()), revision)
    note_backup(data_dir.path, record)
    tell(f"The data as it was is kept in {target}.")


def write_plan(data_dir: DataDir, plan: Plan, _tell: Tell) -> None:
    """From now on a start knows that something was under way."""
    plan.save(data_dir.path)


def build_store(data_dir: DataDir, plan: Plan, tell: Tell) -> None:
    """The next generation: a copy, with all of the log applied to it, of one member only."""
    path = data_dir.generation_path(plan.generation)
    try:
        with opened_log(data_dir) as log:
            with opened_store(data_dir.generation_path(log.generation)) as old:
                check_fit(log, old)
                old.copy(path, lambda _: None)
                sync(path)
                sync(path.parent)
            with opened_store(path) as store:
                replay(log, store)
                skipped_from = store.revision
                _begin_anew(store, plan.member_id)
                revision = store.revision
                if not store.backend.checkpointer.truncate():
                    raise RecoverError(f"another program reads {path}: end it, and try again")
    except BaseException:
        with suppress(OSError):  # the next start tries again
            remove_database(path)
        raise
    tell(
        f"All {log.last_index} entries of its log are applied: revision {skipped_from}."
        f" The new cluster begins at revision {revision}, with everything before compacted."
    )


def turn(data_dir: DataDir, plan: Plan, tell: Tell) -> None:
    """One transaction: the log is the new cluster's, and names the new store."""
    with opened_log(data_dir) as log:
        log.begin_anew(plan.cluster_id, generation=plan.generation)
    tell(f"This is the only member of the new cluster {plan.cluster_id:x} now.")


def renew_trust(data_dir: DataDir, plan: Plan, tell: Tell) -> None:
    """A certificate of the new cluster, if it has a CA of its own.

    The CA stays, since no certificate that it gave out names the new cluster. Another one is
    founded if that is wanted, or if this member has no key of it, which only voters hold.
    """
    pki = Pki.of(data_dir.path)
    draft = Pki(pki.folder.with_name(pki.folder.name + ".new"))
    if not pki.exists():
        if draft.exists():  # cut short between the two names
            _rename(draft.folder, pki.folder)
        return
    if pki.node().cluster_id == plan.cluster_id:
        return
    with (
        opened_log(data_dir) as log,
        opened_store(data_dir.generation_path(log.generation)) as store,
        store.read() as view,
    ):
        hosts = [host for member in members_of(view) for host in hosts_of(member)]
    authority = None if plan.new_ca else pki.authority()
    if authority is not None:
        key = new_key()
        certificate = authority.issue(
            make_csr(key), plan.cluster_id, plan.member_id, hosts, time.time()
        )
        pki.keep_certificate(key, certificate, authority.certificate_der)
        return
    shutil.rmtree(draft.folder, ignore_errors=True)
    draft.found(plan.cluster_id, plan.member_id, hosts, time.time())
    _rename(pki.folder, pki.folder.with_name(f"pki.{plan.old_cluster_id:x}"))
    _rename(draft.folder, pki.folder)
    reason = "as was asked" if plan.new_ca else "since only voters hold the key of the old one"
    tell(f"The new cluster has a CA of its own, {reason}.")


def end(data_dir: DataDir, plan: Plan, _tell: Tell) -> None:
    """What `kvshim join` left is of another cluster; the old store goes; nothing is under way."""
    joined = Joined.load(data_dir.path)
    if joined is not None:
        Joined(
            cluster_id=plan.cluster_id,
            member_id=plan.member_id,
            name=joined.name,
            peer_urls=joined.peer_urls,
            client_urls=joined.client_urls,
            members=(),
        ).save(data_dir.path)
    try:
        for generation in data_dir.generations() - {plan.generation}:
            remove_database(data_dir.generation_path(generation))
    except OSError as error:
        raise RecoverError(f"cannot remove the old store: {error.strerror or error}") from error
    _forget_plan(data_dir.path)


STEPS: Sequence[Callable[[DataDir, Plan, Tell], None]] = (
    back_up,
    write_plan,
    build_store,
    turn,
    renew_trust,
    end,
)
STEPS_BEHIND_THE_TURN: Final = STEPS[STEPS.index(turn) + 1 :]


# -- what they are made of


def replay(log: LogStorage, store: Store) -> None:
    """Apply all of the log that the store lacks, as a running node does. Raises `KvshimError`."""
    told: SimpleQueue[Index | BaseException] = SimpleQueue()
    machine = ApplyMachine(store, lambda _: None, told.put, lambda _: None)
    machine.on_applied = told.put
    machine.start()
    try:
        at = machine.applied_index()
        while at < log.last_index:
            entries = log.entries(Index(at + 1), log.last_index, _CHUNK_BYTES)
            machine.apply(entries)
            while at < entries[-1].index:
                outcome = told.get()
                if isinstance(outcome, BaseException):
                    raise RecoverError(f"the log cannot be applied: {outcome}") from outcome
                at = outcome
    finally:
        machine.stop()


def _begin_anew(store: Store, member_id: int) -> None:
    with store.write() as batch:
        batch.skip(REVISIONS_SKIPPED)  # the lost members may have given some of them out
        try:
            keep_only(batch, member_id)
        except MemberNotFound:
            raise RecoverError(
                "the last entries of the log remove this member: recover another one"
            ) from None
        # One of them may have been used where this member cannot know of it.
        forget_tokens(batch)
        for member, kind in batch.alarms():
            if member != member_id:  # nobody is left who could clear it
                batch.alarm_delete(member, kind)


def _check_room(data_dir: DataDir, generation: int, backups: Path) -> None:
    """Raise `RecoverError` when the copies would fill a disk."""
    store = data_dir.generation_path(generation)
    log_bytes, store_bytes = map(_size, (data_dir.raft_path, store))
    # The log's tail goes into the copy of the store, and into its WAL before that.
    wanted = {data_dir.path: store_bytes + 2 * log_bytes}
    existing = next(path for path in (backups, *backups.absolute().parents) if path.exists())
    same = existing.stat().st_dev == data_dir.path.stat().st_dev
    there = data_dir.path if same else existing
    wanted[there] = wanted.get(there, 0) + store_bytes + log_bytes
    for path, wanted_bytes in wanted.items():
        free = shutil.disk_usage(path).free
        if free < wanted_bytes + _SPARE_BYTES:
            raise RecoverError(
                f"the copies in {path} need {wanted_bytes >> 20} MiB, and {free >> 20} MiB are"
                " free: make room, or say --backup-dir"
            )


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in (path, *side_files(path)) if file.exists())


def _backup_name(backups: Path) -> Path:
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    name = backups / f"recover-{stamp}"
    number = 1
    while name.exists() or name.with_name(name.name + ".unfinished").exists():
        number += 1
        name = backups / f"recover-{stamp}-{number}"
    return name


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(mode=0o700, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(0o600)
    sync(target)
    sync(target.parent)


def _rename(old: Path, new: Path) -> None:
    try:
        old.rename(new)
        sync(new.parent)
    except OSError as error:
        raise RecoverError(f"cannot rename {old}: {error.strerror or error}") from error


def _forget_plan(data_dir: Path) -> None:
    try:
        (data_dir / PLAN_NAME).unlink(missing_ok=True)
        sync(data_dir)
    except OSError as error:
        raise RecoverError(f"cannot remove {PLAN_NAME}: {error.strerror or error}") from error
