"""Where this member's present users, permissions and tokens are found, by every thread."""

from __future__ import annotations

from kvshim.auth.state import AuthState
from kvshim.auth.tokens import SimpleTokens


class AuthBook:
    """The apply thread puts a new `state` in place before it says that the entry is applied, so
    whoever has waited for an entry finds what it changed. Reading `state` takes no lock."""

    __slots__ = ("state", "tokens")

    def __init__(self, state: AuthState) -> None:
        self.state = state
        self.tokens = SimpleTokens()
