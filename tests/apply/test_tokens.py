"""Join tokens in the replicated state: what apply keeps, spends and refuses."""

import pytest

from kvshim.apply.tokens import TOKENS_MAX, apply_token_add, apply_token_spend, find_token
from kvshim.errors import TokenRefused
from kvshim.pb.kvshim.token_pb2 import Token, TokenAddRequest, TokenSpendRequest


class Meta:
    def __init__(self):
        self.values = {}

    def meta(self, name):
        return self.values.get(name)

    def meta_put(self, name, value):
        self.values[name] = value


def add(batch, token_id, expires_ms=1000, now_ms=0):
    token = Token(id=token_id, verifier=b"v", expires_ms=expires_ms)
    apply_token_add(batch, TokenAddRequest(token=token, now_ms=now_ms))


def spend(batch, token_id, by, now_ms=1):
    request = TokenSpendRequest(id=token_id, spent_by=by, now_ms=now_ms)
    return apply_token_spend(batch, request).response.token


def test_a_token_is_spent_by_the_first_and_by_nobody_else():
    batch = Meta()
    add(batch, b"t")
    assert spend(batch, b"t", b"first").spent_by == b"first"
    with pytest.raises(TokenRefused, match="used by another"):
        spend(batch, b"t", b"second")
    assert spend(batch, b"t", b"first").spent_by == b"first"


def test_expiry_is_judged_by_the_time_in_the_command():
    batch = Meta()
    add(batch, b"t", expires_ms=1000)
    with pytest.raises(TokenRefused, match="expired"):
        spend(batch, b"t", b"k", now_ms=1000)
    assert find_token(batch, b"t").spent_by == b""
    assert spend(batch, b"t", b"k", now_ms=999).spent_by == b"k"


def test_an_unknown_token_and_one_that_exists_already_are_refused():
    batch = Meta()
    with pytest.raises(TokenRefused, match="not known"):
        spend(batch, b"t", b"k")
    add(batch, b"t")
    with pytest.raises(TokenRefused, match="exists already"):
        add(batch, b"t")


def test_the_state_is_bounded_and_expired_tokens_make_room():
    batch = Meta()
    for number in range(TOKENS_MAX):
        add(batch, bytes([number]), expires_ms=1000)
    with pytest.raises(TokenRefused, match="let some of them expire"):
        add(batch, b"one more", expires_ms=2000, now_ms=999)
    add(batch, b"one more", expires_ms=2000, now_ms=1000)
    assert find_token(batch, bytes([0])) is None
    assert len(batch.values["tokens"]) < 100
