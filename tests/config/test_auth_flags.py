"""`--auth-token`, `--auth-token-ttl` and `--bcrypt-cost`, with etcd's readings and refusals."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvshim.config import ConfigError, SignedTokenConfig, TokenKind
from tests.config.helpers import loaded


def auth(*flags: str):
    return loaded(flags).config.auth


def test_by_default_tokens_are_simple():
    found = auth()
    assert (found.kind, found.signed) == (TokenKind.SIMPLE, None)
    assert (found.simple_ttl_s, found.bcrypt_cost) == (300, 10)


def test_the_other_kinds():
    assert auth("--auth-token=").kind is TokenKind.NONE
    found = auth("--auth-token=jwt,sign-method=RS256,pub-key=p,priv-key=k,ttl=1h")
    assert found.kind is TokenKind.JWT
    assert found.signed == SignedTokenConfig("RS256", Path("p"), Path("k"), 3600)
    default = auth("--auth-token=jwt,sign-method=EdDSA,pub-key=p").signed
    assert default == SignedTokenConfig("EdDSA", Path("p"), None, 300)
    assert auth("--auth-token=simple,any=thing").kind is TokenKind.SIMPLE


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("other", "unknown kind of token"),
        ("jwt", 'unknown sign-method ""'),
        ("jwt,sign-method=none", 'unknown sign-method "none"'),
        ("jwt,sign-method=rs256", "unknown sign-method"),
        ("jwt,sign-method=HS256,ttl=5", "invalid ttl"),
        ("jwt,sign-method", "not written name=value"),
        ("jwt,sign-method=a=b", "not written name=value"),
        ("jwt,sign-method=HS256,sign-method=HS256", "given twice"),
        ("simple,", "not written name=value"),
    ],
)
def test_what_is_refused(text: str, why: str):
    with pytest.raises(ConfigError, match=why):
        auth(f"--auth-token={text}")


def test_the_lifetime_of_simple_tokens():
    assert auth("--auth-token-ttl=7").simple_ttl_s == 7
    assert auth("--auth-token-ttl=0").simple_ttl_s == 300


@pytest.mark.parametrize(("given", "taken"), [(4, 4), (31, 31), (3, 10), (0, 10), (32, 10)])
def test_the_cost_of_a_hash(given: int, taken: int):
    found = loaded([f"--bcrypt-cost={given}"])
    assert found.config.auth.bcrypt_cost == taken
    told = [notice.name for notice in found.notices]
    assert ("--bcrypt-cost" in told) == (given != taken)


def test_an_option_that_jwt_does_not_have_is_told():
    found = loaded(["--auth-token=jwt,sign-method=HS256,priv-key=k,colour=red"])
    assert any("colour" in notice.reason for notice in found.notices)
