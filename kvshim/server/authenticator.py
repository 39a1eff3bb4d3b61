"""Who calls: by a token, or by the certificate of the connection; and giving out tokens.

As etcd finds out (`server/auth/store.go`, `server/etcdserver/v3_server.go`). Passwords are hashed
on a few threads of their own with a bounded queue, so that logins delay nothing else. Neither
passwords nor tokens are ever logged. Event loop.
"""

from __future__ import annotations

import asyncio
import os
import threading
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING, Final, TypeVar

from kvshim.auth.book import AuthBook
from kvshim.auth.passwords import hash_password, password_matches
from kvshim.auth.state import Identity
from kvshim.auth.tokens import index_of, new_prefix
from kvshim.config import AuthConfig, TokenKind
from kvshim.errors import (
    AuthFailed,
    AuthNotEnabled,
    InvalidAuthToken,
    NoPasswordUser,
    RequestError,
    TooManyRequests,
    UserEmpty,
)
from kvshim.logs import Event, Logger
from kvshim.pb.kvshim.command_pb2 import LoginResponse
from kvshim.rpc import Call
from kvshim.server.reader import Reader

if TYPE_CHECKING:
    from kvshim.auth.signed_tokens import SignedTokens

HASH_THREADS: Final = max(1, (os.cpu_count() or 2) // 2)
HASHES_WAITING_MAX: Final = 128
"""Passwords being hashed or waiting for it; at the default cost the last waits some seconds."""

NICENESS: Final = 5
"""Of the threads that hash: consensus and answers go first."""

NAME_CHARACTERS_LOGGED: Final = 64

_T = TypeVar("_T")


class Authenticator:
    """Identifies callers while authentication is on. Raises `StartupError` for unusable keys.

    `by_certificate` is etcd's `--client-cert-auth`: a caller without a token is the user whom the
    client certificate names.
    """

    def __init__(
        self,
        book: AuthBook,
        config: AuthConfig,
        reader: Reader,
        logger: Logger,
        *,
        by_certificate: bool,
    ) -> None:
        self.book = book
        book.tokens.ttl_seconds = config.simple_ttl_s
        self._reader = reader
        self._logger = logger
        self._kind = config.kind
        self._cost = config.bcrypt_cost
        self._signed: SignedTokens | None = None
        if config.signed is not None:
            from kvshim.auth.signed_tokens import SignedTokens

            self._signed = SignedTokens(config.signed)
        self._by_certificate = by_certificate
        self._hashers = ThreadPoolExecutor(HASH_THREADS, "password", _be_nice)
        self._hashing = 0

    def stop(self) -> None:
        """Hash no more."""
        self._hashers.shutdown(wait=False, cancel_futures=True)

    # --- who calls -----------------------------------------------------------------------------

    async def identify(self, call: Call) -> Identity | None:
        """Whose call it is; None for one that does not say. Raises `InvalidAuthToken`."""
        token = call.metadata.get("token")
        if token is None:
            token = call.metadata.get("authorization")
        if token is not None:
            return await self._owner(token.removeprefix("Bearer "))
        name = call.common_name if self._by_certificate else None
        return None if name is None else Identity(name, self.book.state.revision)

    async def require(self, call: Call) -> Identity:
        """Whose call it is. Raises `UserEmpty` for one that does not say."""
        who = await self.identify(call)
        if who is None:
            raise UserEmpty
        return who

    async def require_admin(self, call: Call) -> None:
        """Raise unless the caller has the role root."""
        self.book.state.check_admin(await self.identify(call))

    async def _owner(self, token: str) -> Identity:
        if self._signed is not None:
            return self._signed.read(token)
        index = index_of(token)
        if index is None or self._kind is TokenKind.NONE:
            raise InvalidAuthToken
        if not self._reader.has_applied(index):
            # Made by a login at another member: what was answered there has then come here.
            with suppress(RequestError):
                await self._reader.linearizable()
        revision = self.book.state.revision  # after the wait, in which it may have risen
        user = self.book.tokens.use(token)
        if user is None:
            raise InvalidAuthToken
        return Identity(user, revision)

    # --- logging in ----------------------------------------------------------------------------

    async def check_password(self, name: str, password: str) -> int:
        """The revision of users and permissions at which the password was right.

        Raises `AuthNotEnabled`, `AuthFailed`, `NoPasswordUser`, `TooManyRequests`.
        """
        state = self.book.state
        if not state.enabled:
            raise AuthNotEnabled
        user = state.users.get(name)
        try:
            if user is None:
                raise AuthFailed
            if user.options.no_password:
                raise NoPasswordUser
            hashed, given = user.password, password.encode()
            if not await self._on_thread(lambda: password_matches(given, hashed)):
                raise AuthFailed
        except (AuthFailed, NoPasswordUser) as refusal:
            self._log_refusal(name, refusal)
            raise
        return state.revision

    async def hashed(self, password: str) -> str:
        """The hash of a new password, as commands carry it. Raises `PasswordTooLong`."""
        given, cost = password.encode(), self._cost
        return b64encode(await self._on_thread(lambda: hash_password(given, cost))).decode()

    def token_prefix(self) -> str:
        """What a login's command says of the token that it makes."""
        return new_prefix() if self._kind is TokenKind.SIMPLE else ""

    async def token(self, name: str, login: LoginResponse) -> str:
        """What the client of a login that was applied gets. Raises `VerifyOnly`, `AuthFailed`."""
        if self._kind is TokenKind.NONE:
            raise AuthFailed
        signed = self._signed
        if signed is None:
            return login.token
        return await self._on_thread(lambda: signed.sign(name, login.auth_revision))

    async def _on_thread(self, work: Callable[[], _T]) -> _T:
        if self._hashing >= HASHES_WAITING_MAX:
            raise TooManyRequests
        self._hashing += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._hashers, work)
        finally:
            self._hashing -= 1

    def _log_refusal(self, name: str, refusal: RequestError) -> None:
        self._logger.warn(
            Event.LOGIN_REFUSED, user=name[:NAME_CHARACTERS_LOGGED], reason=refusal.message
        )


def _be_nice() -> None:
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
