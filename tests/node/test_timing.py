"""Durations that follow from the flags about elections."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvshim.node.timing import patient
from raft.transport import TransportOptions


@pytest.mark.parametrize("election_ms", [500, 1_000])
def test_on_a_quick_network_the_times_between_members_are_the_transports_own(
    tmp_path: Path, election_ms: int
) -> None:
    options = TransportOptions(tmp_path)

    assert patient(options, election_ms) == options


def test_where_elections_are_slow_a_connection_outlives_two_packets_lost_on_a_way_round(
    tmp_path: Path,
) -> None:
    """400 ms there and back: TCP sends again after 0.6 to 0.9 s, and then after twice that."""
    options = patient(TransportOptions(tmp_path), 3_000)

    times = (options.connect_seconds, options.handshake_seconds, options.dead_seconds)
    assert times == (3.0, 6.0, 4.5)


def test_who_accepted_a_connection_waits_longer_than_who_dialled_it(tmp_path: Path) -> None:
    options = patient(TransportOptions(tmp_path), 50_000)

    assert (options.dead_seconds, options.idle_seconds) == (75.0, 150.0)
