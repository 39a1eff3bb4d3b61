"""How many members of a cluster formed by joining vote, and how many more hold the data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

VOTERS_MAX: Final = 9
"""Each write waits for a majority: more voters survive little more, and cost each write."""
STANDBYS_MAX: Final = 20


@dataclass(frozen=True, slots=True)
class RoleNumbers:
    """What is wanted; a small cluster has fewer."""

    voters: int = 3
    standbys: int = 2

    def problem(self) -> str:
        """What is wrong with them, as a sentence; empty if nothing."""
        if not (1 <= self.voters <= VOTERS_MAX and self.voters % 2):
            return f"--voters={self.voters} must be odd, from 1 to {VOTERS_MAX}"
        if not 0 <= self.standbys <= STANDBYS_MAX:
            return f"--standbys={self.standbys} must be from 0 to {STANDBYS_MAX}"
        return ""


ROLE_NUMBERS_DEFAULT: Final = RoleNumbers()
