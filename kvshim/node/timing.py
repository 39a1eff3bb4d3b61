"""Durations that follow from the heartbeat and the election timeout, by etcd's formulas. Pure."""

from __future__ import annotations

import math

from raft.options import NodeOptions

REQUEST_BASE_SECONDS = 5.0

ELECTION_MS = 500
"""Half of etcd's default: heartbeats leave from a thread of their own, which does nothing else."""


def request_timeout_seconds(election_ms: int) -> float:
    """How long a request may wait for its outcome: five seconds and two elections."""
    return REQUEST_BASE_SECONDS + 2 * election_ms / 1000


def lease_ttl_min_seconds(heartbeat_ms: int, election_ms: int) -> int:
    """The shortest lease: one and a half elections, counted in heartbeats, in whole seconds."""
    election_ticks = election_ms // heartbeat_ms
    return math.ceil(3 * election_ticks // 2 * heartbeat_ms / 1000)


def raft_election_ms(heartbeat_ms: int, election_ms: int, *, given: bool) -> int:
    """Between members: ours unless the flag was given, and at least five heartbeats."""
    return election_ms if given else max(ELECTION_MS, 5 * heartbeat_ms)


def node_options(heartbeat_ms: int, election_ms: int) -> NodeOptions:
    """Raft's times: two ticks a heartbeat, so that election timeouts are drawn finely enough."""
    tick_ms = heartbeat_ms / 2
    return NodeOptions(
        tick_seconds=tick_ms / 1000,
        heartbeat_ticks=2,
        election_ticks=round(election_ms / tick_ms),
    )
