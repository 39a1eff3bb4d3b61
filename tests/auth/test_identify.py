"""Who calls, at a member that lags behind the one that logged the caller in."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from kvshim.auth.book import AuthBook
from kvshim.auth.state import AuthState
from kvshim.config.model import AuthConfig, TokenKind
from kvshim.server.authenticator import Authenticator

LOGIN = 70


class Behind:
    """A reader of a member that has not applied the login yet, nor what came before it."""

    def __init__(self, book: AuthBook) -> None:
        self.book = book
        self.applied = LOGIN - 10

    def has_applied(self, index: int) -> bool:
        return self.applied >= index

    async def linearizable(self) -> None:
        self.book.state = self.book.state.changed()
        self.book.tokens.assign(f"secret.{LOGIN}", "bob")
        self.applied = LOGIN


async def test_a_caller_who_was_waited_for_is_known_at_the_revision_that_came_with_him():
    book = AuthBook(AuthState(enabled=True))
    config = AuthConfig(TokenKind.SIMPLE, 300.0, None, 4)
    reader, logger = cast("Any", Behind(book)), cast("Any", None)
    authenticator = Authenticator(book, config, reader, logger, by_certificate=False)
    call = SimpleNamespace(metadata={"token": f"secret.{LOGIN}"}, common_name=None)
    before = book.state.revision
    try:
        who = await authenticator.identify(cast("Any", call))
    finally:
        authenticator.stop()
    assert who is not None
    assert who.user == "bob"
    assert who.revision == book.state.revision == before + 1
