"""What a `raft.node.Node` is told when it is made: bounds and times, hooks, the way to others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from raft.core.messages import Message
from raft.interface import LogError
from raft.member import RetentionOptions


class Messenger(Protocol):
    """The part of a transport that carries messages; event loop."""

    def send(self, messages: Sequence[Message]) -> Sequence[Message]:
        """Send, or lose, each of them; never waits. Returns those that surely never left."""


def _ignore(*_: object) -> None:
    """The default of a hook."""


@dataclass(frozen=True, slots=True)
class NodeHooks:
    """Called on the raft thread: must be quick and must not raise.

    `on_fsync` gets the seconds of every write to the log, `on_slow_fsync` of those that took too
    long; `on_wal_pinned` the WAL's bytes when an outside reader keeps it from starting over, once
    until `on_wal_released` says that it has left; `on_leader` the leader's id, 0 for none, and the
    term, whenever either changes; `on_fatal` the reason when the log cannot go on: nothing further
    is made durable or applied.
    """

    on_fsync: Callable[[float], None] = _ignore
    on_slow_fsync: Callable[[float], None] = _ignore
    on_fatal: Callable[[LogError], None] = _ignore
    on_wal_pinned: Callable[[int], None] = _ignore
    on_wal_released: Callable[[], None] = _ignore
    on_leader: Callable[[int, int], None] = _ignore
    on_snapshot_sent: Callable[[int, int, str], None] = _ignore
    """Member, index, and why it did not arrive; empty when it did."""


@dataclass(frozen=True, slots=True)
class NodeOptions:
    """Bounds of the queue and of one batch, times; what counts as a slow fsync."""

    tick_seconds: float = 0.05
    heartbeat_ticks: int = 2
    election_ticks: int = 10
    batch_entries_max: int = 512
    batch_bytes_max: int = 4 << 20
    queue_entries_max: int = 8_192
    queue_bytes_max: int = 64 << 20
    unapplied_bytes_max: int = 64 << 20
    """Committed and not yet applied: above it nothing more is taken from clients or the leader."""
    cache_bytes_max: int = 8 << 20
    """The newest entries that stay in memory for followers; older ones are read from the log."""
    hold_seconds: float = 5.0
    """How long a command that no leader took is kept for the next one."""
    read_seconds_max: float = 5.0
    slow_fsync_seconds: float = 1.0
    retention: RetentionOptions = field(default_factory=RetentionOptions)
