"""Measure page size and table layout for kv.db; the figures behind ADR 0002.

Every layout takes the same load: creates in random key order, then random updates, 16 commands a
transaction, each writing the live row and the history row, with a passive checkpoint per 4 MiB of
WAL. Layouts take turns inside one process, so a noisy machine disturbs them alike: read the
figures as ratios. Bytes come from what the process hands to write(2), hence are exact; time is CPU
time (user and system). Touches only a temporary directory; one thread.

    python bench/storage/page_size.py --keys 20000 --value-sizes 1024 4096 16384 mix
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import apsw

BATCH = 16
CHECKPOINT_BYTES = 4 << 20
SUB_BITS = 20
HEAD = bytes(90)  # about the encoded KeyValue fields 1-4 of a pod key

KV_COLUMNS = """key BLOB PRIMARY KEY NOT NULL, create_revision INTEGER NOT NULL,
    mod_revision INTEGER NOT NULL, mod_sub INTEGER NOT NULL, version INTEGER NOT NULL,
    lease INTEGER NOT NULL, head BLOB NOT NULL, value BLOB NOT NULL"""
KV_NARROW_COLUMNS = """key BLOB PRIMARY KEY NOT NULL, create_revision INTEGER NOT NULL,
    id INTEGER NOT NULL, version INTEGER NOT NULL, lease INTEGER NOT NULL"""
HISTORY_COLUMNS = """key BLOB NOT NULL, create_revision INTEGER NOT NULL, version INTEGER NOT NULL,
    lease INTEGER NOT NULL, deleted INTEGER NOT NULL, head BLOB NOT NULL, value BLOB NOT NULL"""
KV = {
    "clustered": f"CREATE TABLE kv ({KV_COLUMNS}) WITHOUT ROWID",
    "rowid": f"CREATE TABLE kv ({KV_COLUMNS})",
    # no value of its own: a read joins the newest history row
    "narrow": f"CREATE TABLE kv ({KV_NARROW_COLUMNS}) WITHOUT ROWID",
}
HISTORY = {
    "clustered": f"""CREATE TABLE history (revision INTEGER NOT NULL, sub INTEGER NOT NULL,
        {HISTORY_COLUMNS}, PRIMARY KEY (revision, sub)) WITHOUT ROWID""",
    "integer": f"CREATE TABLE history (id INTEGER PRIMARY KEY, {HISTORY_COLUMNS})",
}
HISTORY_INSERT = {
    "clustered": "INSERT INTO history VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
    "integer": f"INSERT INTO history VALUES ((? << {SUB_BITS}) | ?, ?, ?, ?, ?, ?, ?, ?)",
}
KV_INSERT = "INSERT INTO kv VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
KV_READ = "SELECT create_revision, version, lease FROM kv WHERE key = ?"
KV_UPDATE = """UPDATE kv SET mod_revision = ?, mod_sub = ?, version = ?, lease = ?, head = ?,
    value = ? WHERE key = ?"""
NARROW_INSERT = f"INSERT INTO kv VALUES (?, ?, (? << {SUB_BITS}) | ?, ?, ?)"
NARROW_UPDATE = f"UPDATE kv SET id = (? << {SUB_BITS}) | ?, version = ?, lease = ? WHERE key = ?"
BODY = "CAST(head || value AS BLOB)"
SOURCE = {kind: "kv" for kind in ("clustered", "rowid")}
SOURCE["narrow"] = "kv CROSS JOIN history USING (id)"
SCAN = f"SELECT kv.key, {BODY} FROM {{source}} ORDER BY kv.key"
PAGE = f"SELECT kv.key, {BODY} FROM {{source}} WHERE kv.key >= ? ORDER BY kv.key LIMIT 500"
GET = f"SELECT kv.create_revision, kv.version, {BODY} FROM {{source}} WHERE kv.key = ?"

LAYOUTS = ["clustered+clustered", "clustered+integer", "rowid+integer", "narrow+integer"]


@dataclass(slots=True)
class Layout:
    """One candidate and what was measured on it."""

    page_size: int
    kv: str
    history: str
    cache_mib: int = 2
    mmap_mib: int = 0
    revision: int = 1
    wal_pages: int = 0
    wal_bytes: int = 0
    figures: dict[str, float] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return (
            f"{self.page_size >> 10:>2}K kv={self.kv:<9} hist={self.history:<9} "
            f"cache={self.cache_mib:<2} mmap={self.mmap_mib}"
        )

    def open(self, directory: Path) -> apsw.Connection:
        safe = self.name.replace(" ", "_")
        db = apsw.Connection(str(directory / f"{safe}.db"))
        for pragma in (
            f"page_size={self.page_size}",
            "auto_vacuum=INCREMENTAL",
            "journal_mode=WAL",
            "synchronous=NORMAL",
            "wal_autocheckpoint=0",
            f"cache_size=-{self.cache_mib * 1024}",
            f"mmap_size={self.mmap_mib << 20}",
        ):
            db.execute(f"PRAGMA {pragma}").fetchall()
        return db

    def add(self, name: str, value: float) -> None:
        self.figures[name] = self.figures.get(name, 0.0) + value


def bytes_written() -> int:
    """Bytes this process has passed to write calls."""
    for line in Path("/proc/self/io").read_text().splitlines():
        if line.startswith("wchar:"):
            return int(line.split()[1])
    raise RuntimeError("no wchar in /proc/self/io")


def make_keys(rng: random.Random, count: int) -> list[bytes]:
    """Distinct pod keys of 45-60 bytes in random order."""
    alphabet = "bcdfghjklmnpqrstvwxz2456789"
    keys: set[bytes] = set()
    while len(keys) < count:
        app = rng.choice(("web", "api", "cache", "worker", "ingress"))
        tail = "".join(rng.choices(alphabet, k=10)) + "-" + "".join(rng.choices(alphabet, k=5))
        keys.add(f"/registry/pods/team-{rng.randrange(40):02d}/{app}-{tail}".encode())
    ordered = sorted(keys)
    rng.shuffle(ordered)
    return ordered


class Values:
    """Slices of one random buffer: incompressible, and cheap beside what is measured."""

    def __init__(self, rng: random.Random, size: str) -> None:
        self._rng = rng
        self._pool = rng.randbytes(1 << 20)
        self._size = None if size == "mix" else int(size)

    def __call__(self) -> bytes:
        # "mix" is a guess at a cluster: median 1.2 KiB, a tail of tens of KiB
        size = self._size or min(65536, max(300, int(self._rng.lognormvariate(7.1, 0.9))))
        start = self._rng.randrange(len(self._pool) - size)
        return self._pool[start : start + size]


def apply_batch(
    layout: Layout, db: apsw.Connection, batch: list[tuple[bytes, bytes]], phase: str
) -> None:
    """One transaction of puts, then a checkpoint when the WAL is due."""
    start_bytes, start = bytes_written(), time.process_time()
    insert_history = HISTORY_INSERT[layout.history]
    db.execute("BEGIN IMMEDIATE")
    for key, value in batch:
        layout.revision += 1
        revision = layout.revision
        row = db.execute(KV_READ, (key,)).fetchone()
        if row is None:
            created, version = revision, 1
            if layout.kv == "narrow":
                db.execute(NARROW_INSERT, (key, revision, revision, 0, 1, 0))
            else:
                db.execute(KV_INSERT, (key, revision, revision, 0, 1, 0, HEAD, value))
        else:
            created, version = row[0], row[1] + 1
            if layout.kv == "narrow":
                db.execute(NARROW_UPDATE, (revision, 0, version, 0, key))
            else:
                db.execute(KV_UPDATE, (revision, 0, version, 0, HEAD, value, key))
        db.execute(insert_history, (revision, 0, key, created, version, 0, 0, HEAD, value))
    db.execute("COMMIT")
    layout.add(f"{phase} commit cpu", time.process_time() - start)
    layout.add(f"{phase} wal", bytes_written() - start_bytes)
    if layout.wal_pages * layout.page_size >= CHECKPOINT_BYTES:
        db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
        layout.wal_pages = 0
    layout.add(f"{phase} cpu", time.process_time() - start)
    layout.add(f"{phase} bytes", bytes_written() - start_bytes)


def batches(keys: list[bytes], values: Values) -> Iterator[list[tuple[bytes, bytes]]]:
    for start in range(0, len(keys), BATCH):
        yield [(key, values()) for key in keys[start : start + BATCH]]


def load(
    layouts: list[Layout], directory: Path, keys: list[bytes], values: Values, rng: random.Random
) -> None:
    """Give every layout the same creates, then the same updates, in turn batch by batch."""
    opened = []
    for layout in layouts:
        db = layout.open(directory)
        db.execute(KV[layout.kv]).fetchall()
        db.execute(HISTORY[layout.history]).fetchall()

        def remember(_db: apsw.Connection, _name: str, pages: int, to: Layout = layout) -> int:
            to.wal_pages = pages
            return apsw.SQLITE_OK

        db.set_wal_hook(remember)
        opened.append((layout, db))
    updates = [rng.choice(keys) for _ in keys]
    for phase, phase_keys in (("create", keys), ("update", updates)):
        for number, batch in enumerate(batches(phase_keys, values)):
            turn = number % len(opened)
            for layout, db in opened[turn:] + opened[:turn]:
                apply_batch(layout, db, batch, phase)
    for layout, db in opened:
        db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        for table, size in db.execute("SELECT name, sum(pgsize) FROM dbstat GROUP BY name"):
            if not str(table).startswith("sqlite_schema"):
                layout.figures[f"size {table}"] = float(size)
        layout.figures["file"] = float(db.pragma("page_count")) * layout.page_size
        db.close()


def best(layout: Layout, name: str, seconds: float) -> None:
    layout.figures[name] = min(seconds, layout.figures.get(name, seconds))


def read(layouts: list[Layout], directory: Path, keys: list[bytes], rounds: int) -> None:
    """Scan, page and get on new connections: SQLite's page cache is cold, the kernel's warm."""
    sample = keys[:2000]
    for _ in range(rounds):
        for layout in layouts:
            db = layout.open(directory)
            scan, page, get = (text.format(source=SOURCE[layout.kv]) for text in (SCAN, PAGE, GET))
            start = time.process_time()
            rows = sum(1 for _ in db.execute(scan))
            best(layout, "scan", time.process_time() - start)
            assert rows == len(keys)
            start = time.process_time()
            for key in sample[:40]:
                db.execute(page, (key,)).fetchall()
            best(layout, "page", (time.process_time() - start) / 40)
            start = time.process_time()
            for key in sample:
                db.execute(get, (key,)).fetchone()
            best(layout, "get", (time.process_time() - start) / len(sample))
            db.close()


def report(layouts: list[Layout], count: int, value_size: str) -> None:
    print(f"\nvalues {value_size}, {count} creates + {count} updates; bytes in KiB per put")
    print(
        f"{'layout':<47} {'file':>7} {'kv':>7} {'hist':>7} {'index':>6} | {'wal c':>6} {'wal u':>6}"
        f" {'all c':>6} {'all u':>6} | {'us c':>6} {'us u':>6} {'us u-ckpt':>9} |"
        f" {'scan ms':>8} {'page ms':>8} {'get us':>7}"
    )
    for layout in layouts:
        f = layout.figures
        index = f.get("size sqlite_autoindex_kv_1", 0.0)
        per_put = [
            f[name] / count / 1024
            for name in ("create wal", "update wal", "create bytes", "update bytes")
        ]
        cpu = [f[name] / count * 1e6 for name in ("create cpu", "update cpu", "update commit cpu")]
        sizes = [f["file"], f["size kv"], f["size history"], index]
        print(
            f"{layout.name:<47} "
            + " ".join(f"{size / 1e6:>{w}.1f}" for size, w in zip(sizes, (7, 7, 7, 6), strict=True))
            + " | "
            + " ".join(f"{figure:>6.1f}" for figure in per_put)
            + f" | {cpu[0]:>6.1f} {cpu[1]:>6.1f} {cpu[2]:>9.1f} | {f['scan'] * 1e3:>8.1f} "
            f"{f['page'] * 1e3:>8.2f} {f['get'] * 1e6:>7.2f}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keys", type=int, default=20_000)
    parser.add_argument("--value-sizes", nargs="+", default=["1024", "4096", "16384", "mix"])
    parser.add_argument("--page-sizes", nargs="+", type=int, default=[4096, 8192, 16384])
    parser.add_argument("--cache-mib", nargs="+", type=int, default=[2])
    parser.add_argument("--mmap-mib", nargs="+", type=int, default=[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--layouts", nargs="+", default=LAYOUTS)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    for value_size in options.value_sizes:
        rng = random.Random(options.seed)
        keys = make_keys(rng, options.keys)
        layouts = [
            Layout(page_size, kv, history, cache, mmap)
            for page_size in options.page_sizes
            for kv, history in (pair.split("+") for pair in options.layouts)
            for cache in options.cache_mib
            for mmap in options.mmap_mib
        ]
        with tempfile.TemporaryDirectory(prefix="kvshim-bench-") as directory:
            load(layouts, Path(directory), keys, Values(rng, value_size), rng)
            read(layouts, Path(directory), keys, options.rounds)
        report(layouts, options.keys, value_size)


if __name__ == "__main__":
    main()
