"""How many voters and standbys are wanted: said by a first node, then by whoever changes it."""

import pytest

from kvshim.apply.role_numbers import apply_role_numbers, role_numbers_of
from kvshim.config.role_numbers import RoleNumbers
from kvshim.pb.kvshim import member_pb2 as pb
from tests.apply.test_members import Meta


def say(batch, voters, standbys, *, first=False):
    numbers = pb.RoleNumbers(voters=voters, standbys=standbys)
    answer = apply_role_numbers(batch, pb.RoleNumbersRequest(numbers=numbers, first=first))
    return answer.response.numbers.voters, answer.response.numbers.standbys


def test_the_first_to_say_them_is_heard_and_later_only_who_changes_them():
    batch = Meta()
    assert role_numbers_of(batch) is None
    assert say(batch, 5, 0, first=True) == (5, 0)
    assert say(batch, 3, 2, first=True) == (5, 0)
    assert role_numbers_of(batch) == RoleNumbers(5, 0)
    assert say(batch, 3, 1) == (3, 1)
    assert role_numbers_of(batch) == RoleNumbers(3, 1)


@pytest.mark.parametrize(("voters", "standbys"), [(0, 2), (2, 2), (11, 2), (3, 21)])
def test_what_cannot_be_wanted(voters, standbys):
    assert RoleNumbers(voters, standbys).problem().startswith("--")
    assert not RoleNumbers().problem()
