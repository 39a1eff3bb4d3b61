"""Join tokens in the replicated state: added, then spent exactly once. Apply thread.

The proposer's clock is in the command, so that every member judges expiry alike. Whoever spent a
token may spend it again, by the same key: a joiner that crashed half-way goes on where it was,
while a second joiner is refused.
"""

from __future__ import annotations

from typing import Final

from kvshim.apply.members import ReadsMeta, WritesMeta
from kvshim.apply.outcome import Applied
from kvshim.errors import TokenRefused
from kvshim.pb.kvshim.token_pb2 import (
    Token,
    TokenAddRequest,
    TokenAddResponse,
    Tokens,
    TokenSpendRequest,
    TokenSpendResponse,
)

META_NAME: Final = "tokens"
TOKENS_MAX: Final = 64
"""Tokens that have not expired: a bound on what every member carries."""


def find_token(view: ReadsMeta, token_id: bytes) -> Token | None:
    """The token of this id, expired and spent ones included."""
    return next((token for token in _load(view).tokens if token.id == token_id), None)


def apply_token_add(batch: WritesMeta, request: TokenAddRequest) -> Applied:
    """Keep one more token, and forget those that have expired."""
    tokens = [token for token in _load(batch).tokens if token.expires_ms > request.now_ms]
    if any(token.id == request.token.id for token in tokens):
        raise TokenRefused("that join token exists already")
    if len(tokens) >= TOKENS_MAX:
        raise TokenRefused(f"{TOKENS_MAX} join tokens wait to be used: let some of them expire")
    batch.meta_put(META_NAME, Tokens(tokens=[*tokens, request.token]).SerializeToString())
    return Applied(TokenAddResponse())


def apply_token_spend(batch: WritesMeta, request: TokenSpendRequest) -> Applied:
    """Give the token to the key that asks first."""
    tokens = _load(batch)
    token = next((token for token in tokens.tokens if token.id == request.id), None)
    if token is None or token.expires_ms <= request.now_ms:
        raise TokenRefused("the join token is not known or has expired: make a new one")
    if token.spent_by not in (b"", request.spent_by):
        raise TokenRefused("the join token was used by another node: make a new one")
    if not token.spent_by:
        token.spent_by = request.spent_by
        batch.meta_put(META_NAME, tokens.SerializeToString())
    return Applied(TokenSpendResponse(token=token))


def forget_tokens(batch: WritesMeta) -> None:
    """No join token is good any more."""
    batch.meta_put(META_NAME, Tokens().SerializeToString())


def _load(view: ReadsMeta) -> Tokens:
    return Tokens.FromString(view.meta(META_NAME) or b"")
