"""Random parts of requests: keys, ranges, revisions, values, ids. Few of each, so that they meet.

At most twelve keys: etcd sorts with Go's pdqsort, which is stable up to that many.
"""

from __future__ import annotations

from random import Random
from typing import Any

from conformance.differential.steps import Step, parts

KEYS = ("a", "b", "a/1", "a/2", "a/3", "b/1", "c", "a\x00", "\x01", "\xff")
OPEN = "\x00"
"""The end of a range that has none."""
ENDS = (*KEYS, "b0", "a0", "\xff\xff", "\x00", "d")
LEASES = (1, 2, 3, 0x7FFFFFFFFFFFFFFF, -5)
"""Ids that the client chooses."""
UNKNOWN_LEASE = 4711
HUGE = 10**12


def chance(random: Random, percent: float) -> bool:
    return random.random() * 100 < percent


def key(random: Random) -> str:
    return "" if chance(random, 1) else random.choice(KEYS)


def span(random: Random) -> dict[str, Any]:
    """A key, or a range: proper, whole, open, empty or upside down."""
    kind = random.random()
    if kind < 0.35:
        return {"key": key(random)}
    if kind < 0.50:
        return {"key": "\x00", "range_end": "\x00"}
    if kind < 0.58:
        return {"key": key(random), "range_end": "\x00"}
    if kind < 0.78:
        first, end = sorted((random.choice(KEYS), random.choice(ENDS)))
        return {"key": first, "range_end": end}
    if kind < 0.90:
        return {"key": "a/", "range_end": "a0"}
    if kind < 0.91:
        return {"key": "", "range_end": random.choice(ENDS)}
    return {"key": key(random), "range_end": random.choice(ENDS)}


def upright(step: Step) -> None:
    """Let no range of a step be empty or upside down: whether somebody with several permissions may
    read or delete one goes in etcd by the shape of a tree of intervals (docs/differences.md)."""
    for place, name in list(parts(step)):
        if name == "range_end" and place[name] != OPEN and place[name] <= place.get("key", ""):
            del place[name]


def value(random: Random) -> Any:
    kind = random.random()
    if kind < 0.15:
        return ""
    if kind < 0.97:
        return random.choice(("1", "2", "3", "x", "\x00\xff"))
    return {"$text": random.choice((500, 5_000))}


def past(random: Random) -> Any:
    """A revision that may well exist."""
    if chance(random, 70):
        return {"$now": -random.randrange(12)}
    return {"$base": random.randrange(4)}


def revision(random: Random) -> Any:
    """A revision of any kind."""
    kind = random.random()
    if kind < 0.80:
        return past(random)
    return random.choice(({"$now": 1}, {"$now": 2}, {"$base": -1}, 0, 1, -1, HUGE))


def lease(random: Random) -> Any:
    kind = random.random()
    if kind < 0.70:
        return random.choice(LEASES[:3])
    if kind < 0.85:
        return {"$lease": 0}
    return random.choice((*LEASES, UNKNOWN_LEASE, 0, -1))


def flags(random: Random, percent: float, *names: str) -> dict[str, Any]:
    """Each of the fields set to true, now and then."""
    return {name: True for name in names if chance(random, percent)}
