"""Small records of the store beside keys. Plain values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from kvshim.types import LeaseID, Revision


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """A lease as it is replicated; times in seconds, `remaining_ttl` 0 when never checkpointed."""

    id: LeaseID
    ttl: int
    remaining_ttl: int = 0


class KeyValueHash(NamedTuple):
    """HashKV's answer: versions above `compact_revision` and up to `hash_revision` all count."""

    hash: int
    compact_revision: Revision
    hash_revision: Revision


class AuthRecords(NamedTuple):
    """Users and roles as they are replicated: encoded `authpb.User` and `authpb.Role`, by name."""

    enabled: bool
    revision: int
    users: list[bytes]
    roles: list[bytes]
