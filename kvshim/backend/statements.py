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


class Ranged:
    """A statement over a range of keys, with and without an end."""

    __slots__ = ("_bounded", "_bounded_parameters", "_unbounded", "_unbounded_parameters")

    def __init__(self, bounded: str, unbounded: str) -> None:
        self._bounded, self._bounded_parameters = bounded, _parameters(bounded)
        self._unbounded, self._unbounded_parameters = unbounded, _parameters(unbounded)

    @classmethod
    def of(cls, text: str) -> Ranged:
        """Read a text in which `:range` stands for the condition on the key."""
        return cls(text.replace(":range", _RANGE), text.replace(":range", _FROM_KEY))

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

GET_LIVE_PAIR: Final = f"SELECT CAST({_PAIR} AS BLOB) FROM kv WHERE key = ?1"

GET_LIVE_ROW: Final = """SELECT key, create_revision, id, version, lease, value
    FROM kv WHERE key = ?1"""

# What replacing or deleting a version needs of it.
GET_LIVE_FULL: Final = """SELECT create_revision, id, version, lease, value, head, tail
    FROM kv WHERE key = ?1"""

LIVE_ROWS: Final = Ranged.of("""SELECT key, create_revision, id, version, lease, value
    FROM kv WHERE :range ORDER BY key LIMIT ?4""")

LIVE_FULL: Final = Ranged.of("""SELECT create_revision, id, version, lease, value, head, tail, key
    FROM kv WHERE :range ORDER BY key""")

LIVE_PAIRS: Final = Ranged.of(
    f"SELECT key, CAST({_PAIR} AS BLOB) FROM kv WHERE :range ORDER BY key LIMIT ?4"
)

# One row instead of one Python object per key, and no GIL while SQLite joins: measured 1.4 times
# as fast as fetching the pairs and joining them in Python.
LIVE_CHUNK: Final = Ranged.of(f"""SELECT CAST(group_concat({_PAIR}, '') AS BLOB), count(*), max(key)
    FROM (SELECT key, head, value, tail FROM kv WHERE :range ORDER BY key LIMIT ?4)""")

LIVE_COUNT: Final = Ranged.of("SELECT count(*) FROM kv WHERE :range")

# `length` of a BLOB column needs no byte of its value.
LIVE_SIZE: Final = Ranged.of("""SELECT
    coalesce(sum(length(head) + length(value) + length(tail)), 0), count(*)
    FROM (SELECT key, head, value, tail FROM kv WHERE :range ORDER BY key LIMIT ?4)""")

# --- an older revision -------------------------------------------------------------------------

_SEEK: Final = """(SELECT s.id FROM history s WHERE s.key = h.key AND s.id <= ?3
    ORDER BY s.id DESC LIMIT 1)"""

GET_PAIR_AT: Final = f"""SELECT CAST({_PAIR} AS BLOB) FROM history
    WHERE deleted = 0 AND id = (SELECT id FROM history WHERE key = ?1 AND id <= ?3
        ORDER BY id DESC LIMIT 1)"""

GET_ROW_AT: Final = """SELECT key, create_revision, id, version, lease, value FROM history
    WHERE deleted = 0 AND id = (SELECT id FROM history WHERE key = ?1 AND id <= ?3
        ORDER BY id DESC LIMIT 1)"""

# Live keys and tombstones merged by key name every key that may have been alive then. A key that
# has not changed since is answered from `kv`, whose rows lie side by side; only a changed one
# costs a seek in the index. `LIMIT -1` forbids SQLite to drop the inner ORDER BY, which makes the
# merge: with a sort outside instead, a page would cost the whole range.
_AT: Final = f"""SELECT h.key AS key,
        CASE WHEN h.id <= ?3 THEN h.create_revision ELSE v.create_revision END AS create_revision,
        CASE WHEN h.id <= ?3 THEN h.id ELSE v.id END AS id,
        CASE WHEN h.id <= ?3 THEN h.version ELSE v.version END AS version,
        CASE WHEN h.id <= ?3 THEN h.lease ELSE v.lease END AS lease,
        CASE WHEN h.id <= ?3 THEN h.head ELSE v.head END AS head,
        CASE WHEN h.id <= ?3 THEN h.value ELSE v.value END AS value,
        CASE WHEN h.id <= ?3 THEN h.tail ELSE v.tail END AS tail
    FROM (SELECT key, create_revision, id, version, lease, head, value, tail, 0 AS deleted
            FROM kv WHERE :range
        UNION ALL
        SELECT key, 0, id, 0, 0, NULL, NULL, NULL, 1 FROM tombstones WHERE :range
        ORDER BY key LIMIT -1) h
    LEFT JOIN history v ON h.id > ?3 AND v.id = {_SEEK}
    WHERE CASE WHEN h.id <= ?3 THEN h.deleted = 0 ELSE v.deleted = 0 END
    LIMIT ?4"""

ROWS_AT: Final = Ranged.of(f"SELECT key, create_revision, id, version, lease, value FROM ({_AT})")

PAIRS_AT: Final = Ranged.of(f"SELECT key, CAST({_PAIR} AS BLOB) FROM ({_AT})")

CHUNK_AT: Final = Ranged.of(
    f"SELECT CAST(group_concat({_PAIR}, '') AS BLOB), count(*), max(key) FROM ({_AT})"
)

SIZE_AT: Final = Ranged.of(f"""SELECT
    coalesce(sum(length(head) + length(value) + length(tail)), 0), count(*) FROM ({_AT})""")

COUNT_AT: Final = Ranged.of("""SELECT
    (SELECT count(*) FROM kv WHERE :range AND id <= ?3)
    + (SELECT count(*) FROM (SELECT key FROM kv WHERE :range AND id > ?3
            UNION ALL SELECT key FROM tombstones WHERE :range AND id > ?3) h
        WHERE (SELECT s.deleted FROM history s WHERE s.key = h.key AND s.id <= ?3
            ORDER BY s.id DESC LIMIT 1) = 0)""")

# --- events of past revisions: ?3 first id, ?4 last id --------------------------------------------

# The version before an event is the newest one of an older main revision; a create has none.
_EVENTS: Final = """SELECT h.id, h.key, h.deleted, h.create_revision,
        CAST(h.head || h.value || h.tail AS BLOB),
        CASE WHEN p.deleted = 0 THEN CAST(p.head || p.value || p.tail AS BLOB) END
    FROM history h {index} LEFT JOIN history p
        ON (h.deleted OR h.create_revision < h.id >> 24)
        AND p.id = (SELECT s.id FROM history s WHERE s.key = h.key AND s.id < h.id >> 24 << 24
            ORDER BY s.id DESC LIMIT 1)
    WHERE {condition} AND h.id >= ?3 AND h.id <= ?4 ORDER BY h.id"""

# Along the ids: the unary plus keeps SQLite from walking the index and sorting afterwards.
EVENTS_IN_RANGE: Final = Ranged(
    _EVENTS.format(index="NOT INDEXED", condition="+h.key >= ?1 AND +h.key < ?2"),
    _EVENTS.format(index="NOT INDEXED", condition="+h.key >= ?1"),
)

# One key's events lie side by side in the index, in order.
EVENTS_OF_KEY: Final = _EVENTS.format(
    index="INDEXED BY history_key", condition="h.key = ?1 AND ?2 IS NOT NULL"
)

# --- changes -------------------------------------------------------------------------------------

INSERT_LIVE: Final = """INSERT INTO kv
    (create_revision, id, version, lease, head, tail, value, key)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?)"""

UPDATE_LIVE: Final = """UPDATE kv SET id = ?, version = ?, lease = ?, head = ?, tail = ?, value = ?
    WHERE key = ?"""

DELETE_LIVE: Final = "DELETE FROM kv WHERE key = ?1"

DELETE_LIVE_RANGE: Final = Ranged.of("DELETE FROM kv WHERE :range")

INSERT_HISTORY: Final = """INSERT INTO history
    (id, key, create_revision, version, lease, deleted, head, tail, value)
    VALUES (?, ?, ?, ?, ?, 0, ?, ?, ?)"""

INSERT_DELETION: Final = """INSERT INTO history
    (id, key, create_revision, version, lease, deleted, head, tail, value)
    VALUES (?, ?, 0, 0, 0, 1, ?, x'', x'')"""

PUT_TOMBSTONE: Final = "INSERT OR REPLACE INTO tombstones VALUES (?, ?)"

DELETE_TOMBSTONE: Final = "DELETE FROM tombstones WHERE key = ?1"

# --- physical compaction -------------------------------------------------------------------------

# The next versions that the compaction looks at, in order: ?1 from, ?2 to, ?3 how many.
COMPACTION_ROWS: Final = """SELECT id, key, deleted FROM history
    WHERE id >= ?1 AND id <= ?2 ORDER BY id LIMIT ?3"""

# The version that the one with id ?2 replaced: the only older one that is left.
DELETE_REPLACED: Final = "DELETE FROM history WHERE key = ?1 AND id < ?2"

DELETE_VERSION: Final = "DELETE FROM history WHERE id = ?1"

# Only if it is still this deletion that the key's tombstone stands for.
DELETE_TOMBSTONE_OF: Final = "DELETE FROM tombstones WHERE key = ?1 AND id = ?2"

# --- hashing ---------------------------------------------------------------------------------

ANY_ALIVE: Final = """SELECT EXISTS (SELECT 1 FROM history h WHERE h.id <= ?1 AND h.deleted = 0
    AND NOT EXISTS (SELECT 1 FROM history n WHERE n.key = h.key AND n.id > h.id AND n.id <= ?1))"""

# Up to the compact revision only what is still alive at ?3 counts, whether or not the physical
# compaction has come by yet.
HASHED_VERSIONS: Final = """SELECT id, key, deleted, head, value, tail FROM history h
    WHERE id <= ?2 AND (id > ?1 OR (deleted = 0 AND NOT EXISTS (
        SELECT 1 FROM history n WHERE n.key = h.key AND n.id > h.id AND n.id <= ?3)))
    ORDER BY id"""
