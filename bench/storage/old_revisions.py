"""Measure ways to read an old revision; the figures behind ADR 0003.

Five stores take the same creates, updates, deletes and re-creations in turn, batch by batch:
`none` keeps bare history (the floor for writes), `linked` stores the id of the replaced version,
`jump` adds a second, logarithmic pointer, `index` adds a plain index on history(key), to which
SQLite appends the row id, `lives` indexes the id of the first version of the key's life instead.
Every way of reading is checked against a Python model before it is timed. CPU time only, the ways
in turn: read ratios. One thread, a temporary directory.

    python bench/storage/old_revisions.py --keys 5000 50000 --changes 300000
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import apsw
from page_size import BATCH, CHECKPOINT_BYTES, HEAD, SUB_BITS, bytes_written, make_keys

PAGE_ROWS = 500
Params = dict[str, bytes | int]
Row = tuple[bytes, bytes]
Way = Callable[[Params], list[Row]]

KV_COLUMNS = """key BLOB PRIMARY KEY NOT NULL, create_revision INTEGER NOT NULL,
    id INTEGER NOT NULL, version INTEGER NOT NULL, lease INTEGER NOT NULL"""
KV = {
    "narrow": f"CREATE TABLE kv ({KV_COLUMNS}) WITHOUT ROWID",
    "clustered": f"""CREATE TABLE kv ({KV_COLUMNS}, head BLOB NOT NULL, value BLOB NOT NULL)
    WITHOUT ROWID""",
}
HISTORY = """CREATE TABLE history (id INTEGER PRIMARY KEY, {pointers} key BLOB NOT NULL,
    create_revision INTEGER NOT NULL, version INTEGER NOT NULL, lease INTEGER NOT NULL,
    deleted INTEGER NOT NULL, head BLOB NOT NULL, value BLOB NOT NULL)"""
TOMBSTONES = "CREATE TABLE tombstones (key BLOB PRIMARY KEY, id INTEGER NOT NULL) WITHOUT ROWID"
# One row for each life of a key that has ended: created and deleted by these versions.
ENDED = """CREATE TABLE ended (key BLOB NOT NULL, create_id INTEGER NOT NULL,
    delete_id INTEGER NOT NULL, PRIMARY KEY (key, create_id)) WITHOUT ROWID"""
POINTERS = {
    "none": "",
    "index": "",
    "lives": "",
    "linked": "prev INTEGER,",
    "jump": "prev INTEGER, jump INTEGER, depth INTEGER NOT NULL,",
}
# Myers' jump pointers need the depths and jumps of the parent and of the parent's jump.
JUMPS = """SELECT p.depth, p.jump, j.depth, j.jump FROM history p
    LEFT JOIN history j ON j.id = p.jump WHERE p.id = ?"""

HEADS = """(SELECT key, id FROM kv WHERE key >= :key UNION ALL
    SELECT key, id FROM tombstones WHERE key >= :key)"""
HEAD_OF = """SELECT id FROM kv WHERE key = :key UNION ALL
    SELECT id FROM tombstones WHERE key = :key"""
WALK = """(WITH RECURSIVE c(id, prev) AS (SELECT id, prev FROM history WHERE id = {head}
    UNION ALL SELECT p.id, p.prev FROM c JOIN history p ON p.id = c.prev WHERE c.id > :bound)
    SELECT id FROM c WHERE id <= :bound)"""
JUMP_WALK = """(WITH RECURSIVE c(id, prev, jump) AS (
    SELECT id, prev, jump FROM history WHERE id = {head}
    UNION ALL SELECT p.id, p.prev, p.jump FROM c
    JOIN history p ON p.id = CASE WHEN c.jump > :bound THEN c.jump ELSE c.prev END
    WHERE c.id > :bound) SELECT id FROM c WHERE id <= :bound)"""
SEEK = "(SELECT id FROM history WHERE key = {key} AND id <= :bound ORDER BY id DESC LIMIT 1)"
BODY = "CAST(v.head || v.value AS BLOB)"
PAGE_BY_HEADS = f"""SELECT h.key AS key, {BODY} FROM {HEADS} h CROSS JOIN history v
    ON v.id = {{find}} WHERE v.deleted = 0 ORDER BY h.key LIMIT {PAGE_ROWS}"""
PAGE_LOOSE = f"""WITH RECURSIVE keys(key) AS (
    SELECT min(key) FROM history WHERE key >= :key UNION ALL
    SELECT (SELECT min(n.key) FROM history n WHERE n.key > keys.key) FROM keys
    WHERE key IS NOT NULL)
    SELECT v.key, {BODY} FROM keys CROSS JOIN history v ON v.id = {SEEK.format(key="keys.key")}
    WHERE v.deleted = 0 LIMIT {PAGE_ROWS}"""
# A life is named by the id of its first version: every key has at most one life at a revision.
LIVES = """(SELECT key, create_revision AS life FROM kv
    WHERE key >= :key AND create_revision <= :bound UNION ALL
    SELECT key, create_id FROM ended
    WHERE key >= :key AND create_id <= :bound AND delete_id > :bound)"""
LIFE_OF = """SELECT create_revision FROM kv WHERE key = :key AND create_revision <= :bound
    UNION ALL SELECT create_id FROM ended
    WHERE key = :key AND create_id <= :bound AND delete_id > :bound"""
LIFE_SEEK = """(SELECT id FROM history WHERE create_revision = {life} AND id <= :bound
    ORDER BY id DESC LIMIT 1)"""
PAGE_BY_LIVES = f"""SELECT h.key AS key, {BODY} FROM {LIVES} h CROSS JOIN history v
    ON v.id = {LIFE_SEEK.format(life="h.life")} ORDER BY h.key LIMIT {PAGE_ROWS}"""
PAGE_HEAD = {
    "clustered": f"""SELECT key, CAST(head || value AS BLOB) FROM kv WHERE key >= :key
    ORDER BY key LIMIT {PAGE_ROWS}""",
    "narrow": f"""SELECT kv.key, {BODY} FROM kv CROSS JOIN history v USING (id)
    WHERE kv.key >= :key ORDER BY kv.key LIMIT {PAGE_ROWS}""",
}
GET = f"SELECT v.key, {BODY} FROM history v WHERE v.deleted = 0 AND v.id = {{find}}"

PAGES: dict[str, tuple[str, str]] = {
    "linked, CTE": ("linked", PAGE_BY_HEADS.format(find=WALK.format(head="h.id"))),
    "jump, CTE": ("jump", PAGE_BY_HEADS.format(find=JUMP_WALK.format(head="h.id"))),
    "index, heads": ("index", PAGE_BY_HEADS.format(find=SEEK.format(key="h.key"))),
    "index, loose": ("index", PAGE_LOOSE),
    "lives, seek": ("lives", PAGE_BY_LIVES),
}
GETS: dict[str, tuple[str, str]] = {
    "linked, CTE": ("linked", GET.format(find=WALK.format(head=f"({HEAD_OF})"))),
    "jump, CTE": ("jump", GET.format(find=JUMP_WALK.format(head=f"({HEAD_OF})"))),
    "lives, seek": ("lives", GET.format(find=LIFE_SEEK.format(life=f"({LIFE_OF})"))),
    "index, seek": ("index", GET.format(find=SEEK.format(key=":key"))),
}


def one(db: apsw.Connection, text: str, values: tuple[int | None, ...] = ()) -> tuple[int, ...]:
    """The only row of a query over integers."""
    row: tuple[int, ...] | None = db.execute(text, values).fetchone()
    if row is None:
        raise LookupError(text)
    return row


@dataclass(slots=True)
class Store:
    """One database under test and what its writes cost."""

    kind: str
    kv: str
    db: apsw.Connection
    wal_pages: int = 0
    cpu: float = 0.0
    wal: int = 0
    written: int = 0

    def put(self, key: bytes, value: bytes | None, version_id: int) -> None:
        """Write one version; None deletes."""
        db, deleted = self.db, value is None
        row = db.execute("SELECT id, create_revision, version FROM kv WHERE key = ?", (key,))
        live = row.fetchone()
        prev = live[0] if live else self._tombstone(key)
        # create_revision holds the full id of the first version here
        created, version = (live[1], live[2] + 1) if live else (version_id, 1)
        if deleted:
            db.execute("DELETE FROM kv WHERE key = ?", (key,))
            if self.kind == "lives":
                db.execute("INSERT INTO ended VALUES (?, ?, ?)", (key, created, version_id))
            else:
                db.execute("INSERT INTO tombstones VALUES (?, ?)", (key, version_id))
        elif live:
            body = (HEAD, value) if self.kv == "clustered" else ()
            columns = ", head = ?, value = ?" if body else ""
            update = f"UPDATE kv SET id = ?, version = ?, lease = 0{columns} WHERE key = ?"
            db.execute(update, (version_id, version, *body, key))
        else:
            if prev is not None:
                db.execute("DELETE FROM tombstones WHERE key = ?", (key,))
            body = (HEAD, value) if self.kv == "clustered" else ()
            insert = f"INSERT INTO kv VALUES (?, ?, ?, ?, 0{', ?, ?' if body else ''})"
            db.execute(insert, (key, created, version_id, version, *body))
        pointers = self._pointers(prev)
        marks = "?, " * len(pointers)
        db.execute(
            f"INSERT INTO history VALUES (?, {marks}?, ?, ?, 0, ?, ?, ?)",
            (version_id, *pointers, key, created, version, deleted, HEAD, value or b""),
        )

    def _tombstone(self, key: bytes) -> int | None:
        if self.kind == "lives":
            return None
        row = self.db.execute("SELECT id FROM tombstones WHERE key = ?", (key,)).fetchone()
        return row[0] if row else None

    def _pointers(self, prev: int | None) -> tuple[int | None, ...]:
        if self.kind == "linked":
            return (prev,)
        if self.kind != "jump":
            return ()
        if prev is None:
            return (None, None, 0)
        depth, _, jump_depth, jump_jump = one(self.db, JUMPS, (prev,))
        if jump_jump is not None:
            (far,) = one(self.db, "SELECT depth FROM history WHERE id = ?", (jump_jump,))
            if depth - jump_depth == jump_depth - far:
                return (prev, jump_jump, depth + 1)
        return (prev, prev, depth + 1)

    def batch(self, commands: list[tuple[bytes, bytes | None]], revision: int) -> None:
        start, start_bytes = time.process_time(), bytes_written()
        self.db.execute("BEGIN IMMEDIATE")
        for offset, (key, value) in enumerate(commands):
            self.put(key, value, (revision + offset) << SUB_BITS)
        self.db.execute("COMMIT")
        self.wal += bytes_written() - start_bytes
        if self.wal_pages * self.db.pragma("page_size") >= CHECKPOINT_BYTES:
            self.db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
            self.wal_pages = 0
        self.cpu += time.process_time() - start
        self.written += bytes_written() - start_bytes

    def reset(self) -> None:
        self.cpu, self.wal, self.written = 0.0, 0, 0


@dataclass(slots=True)
class Model:
    """What every key held at the revisions that will be read."""

    state: dict[bytes, bytes] = field(default_factory=dict)
    kept: dict[int, dict[bytes, bytes]] = field(default_factory=dict)

    def page(self, revision: int, key: bytes) -> list[Row]:
        at = self.kept[revision]
        return [(k, HEAD + at[k]) for k in sorted(k for k in at if k >= key)[:PAGE_ROWS]]


def open_store(kind: str, directory: Path, options: argparse.Namespace) -> Store:
    db = apsw.Connection(str(directory / f"{kind}.db"))
    for pragma in (
        f"page_size={options.page_size}",
        "auto_vacuum=INCREMENTAL",
        "journal_mode=WAL",
        "synchronous=NORMAL",
        "wal_autocheckpoint=0",
        f"cache_size=-{options.cache_mib * 1024}",
        f"mmap_size={options.mmap_mib << 20}",
    ):
        db.execute(f"PRAGMA {pragma}").fetchall()
    for statement in (KV[options.kv], HISTORY.format(pointers=POINTERS[kind]), TOMBSTONES, ENDED):
        db.execute(statement).fetchall()
    if kind == "index":
        db.execute("CREATE INDEX history_key ON history(key)").fetchall()
    if kind == "lives":
        db.execute("CREATE INDEX history_life ON history(create_revision)").fetchall()
    store = Store(kind, options.kv, db)

    def remember(_db: apsw.Connection, _name: str, pages: int) -> int:
        store.wal_pages = pages
        return apsw.SQLITE_OK

    db.set_wal_hook(remember)
    return store


def load(
    stores: list[Store], keys: list[bytes], options: argparse.Namespace, ages: list[int]
) -> tuple[Model, int]:
    """Create all keys, then change them at random; 1 change in 50 deletes."""
    rng = random.Random(options.seed)
    pool = rng.randbytes(1 << 20)
    model, size = Model(), options.value_size
    total = len(keys) + options.changes

    def command(number: int) -> tuple[bytes, bytes | None]:
        start = rng.randrange(len(pool) - size)
        if number < len(keys):
            return keys[number], pool[start : start + size]
        key = rng.choice(keys)
        if key in model.state and rng.random() < 0.02:
            return key, None
        return key, pool[start : start + size]

    keep = {total - age for age in ages}
    batch: list[tuple[bytes, bytes | None]] = []
    first = 1
    for number in range(total):
        if number == len(keys):
            for store in stores:
                store.reset()
        key, value = command(number)
        batch.append((key, value))
        if value is None:
            del model.state[key]
        else:
            model.state[key] = value
        revision = number + 1
        if revision in keep:
            model.kept[revision] = dict(model.state)
        if len(batch) == BATCH or number + 1 in (len(keys), total):
            turn = revision // BATCH % len(stores)
            for store in stores[turn:] + stores[:turn]:
                store.batch(batch, first)
            batch, first = [], revision + 1
    return model, total


def chase(db: apsw.Connection, params: Params) -> list[Row]:
    """Follow links with prepared point look-ups from Python."""
    page: list[Row] = []
    bound = params["bound"]
    assert isinstance(bound, int)
    link = "SELECT prev FROM history WHERE id = ?"
    body = f"SELECT v.key, {BODY} FROM history v WHERE id = ? AND deleted = 0"
    for _key, version_id in db.execute(
        f"SELECT key, id FROM {HEADS} ORDER BY key", {"key": params["key"]}
    ):
        at = version_id
        while at is not None and at > bound:
            (at,) = one(db, link, (at,))
        row = db.execute(body, (at,)).fetchone() if at is not None else None
        if row:
            page.append(row)
            if len(page) == PAGE_ROWS:
                break
    return page


def each(way: Way, wanted: list[Params]) -> None:
    for params in wanted:
        way(params)


def timed(call: Callable[[], object], repeat: int) -> float:
    start = time.process_time()
    for _ in range(repeat):
        call()
    return (time.process_time() - start) / repeat


def read_ages(
    stores: dict[str, Store], model: Model, keys: list[bytes], total: int, ages: list[int]
) -> None:
    rng, kv = random.Random(7), stores["none"].kv
    print(f"{'read at':>20} {'way':<16} {'page ms':>8} {'x head':>7} | {'get us':>8} {'x head':>7}")
    ways: dict[str, tuple[Store, Way]] = {}

    def sql(kind: str, text: str) -> tuple[Store, Way]:
        db = stores[kind].db
        used = [name for name in ("key", "bound") if f":{name}" in text]
        return stores[kind], lambda p: list(db.execute(text, {n: p[n] for n in used}))

    ways["head"] = sql("none", PAGE_HEAD[kv])
    ways |= {name: sql(kind, text) for name, (kind, text) in PAGES.items() if kind in stores}
    if "linked" in stores:
        ways["linked, Python"] = stores["linked"], lambda p: chase(stores["linked"].db, p)
    gets = {"head": sql("none", PAGE_HEAD[kv].replace("key >= :key", "key = :key"))}
    gets |= {name: sql(kind, text) for name, (kind, text) in GETS.items() if kind in stores}
    starts = [sorted(keys)[rng.randrange(len(keys) * 4 // 5)] for _ in range(4)]
    for age in ages:
        revision = total - age
        bound = (revision << SUB_BITS) | ((1 << SUB_BITS) - 1)
        page_times: dict[str, float] = {}
        get_times: dict[str, float] = {}
        for start in starts:
            params: Params = {"key": start, "bound": bound}
            expected = model.page(revision, start)
            for name, (_, way) in ways.items():
                if name != "head":
                    assert way(params) == expected, f"{name} at age {age} differs from the model"
                seconds = min(timed(partial(way, params), 1) for _ in range(3))
                page_times[name] = page_times.get(name, 0.0) + seconds / len(starts)
        sample = rng.sample(keys, 200)
        at = model.kept[revision]
        for name, (_, way) in gets.items():
            for key in sample if name != "head" else []:
                rows = way({"key": key, "bound": bound})
                assert rows == ([(key, HEAD + at[key])] if key in at else []), name
            wanted: list[Params] = [{"key": key, "bound": bound} for key in sample]
            get_times[name] = timed(partial(each, way, wanted), 2) / len(sample)
        for name in {**page_times, **get_times}:
            line = f"{f'{age} changes back':>20} {name:<16} "
            for times, unit, width in ((page_times, 1e3, 8), (get_times, 1e6, 8)):
                if name in times:
                    line += (
                        f"{times[name] * unit:>{width}.2f} {times[name] / times['head']:>7.1f} | "
                    )
                else:
                    line += f"{'':>{width}} {'':>7} | "
            print(line, flush=True)


def report_writes(stores: list[Store], changes: int) -> None:
    print(f"{'store':<8} {'file MB':>8} {'index MB':>9} {'WAL KiB/put':>12} {'all KiB/put':>12}"
          f" {'us CPU/put':>11}")  # fmt: skip
    for store in stores:
        store.db.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
        file_mb = store.db.pragma("page_count") * store.db.pragma("page_size") / 1e6
        size = "SELECT coalesce(sum(pgsize), 0) FROM dbstat WHERE name LIKE 'history!_%' ESCAPE '!'"
        (index,) = one(store.db, size)
        print(
            f"{store.kind:<8} {file_mb:>8.1f} {index / 1e6:>9.1f}"
            f" {store.wal / changes / 1024:>12.1f} {store.written / changes / 1024:>12.1f}"
            f" {store.cpu / changes * 1e6:>11.1f}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keys", nargs="+", type=int, default=[5_000, 50_000])
    parser.add_argument("--changes", type=int, default=300_000)
    parser.add_argument("--value-size", type=int, default=1024)
    parser.add_argument("--page-size", type=int, default=4096)
    parser.add_argument("--stores", nargs="+", default=list(POINTERS))
    parser.add_argument("--kv", choices=list(KV), default="narrow")
    parser.add_argument("--cache-mib", type=int, default=2)
    parser.add_argument("--mmap-mib", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    ages = [age for age in (1_000, 30_000) if age < options.changes] + [options.changes]
    for count in options.keys:
        keys = make_keys(random.Random(options.seed), count)
        with tempfile.TemporaryDirectory(prefix="kvshim-bench-") as directory:
            stores = [open_store(kind, Path(directory), options) for kind in options.stores]
            print(
                f"\n{count} keys, {options.changes} changes, values of {options.value_size},"
                f" {options.kv} kv, pages of {options.page_size}, cache {options.cache_mib} MiB,"
                f" mmap {options.mmap_mib} MiB"
            )
            model, total = load(stores, keys, options, ages)
            report_writes(stores, options.changes)
            read_ages({store.kind: store for store in stores}, model, keys, total, ages)
            for store in stores:
                store.db.close()


if __name__ == "__main__":
    main()
