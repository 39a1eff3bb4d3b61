"""The checker finds what a wrong cluster would show; each fault is planted in a right history."""

from collections.abc import Callable

import pytest

from tests.cluster.record import Event, Op, Record


def right() -> tuple[Record, list[Event]]:
    """Two puts, a compare, gets between them, one write without an answer that happened."""
    ops = [
        Op(1, "put", b"k", b"1", begin=1, end=2, revision=2),
        Op(2, "get", b"k", b"1", begin=3, end=4, revision=2, mod_revision=2),
        Op(1, "cas", b"c", b"2", begin=3, end=5, revision=3),
        Op(1, "put", b"k", b"3", begin=6, error="DEADLINE_EXCEEDED"),
        Op(2, "get", b"k", b"3", begin=7, end=8, revision=4, mod_revision=4),
        Op(1, "put", b"k", b"5", begin=9, end=10, revision=5),
    ]
    history = [Event(2, b"k", b"1"), Event(3, b"c", b"2"), Event(4, b"k", b"3")]
    return Record(ops), [*history, Event(5, b"k", b"5")]


def test_a_right_history_passes() -> None:
    record, history = right()
    record.check(history)


def lose_a_write(record: Record, history: list[Event]) -> None:
    del history[-1]


def apply_twice(record: Record, history: list[Event]) -> None:
    history.append(Event(6, b"k", b"3"))


def invent(record: Record, history: list[Event]) -> None:
    history.append(Event(6, b"k", b"nobody's"))


def read_stale(record: Record, history: list[Event]) -> None:
    record.ops.append(Op(3, "get", b"k", b"1", begin=9, end=11, revision=2, mod_revision=2))


def read_wrong(record: Record, history: list[Event]) -> None:
    record.ops[4].value = b"1"


def break_the_compare(record: Record, history: list[Event]) -> None:
    record.ops[2].expected = 7


def reorder(record: Record, history: list[Event]) -> None:
    record.ops[0].begin, record.ops[0].end = 11, 12


def answer_another_revision(record: Record, history: list[Event]) -> None:
    record.ops[0].revision = 3


@pytest.mark.parametrize(
    "plant",
    [
        lose_a_write,
        apply_twice,
        invent,
        read_stale,
        read_wrong,
        break_the_compare,
        reorder,
        answer_another_revision,
    ],
)
def test_a_planted_fault_is_found(plant: Callable[[Record, list[Event]], None]) -> None:
    record, history = right()
    plant(record, history)
    with pytest.raises(AssertionError):
        record.check(history)
