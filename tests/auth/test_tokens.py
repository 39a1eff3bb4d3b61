"""Simple tokens: who they are of, for how long, and how many."""

from __future__ import annotations

import pytest

from kvshim.auth import tokens as tokens_module
from kvshim.auth.tokens import SimpleTokens, index_of, new_prefix

TTL = 10.0


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tokens(clock: Clock) -> SimpleTokens:
    return SimpleTokens(TTL, clock)


def test_each_use_lets_a_token_live_on(tokens: SimpleTokens, clock: Clock):
    tokens.assign("a.1", "ann")
    tokens.assign("b.2", "bob")
    clock.now += TTL - 1
    assert tokens.use("a.1") == "ann"
    clock.now += 2
    assert tokens.use("a.1") == "ann"
    assert tokens.use("b.2") is None
    clock.now += TTL
    assert tokens.use("a.1") is None


def test_old_tokens_take_no_room(tokens: SimpleTokens, clock: Clock):
    for number in range(100):
        tokens.assign(f"a.{number}", "ann")
    clock.now += TTL
    tokens.assign("b.1", "bob")
    assert len(tokens) == 1


def test_there_is_a_most(tokens: SimpleTokens, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tokens_module, "TOKENS_MAX", 3)
    for number in range(3):
        tokens.assign(f"a.{number}", "ann")
    tokens.use("a.0")
    tokens.assign("a.3", "ann")
    assert [tokens.use(f"a.{number}") is not None for number in range(4)] == [
        True,
        False,
        True,
        True,
    ]


def test_a_user_is_forgotten_whole(tokens: SimpleTokens):
    for token, user in (("a.1", "ann"), ("b.2", "bob"), ("c.3", "ann")):
        tokens.assign(token, user)
    tokens.forget_user("ann")
    assert (tokens.use("a.1"), tokens.use("b.2"), tokens.use("c.3")) == (None, "bob", None)


def test_a_prefix_is_never_the_same():
    assert len({new_prefix() for _ in range(100)}) == 100


@pytest.mark.parametrize(
    ("token", "index"),
    [
        ("abc.7", 7),
        (".7", 7),
        ("abc.18446744073709551615", 2**64 - 1),
        ("abc.18446744073709551616", None),
        ("abc." + "9" * 5000, None),
        ("abc.", None),
        ("abc", None),
        ("a.b.7", None),
        ("abc.-7", None),
        ("abc.٧", None),
        ("abc. 7", None),
    ],
)
def test_where_a_token_was_made(token: str, index: int | None):
    assert index_of(token) == index
