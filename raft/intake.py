"""What waits for the raft thread: commands, of which it takes so many at a time, and actions."""

from __future__ import annotations

from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import TypeAlias

from raft.interface import TooManyProposals
from raft.options import NodeOptions

Input: TypeAlias = bytes | Callable[[], None]
"""A command, or an action."""


class Intake:
    """Any thread puts actions, the event loop commands; the raft thread takes both, in order."""

    def __init__(self, options: NodeOptions) -> None:
        self._options = options
        self._queue: SimpleQueue[Input] = SimpleQueue()
        # Each counter has one writer: the loop counts what came, the raft thread what is durable.
        self._proposed = self._proposed_bytes = 0
        self._settled = self._settled_bytes = 0
        self.closed = False
        """Nothing is taken after the action that set this."""

    @property
    def empty(self) -> bool:
        """Does nothing wait?"""
        return self._queue.empty()

    def propose(self, command: bytes) -> None:
        """Queue a command. Raises `TooManyProposals`."""
        limits = self._options
        if (
            self._proposed - self._settled >= limits.queue_entries_max
            or self._proposed_bytes - self._settled_bytes >= limits.queue_bytes_max
        ):
            raise TooManyProposals("too many proposals wait for the disk")
        self._proposed += 1
        self._proposed_bytes += len(command)
        self._queue.put(command)

    def put(self, action: Callable[[], None]) -> None:
        """Queue what the raft thread shall do."""
        self._queue.put(action)

    def wake(self) -> None:
        """Let the raft thread look around."""
        self._queue.put(_nothing)

    def wait(self, seconds: float) -> Input | None:
        """Sleep until something comes, which `take` begins with; None after so many seconds."""
        try:
            return self._queue.get(timeout=seconds)
        except Empty:
            return None

    def take(self, first: Input | None) -> list[bytes]:
        """Run this input and every one that waits; returns the commands among them, bounded."""
        limits, item = self._options, first
        commands: list[bytes] = []
        size = 0
        while True:
            if isinstance(item, bytes):
                commands.append(item)
                size += len(item)
                if size >= limits.batch_bytes_max or len(commands) >= limits.batch_entries_max:
                    break
            elif item is not None:
                item()
                if self.closed:
                    break
            if self._queue.empty():
                break
            item = self._queue.get_nowait()
        return commands

    def settle(self, commands: list[bytes]) -> None:
        """These were taken and wait for the disk no more."""
        self._settled += len(commands)
        self._settled_bytes += sum(map(len, commands))


def _nothing() -> None:
    """Only wakes the raft thread."""
