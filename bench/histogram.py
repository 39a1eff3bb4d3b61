"""Shares of a Prometheus histogram between two looks at a metrics page. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

Buckets = Mapping[float, float]
"""How many observations were at most so much, by the bound; the last bound is infinite."""


def buckets(page: str, name: str) -> Buckets:
    """The histogram of that name, which has no other labels. Raises ValueError without one."""
    found = re.findall(rf'^{name}_bucket{{le="([^"]+)"}} (\S+)$', page, re.MULTILINE)
    if not found:
        raise ValueError(f"the metrics page has no histogram {name}")
    return {float(bound): float(count) for bound, count in found}


def between(before: Buckets, after: Buckets) -> Buckets:
    """What came in between two looks."""
    return {bound: count - before[bound] for bound, count in after.items()}


def count(of: Buckets) -> int:
    """How many observations there are."""
    return int(of[math.inf])


def quantile(of: Buckets, share: float) -> float:
    """At most this for so large a share, linear within a bucket, as Prometheus counts.

    Beyond the last finite bound it is that bound. 0 if nothing was observed.
    """
    wanted, below, lower = share * of[math.inf], 0.0, 0.0
    for bound in sorted(of):
        if of[bound] >= wanted and of[bound] > below:
            if math.isinf(bound):
                return lower
            return lower + (bound - lower) * (wanted - below) / (of[bound] - below)
        below = of[bound]
        lower = lower if math.isinf(bound) else bound
    return 0.0
