"""Merged ranges against the plain meaning: every key one by one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kvshim.auth.ranges import MergedRanges
from kvshim.types import KeyRange

BORDERS = [b"", b"\x00", b"a", b"a\x00", b"b", b"b\x00", b"c", b"d", b"\xff", b"\xff\xff"]
KEYS = sorted({border + tail for border in BORDERS for tail in (b"", b"\x00", b"\x00\x00")})

ranges = st.builds(
    KeyRange, st.sampled_from(BORDERS), st.one_of(st.none(), st.sampled_from(BORDERS))
)


def proper(keys: KeyRange) -> bool:
    """What may be granted: never empty, never turned round."""
    return not keys.is_empty


@given(st.lists(ranges.filter(proper)), ranges.filter(proper))
def test_a_range_is_covered_when_each_of_its_keys_is(granted: list[KeyRange], asked: KeyRange):
    inside = [key for key in KEYS if asked.contains(key)]
    each = all(any(one.contains(key) for one in granted) for key in inside)
    bounded = asked.end is not None or any(one.end is None for one in granted)
    assert MergedRanges(granted).cover(asked) == (each and bounded)


@given(st.lists(ranges.filter(proper)), ranges.filter(lambda keys: keys.is_empty))
def test_an_empty_range_counts_as_its_first_key(granted: list[KeyRange], asked: KeyRange):
    expected = any(one.contains(asked.start) for one in granted)
    assert MergedRanges(granted).cover(asked) == expected


def test_nothing_granted_covers_nothing():
    assert not MergedRanges([]).cover(KeyRange.of(b"a", b""))
