"""Random sequences, each made by its own seed: what a sequence is about, and its steps."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from conformance.differential import kv, others
from conformance.differential.keys import chance, upright
from conformance.differential.steps import Sequence, Step

STEPS_MIN, STEPS_MAX = 20, 70

Maker = Callable[[Random], "Step | list[Step]"]

ABOUT: dict[str, tuple[float, tuple[tuple[float, Maker], ...]]] = {
    "keys": (52, ((95, kv.step), (5, others.lease))),
    "history": (
        12,
        ((60, kv.step), (15, kv.compaction), (20, kv.hash_kv), (5, others.lease)),
    ),
    "leases": (11, ((45, kv.step), (55, others.lease))),
    "watches": (12, ((62, kv.step), (8, others.lease), (30, others.watch))),
    "users": (4, ((45, kv.step), (10, others.lease), (40, others.auth), (5, others.login))),
    "cluster": (5, ((40, kv.step), (35, others.maintenance), (25, others.cluster))),
    "recipes": (4, ((25, kv.step), (15, others.lease), (60, others.recipes))),
}
"""By what a sequence is about: how often, and how often it takes each kind of step."""


def sequence(seed: str) -> Sequence:
    """The sequence of a seed; the same on every machine."""
    random = Random(seed)
    about = random.choices(list(ABOUT), [weight for weight, _ in ABOUT.values()])[0]
    weights, makers = zip(*ABOUT[about][1], strict=True)
    steps: Sequence = others.auth_begin(random) if about == "users" else []
    length = random.randrange(STEPS_MIN, STEPS_MAX)
    while len(steps) < length:
        made = random.choices(makers, weights)[0](random)
        steps += made if isinstance(made, list) else [made]
    if about == "users":
        steps = [_as_somebody(random, step) for step in steps]
    return _without_returns(steps)


def _without_returns(steps: Sequence) -> Sequence:
    """etcd makes a member's id of its URLs and the second: whoever is removed and comes back within
    it is refused as one that was removed. So no URLs are added twice."""
    seen: list[object] = []
    kept = []
    for step in steps:
        if step.get("call") == "Cluster/MemberAdd":
            urls = step["request"].get("peerURLs")
            if any(urls) and urls in seen:
                continue
            seen.append(urls)
        kept.append(step)
    return kept


def _as_somebody(random: Random, step: Step) -> Step:
    """Administration is mostly root's, all else anybody's; who has not logged in is nobody."""
    if step.get("call") in ("Auth/Authenticate", "Auth/AuthEnable"):
        return step
    upright(step)
    if str(step.get("call", "")).startswith("Auth/"):
        who = "root" if chance(random, 85) else "ann"
    else:
        who = random.choice(("root", "ann", "ann", "bob", "nobody"))
    return {**step, "as": who}
