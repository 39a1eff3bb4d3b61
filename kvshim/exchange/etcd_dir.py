"""Which file of etcd's is meant, and whether all of it is there.

A snapshot has the SHA-256 of itself at its end. In a data directory the store may lag behind the
log, of which it then lacks acknowledged writes: only after a clean stop it has all. Nothing is
changed; the file is locked against an etcd that would start meanwhile.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from google.protobuf.message import DecodeError

from kvshim.bbolt.reader import BboltFile
from kvshim.exchange.buckets import CONSISTENT_INDEX, META, BadContent, parse_number
from kvshim.pb.kvshim.etcd_wal_pb2 import WalEntry, WalRecord

_DIGEST_BYTES: Final = 32
_SECTOR_BYTES: Final = 512
"""Pages are multiples of this: what is left over is the digest."""

_CHUNK_BYTES: Final = 1 << 20
_FRAME: Final = struct.Struct("<Q")
_ENTRY: Final = 2


@contextmanager
def opened(path: Path, *, skip_hash_check: bool = False) -> Iterator[BboltFile]:
    """A snapshot, or a data directory; without the check also a bare file of unknown origin.

    Raises `BadContent`, `BadBboltFile`.
    """
    log: Path | None = None
    if path.is_dir():
        member = path if (path / "snap").is_dir() else path / "member"
        path, log = member / "snap" / "db", member / "wal"
        if not path.exists():
            raise BadContent(f"{member.parent} is no data directory of etcd's: it has no {path}")
    try:
        with path.open("rb") as file:
            _lock(file.fileno(), path)
            if log is None and not skip_hash_check:
                _check_digest(file.fileno(), path)
            with BboltFile.open(path) as opened_file:
                if log is not None:
                    _check_log(opened_file, log)
                yield opened_file
    except OSError as error:
        raise BadContent(f"cannot read {path}: {error.strerror or error}") from error


def _lock(fd: int, path: Path) -> None:
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        raise BadContent(
            f"{path} is in use: stop etcd first, or import from it with --from-endpoint"
        ) from None


def _check_digest(fd: int, path: Path) -> None:
    length = os.fstat(fd).st_size
    if length % _SECTOR_BYTES != _DIGEST_BYTES:
        raise BadContent(
            f"{path} has no SHA-256 at its end, as snapshots do: name the data directory that it is"
            " of, or say --skip-hash-check"
        )
    digest = hashlib.sha256()
    left = length - _DIGEST_BYTES
    while left > 0:
        data = os.read(fd, min(left, _CHUNK_BYTES))
        if not data:
            break
        digest.update(data)
        left -= len(data)
    if os.read(fd, _DIGEST_BYTES) != digest.digest():
        raise BadContent(f"{path} is damaged: its SHA-256 is not that at its end")


def _check_log(file: BboltFile, log: Path) -> None:
    if not any(log.glob("*.wal")):
        raise BadContent(
            f"there is no log in {log}, which may know of more than the store does (etcd ran with"
            " --wal-dir?): use etcdctl snapshot save while etcd runs"
        )
    stored = parse_number(dict(file.bucket(META)).get(CONSISTENT_INDEX))
    last = _last_index(log)
    if last > stored:
        raise BadContent(
            f"etcd was not stopped cleanly: its log goes to entry {last}, its store to {stored}."
            " Start it once more and stop it, or use etcdctl snapshot save while it runs"
        )


def _last_index(log: Path) -> int:
    """The last entry of the newest file that has one. What is torn at the end was never promised.

    A frame is a length of eight bytes, whose upper bits say how it is padded, and a record.
    """
    for path in sorted(log.glob("*.wal"), reverse=True):
        data = path.read_bytes()  # etcd begins a new file at 64 MiB
        at, last = 0, 0
        while at + _FRAME.size <= len(data):
            (frame,) = _FRAME.unpack_from(data, at)
            length, padding = frame & ((1 << 56) - 1), (frame >> 56) & 7 if frame >> 63 else 0
            body = data[at + _FRAME.size : at + _FRAME.size + length]
            if length == 0 or len(body) < length:
                break
            try:
                record = WalRecord.FromString(body)
                if record.type == _ENTRY:
                    last = WalEntry.FromString(record.data).index
            except DecodeError:
                break
            at += _FRAME.size + length + padding
        if last:
            return last
    return 0
