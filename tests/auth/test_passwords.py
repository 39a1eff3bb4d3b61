"""Password hashes: etcd's form and cost."""

from __future__ import annotations

import pytest

from kvshim.auth.passwords import hash_password, password_matches
from kvshim.errors import PasswordTooLong

# Made by etcd 3.7.3 for the password "ann" with --bcrypt-cost=4.
OF_ETCD = b"$2a$04$LQV9HZPuAW3hLIIL/OQIoeApEV73oGinmN7ddV0QV/1nJjNeS5Psu"


@pytest.mark.parametrize("cost", [4, 5])
def test_a_hash_has_etcds_form_and_the_cost_asked_for(cost: int):
    hashed = hash_password(b"secret", cost)
    assert hashed.startswith(b"$2a$%02d$" % cost)
    assert len(hashed) == 60
    assert hashed != hash_password(b"secret", cost)
    assert password_matches(b"secret", hashed)
    assert not password_matches(b"Secret", hashed)


def test_a_hash_that_etcd_made():
    assert password_matches(b"ann", OF_ETCD)
    assert not password_matches(b"bob", OF_ETCD)


def test_a_long_password_is_refused_when_it_is_set_and_cut_when_it_is_checked():
    with pytest.raises(PasswordTooLong):
        hash_password(b"x" * 73, 4)
    assert password_matches(b"x" * 100, hash_password(b"x" * 72, 4))


@pytest.mark.parametrize("hashed", [b"", b"no hash", b"$2a$04$short"])
def test_what_is_no_hash_matches_nothing(hashed: bytes):
    assert not password_matches(b"", hashed)
    assert not password_matches(b"x", hashed)
