"""Looking for damage: every stored version is read again, slowly, and compared with its checksum.

A scrub goes through `history` and then `kv` in steps, each a short read of its own. Every version
must have the checksum it was written with, encode to the bytes it has, and be found through the
index; every live key must name a version that agrees with it. A fault means that this member's
disk changed what was written; what then happens is the server's business. A reader thread.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Final, Protocol

from kvshim.backend import statements as sql
from kvshim.backend.ids import revision_of, sub_of
from kvshim.mvcc.encoding import checksum, encode_deletion, encode_put
from kvshim.mvcc.view import ReadView

STEP_ROWS: Final = 128


@dataclass(frozen=True, slots=True)
class Fault:
    """What was found, in words for the operator."""

    place: str
    reason: str


class Readable(Protocol):
    """What a scrub goes through: a store."""

    def read(self) -> AbstractContextManager[ReadView]:
        """A snapshot."""


class Scrub:
    """One pass over the store: call `step` until `finished`, with pauses in between."""

    def __init__(self, store: Readable) -> None:
        self._store = store
        self._after_id: int | None = 0
        self._after_key: bytes | None = b""
        self.rows_total = 0
        self.faults_total = 0

    @property
    def finished(self) -> bool:
        """True when all was looked at."""
        return self._after_id is None and self._after_key is None

    @property
    def place(self) -> str:
        """Where the next step begins, for the operator."""
        if self._after_id is not None:
            return f"versions from revision {revision_of(self._after_id)} on"
        return f"live keys from {self._after_key!r} on"

    def step(self) -> list[Fault]:
        """Look at some rows. Raises `StorageError` where SQLite itself finds damage."""
        if self._after_id is not None:
            faults = self._step_versions(self._after_id)
        elif self._after_key is not None:
            faults = self._step_live(self._after_key)
        else:
            faults = []
        self.faults_total += len(faults)
        return faults

    def _step_versions(self, after_id: int) -> list[Fault]:
        with self._store.read() as view:
            rows = view.rows(sql.SCRUB_VERSIONS, (after_id, STEP_ROWS))
        self.rows_total += len(rows)
        self._after_id = rows[-1][0] if len(rows) == STEP_ROWS else None
        faults = []
        for row in rows:
            reason = _damage(row)
            if reason:
                place = f"revision {revision_of(row[0])}.{sub_of(row[0])}"
                faults.append(Fault(place, reason))
        return faults

    def _step_live(self, after_key: bytes) -> list[Fault]:
        with self._store.read() as view:
            rows = view.rows(sql.SCRUB_LIVE, (after_key, STEP_ROWS))
        self.rows_total += len(rows)
        self._after_key = rows[-1][0] if len(rows) == STEP_ROWS else None
        return [
            Fault(f"key {key!r}", "it disagrees with the version that it names")
            for key, agrees in rows
            if not agrees
        ]


def first_fault(view: ReadView) -> Fault | None:
    """Look at all rows of a database in one snapshot, until one is damaged."""
    scrub = Scrub(_Whole(view))
    while not scrub.finished:
        if faults := scrub.step():
            return faults[0]
    return None


@dataclass(frozen=True, slots=True)
class _Whole:
    view: ReadView

    def read(self) -> AbstractContextManager[ReadView]:
        return nullcontext(self.view)


def _damage(row: tuple[Any, ...]) -> str | None:
    version_id, create_id, version, lease, deleted, crc, key, head, tail, value, indexed = row
    if checksum(head, tail, value) != crc:
        return "its bytes do not have the checksum they were written with"
    revision = revision_of(version_id)
    if deleted:
        expected = encode_deletion(key, revision), b""
    else:
        expected = encode_put(key, revision_of(create_id), revision, version, value, lease)
    if (head, tail) != expected:
        return "its columns disagree with its encoded form"
    if not indexed:
        return "it is missing from the index"
    return None
