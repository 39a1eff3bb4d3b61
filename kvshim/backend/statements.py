"""The statements on keys and their versions, each with the reason for its shape.

Parameters are numbered alike everywhere: ?1 first key, ?2 end of the range, ?3 the last id that
the read may see (`backend.ids.last_id`), ?4 the largest number of rows, -1 for all. Statements
over a range exist twice, because `key < ?2` must be in the text for SQLite to stop the scan there.
"""

from __future__ import annotations

import re
from typing import Final

from kvshim.types import KeyRange

_RANGE: Final = "key >= ?1 AND key < ?2"
_FROM_KEY: Final = "key >= ?1"

Binding = bytes | int | None


def _parameters(text: str) -> int:
    return max(int(number) for number in re.findall(r"\?(\d)", text))


def _with_range(text: str, condition: str) -> str:
    return re.sub(r"(\w+\.|):range", lambda table: condition.replace("key", f"{table[1]}key"), text)


class Ranged:
    """A statement over a range of keys, with and without an end."""

    __slots__ = ("_bounded", "_bounded_parameters", "_unbounded", "_unbounded_parameters")

    def __init__(self, bounded: str, unbounded: str) -> None:
        self._bounded, self._bounded_parameters = bounded, _parameters(bounded)
        self._unbounded, self._unbounded_parameters = unbounded, _parameters(unbounded)

    @classmethod
    def of(cls, text: str) -> Ranged:
        """Read a text in which `:range`, or `t.:range`, stands for the condition on the key."""
        return cls(_with_range(text, _RANGE), _with_range(text, _FROM_KEY))

    def bind(
        self, keys: KeyRange, third: Binding = None, fourth: Binding = None
    ) -> tuple[str, tuple[Binding, ...]]:
        """The text for this range and its parameters."""
        parameters = (keys.start, keys.end, third, fourth)
        if keys.end is None:
            return self._unbounded, parameters[: self._unbounded_parameters]
        return self._bounded, parameters[: self._bounded_parameters]


# --- the live keyspace -------------------------------------------------------------------------

_PAIR: Final = "head || value || tail"
_COLUMNS: Final = "v.key, v.create_id, v.id, v.version, v.lease, v.value"

# CROSS JOIN fixes the order: along the keys, one look-up in `history` for each.
_LIVE: Final = """FROM kv k CROSS JOIN history v ON v.id = k.id
    WHERE k.:range ORDER BY k.key LIMIT ?4"""

GET_LIVE_PAIR: Final = f"""SELECT CAST({_PAIR} AS BLOB) FROM history
    WHERE id = (SELECT id FROM kv WHERE key = ?1)"""

GET_LIVE_ROW: Final = f"""SELECT {_COLUMNS} FROM history v
    WHERE id = (SELECT id FROM kv WHERE key = ?1)"""

# What replacing a version needs of it, and what its event shows.
GET_LIVE_FULL: Final = """SELECT create_id, id, version, lease, value, head, tail FROM history
    WHERE id = (SELECT id FROM kv WHERE key = ?1)"""

LIVE_ROWS: Final = Ranged.of(f"SELECT {_COLUMNS} {_LIVE}")

LIVE_FULL: Final = Ranged.of(f"""SELECT v.create_id, v.id, v.version, v.lease, v.value, v.head,
    v.tail, v.key {_LIVE}""")

# Without values: sorting, filtering and lists of keys do not touch `history`.
LIVE_BARE: Final = Ranged.of("""SELECT key, create_id, id, version, lease, x''
    FROM kv WHERE :range ORDER BY key LIMIT ?4""")

GET_PAIR: Final = f"SELECT CAST({_PAIR} AS BLOB) FROM history WHERE id = ?1"

# One row instead of one Python object per key, and no GIL while SQLite joins: measured 1.4 times
# as fast as fetching the pairs and joining them in Python. The range is all of the chunk, so that
# no inner SELECT copies each value once more; `kv` is walked along its key, which the tests hold
# SQLite to. Few keys have a lease, and so a tail.
LIVE_CHUNK: Final = Ranged.of("""SELECT CAST(group_concat(
        CASE WHEN v.tail = x'' THEN v.head || v.value ELSE v.head || v.value || v.tail END, ''
    ) AS BLOB)
    FROM kv k CROSS JOIN history v ON v.id = k.id WHERE k.:range""")

LIVE_COUNT: Final = Ranged.of("SELECT count(*) FROM kv WHERE :range")

LIVE_EXTENT: Final = Ranged.of("""SELECT coalesce(sum(size), 0), count(*), max(key)
    FROM (SELECT key, size FROM kv WHERE :range ORDER BY key LIMIT ?4)""")

# --- an older revision -------------------------------------------------------------------------

# The lives that a revision falls into: at most one of each key, so the two halves never meet. The
# newest version of an ended life is its deletion, which lies behind the revision.
_LIVES: Final = """SELECT key, create_id, id, size FROM kv WHERE :range AND create_id <= ?3
    UNION ALL SELECT key, create_id, delete_id, 0 FROM ended
        WHERE :range AND create_id <= ?3 AND delete_id > ?3"""

# A life that has not changed since is at its newest version; any other costs one seek.
_VERSION_AT: Final = """CASE WHEN l.id <= ?3 THEN l.id ELSE (SELECT s.id FROM history s
    WHERE s.create_id = l.create_id AND s.id <= ?3 ORDER BY s.id DESC LIMIT 1) END"""

# `LIMIT -1` forbids SQLite to drop the inner ORDER BY, which merges the two halves by key as they
# are read: sorted outside instead, a page would cost the whole range.
_AT: Final = f"""FROM ({_LIVES} ORDER BY key LIMIT -1) l
    CROSS JOIN history v ON v.id = {_VERSION_AT} LIMIT ?4"""

_GET_AT: Final = f"""FROM ({_LIVES.replace(":range", "key = ?1")}) l
    CROSS JOIN history v ON v.id = {_VERSION_AT}"""

GET_PAIR_AT: Final = f"SELECT CAST({_PAIR} AS BLOB) {_GET_AT}"

GET_ROW_AT: Final = f"SELECT {_COLUMNS} {_GET_AT}"

ROWS_AT: Final = Ranged.of(f"SELECT {_COLUMNS} {_AT}")

BARE_AT: Final = Ranged.of(f"""SELECT v.key, v.create_id, v.id, v.version, v.lease, x'' {_AT}""")

CHUNK_AT: Final = Ranged.of(f"""SELECT CAST(group_concat({_PAIR}, '') AS BLOB)
    FROM (SELECT v.head, v.value, v.tail {_AT})""")

# `length` of a BLOB column needs no byte of its value.
EXTENT_AT: Final = Ranged.of(f"""SELECT coalesce(sum(CASE WHEN id <= ?3 THEN size ELSE
        (SELECT length(s.head) + length(s.value) + length(s.tail) FROM history s
            WHERE s.create_id = l.create_id AND s.id <= ?3 ORDER BY s.id DESC LIMIT 1) END), 0),
    count(*), max(key) FROM (SELECT * FROM ({_LIVES}) ORDER BY key LIMIT ?4) l""")

COUNT_AT: Final = Ranged.of(f"SELECT count(*) FROM ({_LIVES})")

# --- events of past revisions: ?3 first id, ?4 last id -------------------------------------------

# The version before an event is the newest one of the same life and an older main revision.
_EVENTS: Final = """SELECT h.id, h.key, h.deleted, h.create_id,
        CAST(h.head || h.value || h.tail AS BLOB), CAST(p.head || p.value || p.tail AS BLOB)
    FROM {source} LEFT JOIN history p
        ON p.id = (SELECT s.id FROM history s
            WHERE s.create_id = h.create_id AND s.id < h.id >> 24 << 24
            ORDER BY s.id DESC LIMIT 1)
    WHERE {condition} AND h.id >= ?3 AND h.id <= ?4 ORDER BY h.id"""

EVENTS_IN_RANGE: Final = Ranged.of(
    _EVENTS.format(source="history h NOT INDEXED", condition="h.:range")
)

# A key's events are those of its lives, which are few even where the store has changed a lot.
EVENTS_OF_KEY: Final = _EVENTS.format(
    source="""(SELECT create_id FROM kv WHERE key = ?1 AND ?2 IS NOT NULL
            UNION ALL SELECT create_id FROM ended WHERE key = ?1) l
        CROSS JOIN history h INDEXED BY history_life""",
    condition="h.create_id = l.create_id",
)

# --- changes -------------------------------------------------------------------------------------

INSERT_LIVE: Final = """INSERT INTO kv (key, create_id, id, version, lease, size)
    VALUES (?, ?, ?, ?, ?, ?)"""

UPDATE_LIVE: Final = "UPDATE kv SET id = ?, version = ?, lease = ?, size = ? WHERE key = ?"

DELETE_LIVE_RANGE: Final = Ranged.of("DELETE FROM kv WHERE :range")

INSERT_HISTORY: Final = """INSERT INTO history
    (id, create_id, version, lease, deleted, crc, key, head, tail, value)
    VALUES (?, ?, ?, ?, 0, ?, ?, ?, ?, ?)"""

INSERT_DELETION: Final = """INSERT INTO history
    (id, create_id, version, lease, deleted, crc, key, head, tail, value)
    VALUES (?, ?, 0, 0, 1, ?, ?, ?, x'', x'')"""

INSERT_ENDED: Final = "INSERT INTO ended VALUES (?, ?, ?)"

# --- versions that another store has made: ?1 the first, ?2 the last id of a revision -------------

COUNT_VERSIONS: Final = "SELECT count(*) FROM history"

GET_LIFE: Final = "SELECT create_id, version FROM kv WHERE key = ?1"

NEWEST_AT: Final = "SELECT max(id) FROM history WHERE id >= ?1 AND id <= ?2"

OLDEST_LIFE_AT: Final = """SELECT min(create_id) FROM history INDEXED BY history_life
    WHERE create_id >= ?1 AND create_id <= ?2"""

# --- physical compaction -------------------------------------------------------------------------

# The next versions that the compaction looks at, in order: ?1 from, ?2 to, ?3 how many.
COMPACTION_ROWS: Final = """SELECT id, create_id, deleted, key FROM history
    WHERE id >= ?1 AND id <= ?2 ORDER BY id LIMIT ?3"""

# The version that the one with id ?2 replaced: the only older one of its life that is left.
DELETE_REPLACED: Final = "DELETE FROM history WHERE create_id = ?1 AND id < ?2"

DELETE_VERSION: Final = "DELETE FROM history WHERE id = ?1"

DELETE_ENDED: Final = "DELETE FROM ended WHERE key = ?1 AND create_id = ?2"

# --- scrubbing: ?1 where the last slice ended, ?2 how many rows -----------------------------------

# The rows as the table has them, and whether the index agrees.
SCRUB_VERSIONS: Final = """SELECT id, create_id, version, lease, deleted, crc,
    CAST(key AS BLOB), CAST(head AS BLOB), CAST(tail AS BLOB), CAST(value AS BLOB),
    EXISTS (SELECT 1 FROM history i INDEXED BY history_life
        WHERE i.create_id = h.create_id AND i.id = h.id)
    FROM history h NOT INDEXED WHERE id > ?1 ORDER BY id LIMIT ?2"""

# Live keys beside the versions that they name.
SCRUB_LIVE: Final = """SELECT k.key, v.key IS k.key AND v.create_id IS k.create_id
        AND v.version IS k.version AND v.lease IS k.lease AND v.deleted IS 0
        AND length(v.head) + length(v.value) + length(v.tail) IS k.size
    FROM kv k LEFT JOIN history v ON v.id = k.id WHERE k.key > ?1 ORDER BY k.key LIMIT ?2"""

# --- hashing: ?1 last id of the compact revision, ?2 of the one hashed, ?3 of "alive at", ---------
# --- ?4 where the last slice ended

ANY_ALIVE: Final = """SELECT EXISTS (SELECT 1 FROM kv WHERE create_id <= ?1)
    OR EXISTS (SELECT 1 FROM ended WHERE create_id <= ?1 AND delete_id > ?1)"""

# A deletion at a revision: ?1 the first, ?2 the last id of it.
ANY_DELETED: Final = """SELECT EXISTS (SELECT 1 FROM history
    WHERE id >= ?1 AND id <= ?2 AND deleted)"""

# Where a slice that looks at ?3 versions ends: what it skips costs time too.
NTH_VERSION: Final = """SELECT max(id) FROM (SELECT id FROM history
    WHERE id > ?1 AND id <= ?2 ORDER BY id LIMIT ?3)"""

# Up to the compact revision only what is still alive at ?3 counts, whether or not the physical
# compaction has come by yet.
HASHED_VERSIONS: Final = """SELECT id, key, deleted, head, value, tail FROM history h
    WHERE id > ?4 AND id <= ?2 AND (id > ?1 OR (deleted = 0 AND NOT EXISTS (SELECT 1 FROM history n
        WHERE n.create_id = h.create_id AND n.id > h.id AND n.id <= ?3)))
    ORDER BY id"""

# What a finished compaction leaves of the versions up to ?4, in order: whatever is behind the
# compact revision, the deletions made at it (?1 its first id, ?2 its last), and what is alive
# there. ?3 where the last slice ended. The key is told of deletions only.
EXPORTED_VERSIONS: Final = """SELECT id, CASE WHEN deleted THEN key END,
        CAST(head || value || tail AS BLOB) FROM history h
    WHERE id > ?3 AND id <= ?4 AND (id > ?2 OR CASE WHEN deleted THEN id >= ?1
        ELSE NOT EXISTS (SELECT 1 FROM history n
            WHERE n.create_id = h.create_id AND n.id > h.id AND n.id <= ?2) END)
    ORDER BY id"""
