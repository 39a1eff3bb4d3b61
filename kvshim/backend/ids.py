"""How a version's place, (main revision, sub-revision), is one integer in the database.

`id = revision << 24 | sub`: as the INTEGER PRIMARY KEY of `history` it clusters versions in the
order they were made, and it makes "the newest up to revision R" one comparison. 24 bits hold
16.7 million changes in one revision, the other 39 hold 549 thousand million revisions.
"""

from __future__ import annotations

from kvshim.types import Revision

SUB_BITS = 24
SUB_MAX = (1 << SUB_BITS) - 1

REVISION_MAX = (1 << 63 - SUB_BITS) - 1
"""The highest main revision that an id can hold."""


def first_id(revision: int) -> int:
    """The id of the first change of a revision."""
    return revision << SUB_BITS


def last_id(revision: int) -> int:
    """An id that no change of a revision exceeds."""
    return (revision << SUB_BITS) | SUB_MAX


def revision_of(version_id: int) -> Revision:
    """The main revision of an id."""
    return Revision(version_id >> SUB_BITS)


def sub_of(version_id: int) -> int:
    """The sub-revision of an id."""
    return version_id & SUB_MAX
