"""Delta debugging: the shortest sequence that still shows a difference.

First steps are left out, in ever smaller runs; then fields, list items and operations inside of
what is left. Any difference counts, since a shorter way to another one is worth as much.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator

from conformance.differential.steps import Sequence, parts

Fails = Callable[[Sequence], bool]


def shrink(steps: Sequence, fails: Fails, tries_max: int) -> Sequence:
    """The shortest failing sequence found in so many tries; `fails` must hold for `steps`."""
    budget = _Budget(tries_max)

    def still(candidate: Sequence) -> bool:
        return budget.take() and fails(candidate)

    before: Sequence = []
    while before != steps and budget.left:
        before = steps
        steps = _fewer_steps(steps, still)
        steps = _smaller_steps(steps, still)
    return steps


class _Budget:
    def __init__(self, left: int) -> None:
        self.left = left

    def take(self) -> bool:
        self.left -= 1
        return self.left >= 0


def _fewer_steps(steps: Sequence, fails: Fails) -> Sequence:
    size = len(steps)
    while size >= 1:
        start = len(steps) - size
        while start > -size:
            candidate = steps[: max(start, 0)] + steps[max(start, 0) + size :]
            if len(candidate) < len(steps) and fails(candidate):
                steps = candidate
            start -= size
        size //= 2
    return steps


def _smaller_steps(steps: Sequence, fails: Fails) -> Sequence:
    """Without each part that is not needed; after every success the parts are listed anew."""
    tried = 0
    while True:
        for number, candidate in enumerate(_without_one_part(steps)):
            if number >= tried:
                tried = number + 1
                if fails(candidate):
                    steps, tried = candidate, number
                    break
        else:
            return steps


def _without_one_part(steps: Sequence) -> Iterator[Sequence]:
    places = sum(1 for _ in parts(steps))
    for place in range(places):
        candidate = copy.deepcopy(steps)
        container, key = next(found for n, found in enumerate(parts(candidate)) if n == place)
        if container is candidate or (isinstance(key, str) and _is_needed(container, key)):
            continue
        del container[key]
        yield candidate


def _is_needed(container: dict[str, object], key: str) -> bool:
    """What makes a step a step of its kind, and references."""
    kinds = ("call", "watch", "later", "join", "abandon", "observe", "keepalive", "queued")
    return key in kinds or key.startswith("$") or (key == "request" and "call" in container)
