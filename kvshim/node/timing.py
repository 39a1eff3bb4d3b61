"""Durations that follow from the heartbeat and the election timeout, by etcd's formulas. Pure."""

from __future__ import annotations

import math
from dataclasses import replace

from raft.options import NodeOptions
from raft.transport import TransportOptions

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


def patient(options: TransportOptions, election_ms: int) -> TransportOptions:
    """Where elections are slow the network is: connections between members are given as long.

    A packet that is lost twice must not end a connection, since making one anew takes several
    more; who accepted it waits longer than who dialled. At the default of 1,000 ms these are the
    transport's own times. Etcd's dials have a second and an election timeout.
    """
    seconds = election_ms / 1000
    return replace(
        options,
        connect_seconds=max(options.connect_seconds, seconds),
        handshake_seconds=max(options.handshake_seconds, 2 * seconds),
        dead_seconds=max(options.dead_seconds, 1.5 * seconds),
        idle_seconds=max(options.idle_seconds, 3 * seconds),
    )
