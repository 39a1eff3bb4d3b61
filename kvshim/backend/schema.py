"""The tables of kv.db and the statements on its small ones: state, leases, alarms, meta.

`history` holds every version, keyed by the integer id of its place (`backend.ids`), its value
stored once. `kv` is the live keyspace in key order, without values: it names each key's newest
version. A *life* of a key runs from a creation to the deletion that ends it, and is named by the
id of its first version; `ended` holds the lives that are over but not compacted, so that with `kv`
it lists every key that was alive at a readable revision. docs/adr/0002 and 0003 have the figures.

`head`, `value` and `tail` laid end to end are the encoded pair, framed as field 2 of a message,
which is where RangeResponse, PutResponse and Event all have it; `crc` is their CRC-32C. A person
with `sqlite3` reads the plain columns beside them, or the view `live`.

Why rows carry the checksum and not pages: SQLite's checksum VFS costs next to nothing, but a plain
`sqlite3` that opens the store of a crashed node copies the WAL back without it when it closes, and
from then on sound pages read as damaged.
"""

from __future__ import annotations

from typing import Final

APPLICATION_ID: Final = 0x6B767368
"""`kvsh`: tells kv.db from any other SQLite file."""

FIRST_FORMAT_VERSION: Final = 1
"""What a new store begins at. `user_version` is the cluster version that the store is of, raised by
the log; a store of a newer one than `FORMAT_VERSION` is refused."""

# `tail` and `head` come before `value`: a column behind a large value costs a walk along its
# overflow pages. Virtual columns cost nothing until somebody reads them. `kv` has all that a count,
# a list of keys or the length of a response (`size`: bytes of the framed pair) needs, so none of
# them touches `history`.
CREATE_TABLES: Final = (
    """CREATE TABLE kv (
        key BLOB NOT NULL PRIMARY KEY,
        create_id INTEGER NOT NULL,
        id INTEGER NOT NULL,
        version INTEGER NOT NULL,
        lease INTEGER NOT NULL,
        size INTEGER NOT NULL,
        create_revision INTEGER GENERATED ALWAYS AS (create_id >> 24) VIRTUAL,
        mod_revision INTEGER GENERATED ALWAYS AS (id >> 24) VIRTUAL
    ) WITHOUT ROWID""",
    # A lease's keys in key order; keys without a lease, which are nearly all, are not in it.
    "CREATE INDEX kv_lease ON kv(lease, key) WHERE lease <> 0",
    """CREATE TABLE history (
        id INTEGER PRIMARY KEY,
        create_id INTEGER NOT NULL,
        version INTEGER NOT NULL,
        lease INTEGER NOT NULL,
        deleted INTEGER NOT NULL,
        crc INTEGER NOT NULL,
        key BLOB NOT NULL,
        head BLOB NOT NULL,
        tail BLOB NOT NULL,
        value BLOB NOT NULL,
        revision INTEGER GENERATED ALWAYS AS (id >> 24) VIRTUAL,
        sub INTEGER GENERATED ALWAYS AS (id & 16777215) VIRTUAL
    )""",
    # SQLite appends the row's id, so this finds a life's newest version up to an id in one seek.
    "CREATE INDEX history_life ON history(create_id)",
    """CREATE TABLE ended (
        key BLOB NOT NULL,
        create_id INTEGER NOT NULL,
        delete_id INTEGER NOT NULL,
        PRIMARY KEY (key, create_id)
    ) WITHOUT ROWID""",
    """CREATE VIEW live AS
        SELECT key, kv.create_revision, kv.mod_revision, kv.version, kv.lease, value
        FROM kv JOIN history USING (id, key)""",
    """CREATE TABLE leases (
        id INTEGER PRIMARY KEY, ttl INTEGER NOT NULL, remaining_ttl INTEGER NOT NULL
    )""",
    """CREATE TABLE alarms (
        member INTEGER NOT NULL, type INTEGER NOT NULL, PRIMARY KEY (member, type)
    ) WITHOUT ROWID""",
    "CREATE TABLE meta (name TEXT NOT NULL PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID",
    # One row, so that a read learns all of it from the first statement of its snapshot.
    # compacted: the last revision whose compaction is physically finished; while one is under way
    # compact_target is its revision and compact_cursor the first history id not yet looked at.
    """CREATE TABLE state (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        revision INTEGER NOT NULL,
        compact_revision INTEGER NOT NULL,
        applied_index INTEGER NOT NULL,
        applied_term INTEGER NOT NULL,
        compacted INTEGER NOT NULL,
        compact_target INTEGER NOT NULL,
        compact_cursor INTEGER NOT NULL
    )""",
    # An empty store is at revision 1; -1 lets Compact(0) succeed once, as in etcd.
    "INSERT INTO state VALUES (1, 1, -1, 0, 0, -1, -1, 0)",
)

# Made by the first command that changes users, in its own transaction; the cluster version, and so
# `user_version`, is 4 or more by then. `user` and `role` are the
# messages of package authpb, as etcd keeps them; passwords are bcrypt hashes.
CREATE_AUTH: Final = (
    """CREATE TABLE auth (
        one INTEGER PRIMARY KEY CHECK (one = 1),
        enabled INTEGER NOT NULL,
        revision INTEGER NOT NULL
    )""",
    "CREATE TABLE auth_users (name BLOB NOT NULL PRIMARY KEY, user BLOB NOT NULL) WITHOUT ROWID",
    "CREATE TABLE auth_roles (name BLOB NOT NULL PRIMARY KEY, role BLOB NOT NULL) WITHOUT ROWID",
)

READ_STATE: Final = """SELECT revision, compact_revision, applied_index, applied_term,
    compacted, compact_target, compact_cursor FROM state"""

WRITE_STATE: Final = """UPDATE state SET revision = ?, compact_revision = ?,
    applied_index = ?, applied_term = ?"""

WRITE_COMPACTION: Final = "UPDATE state SET compacted = ?, compact_target = ?, compact_cursor = ?"

ALL_LEASES: Final = "SELECT id, ttl, remaining_ttl FROM leases ORDER BY id"
ONE_LEASE: Final = "SELECT id, ttl, remaining_ttl FROM leases WHERE id = ?"
PUT_LEASE: Final = "INSERT OR REPLACE INTO leases VALUES (?, ?, ?)"
DELETE_LEASE: Final = "DELETE FROM leases WHERE id = ?"
# `lease <> 0` is what lets SQLite use the partial index.
LEASE_KEYS: Final = "SELECT key FROM kv WHERE lease = ? AND lease <> 0 ORDER BY key"

ALL_ALARMS: Final = "SELECT member, type FROM alarms"
PUT_ALARM: Final = "INSERT OR IGNORE INTO alarms VALUES (?, ?)"
DELETE_ALARM: Final = "DELETE FROM alarms WHERE member = ? AND type = ?"

READ_FORMAT_VERSION: Final = "PRAGMA user_version"

GET_META: Final = "SELECT value FROM meta WHERE name = ?"
PUT_META: Final = "INSERT OR REPLACE INTO meta VALUES (?, ?)"

HAS_AUTH: Final = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'auth'"
GET_AUTH: Final = "SELECT enabled, revision FROM auth"
PUT_AUTH: Final = "INSERT OR REPLACE INTO auth VALUES (1, ?, ?)"
ALL_USERS: Final = "SELECT user FROM auth_users ORDER BY name"
PUT_USER: Final = "INSERT OR REPLACE INTO auth_users VALUES (?, ?)"
DELETE_USER: Final = "DELETE FROM auth_users WHERE name = ?"
ALL_ROLES: Final = "SELECT role FROM auth_roles ORDER BY name"
PUT_ROLE: Final = "INSERT OR REPLACE INTO auth_roles VALUES (?, ?)"
DELETE_ROLE: Final = "DELETE FROM auth_roles WHERE name = ?"


def write_format_version(version: int) -> str:
    """Part of the transaction that runs it; a pragma takes no bound parameter."""
    return f"PRAGMA user_version = {version:d}"
