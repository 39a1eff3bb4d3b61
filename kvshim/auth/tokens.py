"""Simple tokens: names of logins that every member remembers, until nobody has used them a while.

A login goes through the log, so that all members make the same token; each forgets it by its own
clock, as in etcd (`server/auth/simple_token.go`). Written by the apply thread, read by the event
loop.
"""

from __future__ import annotations

import secrets
import string
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

PREFIX_LETTERS: Final = 16
TTL_SECONDS_DEFAULT: Final = 300.0

TOKENS_MAX: Final = 100_000
"""Tokens remembered: then the one unused for longest goes. etcd has no bound."""


def new_prefix() -> str:
    """The secret part of a token, 91 bits."""
    return "".join(secrets.choice(string.ascii_letters) for _ in range(PREFIX_LETTERS))


def index_of(token: str) -> int | None:
    """The log entry that a simple token says it was made by; None when it is no simple token."""
    _, dot, index = token.partition(".")
    if not dot or not (index.isascii() and index.isdigit()) or len(index) > 20:
        return None
    number = int(index)
    return number if number < 1 << 64 else None


class SimpleTokens:
    """Token -> user. The order is that of last use, and so of expiry."""

    def __init__(
        self,
        ttl_seconds: float = TTL_SECONDS_DEFAULT,
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self.ttl_seconds = ttl_seconds
        self._now = now
        self._lock = threading.Lock()
        self._tokens: OrderedDict[str, tuple[str, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._tokens)

    def assign(self, token: str, user: str) -> None:
        """Remember a login."""
        now = self._now()
        with self._lock:
            self._forget_old(now)
            self._tokens[token] = (user, now + self.ttl_seconds)
            if len(self._tokens) > TOKENS_MAX:
                self._tokens.popitem(last=False)

    def use(self, token: str) -> str | None:
        """Whose token it is, and let it live on; None when it is not known, or no longer."""
        now = self._now()
        with self._lock:
            self._forget_old(now)
            found = self._tokens.get(token)
            if found is None:
                return None
            self._tokens[token] = (found[0], now + self.ttl_seconds)
            self._tokens.move_to_end(token)
            return found[0]

    def forget_user(self, user: str) -> None:
        """All logins of a user end."""
        with self._lock:
            for token in [token for token, (name, _) in self._tokens.items() if name == user]:
                del self._tokens[token]

    def clear(self) -> None:
        """All logins end."""
        with self._lock:
            self._tokens.clear()

    def _forget_old(self, now: float) -> None:
        while self._tokens:
            token, (_, expires) = next(iter(self._tokens.items()))
            if expires > now:
                return
            del self._tokens[token]
