"""Small records of the store beside keys. Plain values."""

from __future__ import annotations

from dataclasses import dataclass

from kvshim.types import LeaseID


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """A lease as it is replicated; times in seconds, `remaining_ttl` 0 when never checkpointed."""

    id: LeaseID
    ttl: int
    remaining_ttl: int = 0
