"""The index answers as a scan over all ranges would."""

import random

import pytest

from kvshim.types import KeyRange
from kvshim.watch.index import BLOCK_ENTRIES_MAX, KeyIndex


def some_key(rng: random.Random) -> bytes:
    return bytes(rng.choice(b"\x00ab\xff") for _ in range(rng.randrange(4)))


def matching(index: KeyIndex[int], key: bytes) -> list[int]:
    return [member for group in index.groups(key) for member in group]


def some_range(rng: random.Random) -> KeyRange:
    start = some_key(rng)
    match rng.randrange(4):
        case 0:
            return KeyRange(start, None)
        case 1:
            return KeyRange.of(start or b"a", b"")
        case _:
            return KeyRange(start, start + some_key(rng) + b"\x00")


@pytest.mark.parametrize("seed", range(20))
def test_against_a_scan(seed: int) -> None:
    rng = random.Random(seed)
    index: KeyIndex[int] = KeyIndex()
    members: dict[int, KeyRange] = {}
    for step in range(1500):
        growing = step % 1000 < 700
        if members and rng.random() < (0.2 if growing else 0.9):
            member = rng.choice(list(members))
            index.remove(members.pop(member), member)
        else:
            members[step] = some_range(rng)
            index.add(members[step], step)
        assert len(index) == len(members)
        if step % 10 == 0:
            key = some_key(rng)
            expected = sorted(m for m, keys in members.items() if keys.contains(key))
            assert sorted(matching(index, key)) == expected, f"seed {seed}, step {step}"
    assert sorted(index) == sorted(members)
    for member, keys in members.items():
        index.remove(keys, member)
    assert not index._blocks
    assert not index._firsts
    assert not index._ranges
    assert not index._singles


def test_thousands_of_prefixes_are_found_in_blocks() -> None:
    index: KeyIndex[int] = KeyIndex()
    numbers = list(range(5000))
    random.Random(1).shuffle(numbers)
    for number in numbers:
        index.add(KeyRange(b"/%05d/" % number, b"/%05d0" % number), number)
    assert all(len(block.entries) <= BLOCK_ENTRIES_MAX for block in index._blocks)
    assert index._firsts == [block.entries[0] for block in index._blocks]
    for number in range(0, 5000, 97):
        assert matching(index, b"/%05d/x" % number) == [number]
        assert matching(index, b"/%05d0" % number) == []
