"""Who is wrong when members hold different data: what most of them hold is right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Mapping
from dataclasses import dataclass
from typing import Final

NOBODY_KNOWN: Final = 0
"""Named when no majority agrees: members differ, and nobody can say which of them is wrong.
etcd's compaction check does the same."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """`named` are the ids of members that are wrong; `final` is false while more may answer."""

    named: frozenset[int]
    final: bool = True


EQUAL: Final = Verdict(frozenset())


def judge(values: Mapping[int, Hashable], members: Collection[int]) -> Verdict:
    """What the answers of some of the `members` come to.

    Two who hold the same outvote one, if they are most of all members or of the answers of three
    and more. Otherwise nobody is named, and as long as somebody has not answered it is not final.
    """
    answers = {member: value for member, value in values.items() if member in members}
    counts = Counter(answers.values())
    if len(counts) < 2:
        return EQUAL
    value, votes = counts.most_common(1)[0]
    complete = len(answers) == len(members)
    if 2 * votes > len(members) or (2 * votes > len(answers) and len(answers) >= 3):
        return Verdict(frozenset(m for m, held in answers.items() if held != value))
    return Verdict(frozenset({NOBODY_KNOWN}), final=complete)
