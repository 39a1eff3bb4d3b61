"""Who is named when answers differ."""

from __future__ import annotations

import pytest

from kvshim.server.verdict import EQUAL, NOBODY_KNOWN, Verdict, judge

NOBODY = frozenset({NOBODY_KNOWN})


@pytest.mark.parametrize(
    ("values", "members", "verdict"),
    [
        ("AAA", 3, EQUAL),
        ("AA-", 3, EQUAL),
        ("A--", 3, EQUAL),
        ("---", 3, EQUAL),
        ("AAB", 3, Verdict(frozenset({3}))),
        ("BAA", 3, Verdict(frozenset({1}))),
        ("AB-", 3, Verdict(NOBODY, final=False)),
        ("ABC", 3, Verdict(NOBODY)),
        ("AB", 2, Verdict(NOBODY)),
        ("AABB", 4, Verdict(NOBODY)),
        ("AAB--", 5, Verdict(frozenset({3}))),
        ("AB---", 5, Verdict(NOBODY, final=False)),
        ("AAABB", 5, Verdict(frozenset({4, 5}))),
        ("ABCDA", 5, Verdict(NOBODY)),
    ],
)
def test_what_most_hold_is_right(values: str, members: int, verdict: Verdict) -> None:
    """Letters are answers, by member from 1 on; `-` has not answered."""
    answers = {number: value for number, value in enumerate(values, 1) if value != "-"}
    assert judge(answers, range(1, members + 1)) == verdict


def test_who_is_no_member_does_not_count() -> None:
    assert judge({1: "A", 2: "A", 9: "B"}, [1, 2, 3]) == EQUAL
