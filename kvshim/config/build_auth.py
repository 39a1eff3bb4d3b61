"""What the flags of section Auth come to: how passwords are hashed and what tokens are.

`--auth-token` is etcd's: `simple`, nothing at all, or `jwt` with options behind commas.
"""

from __future__ import annotations

from pathlib import Path

from kvshim.config.errors import ConfigError
from kvshim.config.model import AuthConfig, SignedTokenConfig, TokenKind
from kvshim.config.settings import Notice, NoticeKind, Settings
from kvshim.config.values import parse_duration

SIGN_METHODS = (
    *(f"{family}{bits}" for family in ("HS", "RS", "PS", "ES") for bits in (256, 384, 512)),
    "EdDSA",
)
TOKEN_TTL_S_DEFAULT = 300.0
_COST_MIN, _COST_MAX, _COST_DEFAULT = 4, 31, 10
_OPTIONS = ("sign-method", "pub-key", "priv-key", "ttl")


def build_auth(settings: Settings, notices: list[Notice]) -> AuthConfig:
    """The configuration of authentication. What was adjusted is added to `notices`."""
    kind_text, *pairs = settings.text("auth-token").split(",")
    options = _options(pairs)
    try:
        kind = TokenKind(kind_text)
    except ValueError:
        raise ConfigError(
            f'unknown kind of token "{kind_text}" in --auth-token: expected simple or jwt'
        ) from None
    return AuthConfig(
        kind=kind,
        simple_ttl_s=settings.number("auth-token-ttl") or TOKEN_TTL_S_DEFAULT,
        signed=_signed(options, notices) if kind is TokenKind.JWT else None,
        bcrypt_cost=_cost(settings.number("bcrypt-cost"), notices),
    )


def _options(pairs: list[str]) -> dict[str, str]:
    options: dict[str, str] = {}
    for pair in pairs:
        name, *values = pair.split("=")
        if len(values) != 1:
            raise ConfigError(f'--auth-token: "{name}" is not written name=value')
        if name in options:
            raise ConfigError(f"--auth-token: {name} is given twice")
        options[name] = values[0]
    return options


def _signed(options: dict[str, str], notices: list[Notice]) -> SignedTokenConfig:
    for name in options:
        if name not in _OPTIONS:
            reason = f"{name} is no option of jwt and has no effect"
            notices.append(Notice(NoticeKind.ADVICE, "--auth-token", reason))
    method = options.get("sign-method", "")
    if method not in SIGN_METHODS:
        raise ConfigError(
            f'--auth-token: unknown sign-method "{method}": expected one of'
            f" {', '.join(SIGN_METHODS)}"
        )
    try:
        ttl_s = parse_duration(options.get("ttl") or "5m") / 1e9
    except ValueError as reason:
        raise ConfigError(f"--auth-token: invalid ttl: {reason}") from None
    return SignedTokenConfig(
        sign_method=method,
        public_key_file=_path(options.get("pub-key")),
        private_key_file=_path(options.get("priv-key")),
        ttl_seconds=ttl_s,
    )


def _path(text: str | None) -> Path | None:
    return Path(text) if text else None


def _cost(given: int, notices: list[Notice]) -> int:
    if _COST_MIN <= given <= _COST_MAX:
        return given
    reason = f"{given} is not from {_COST_MIN} to {_COST_MAX}, so {_COST_DEFAULT} is taken"
    notices.append(Notice(NoticeKind.ADVICE, "--bcrypt-cost", reason))
    return _COST_DEFAULT
