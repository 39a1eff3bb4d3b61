"""The judge of histories is judged by histories whose verdict is known."""

from __future__ import annotations

from itertools import combinations, permutations
from random import Random

from tests.sim.history import NEVER_US, History, Operation, linearizable

HISTORIES = 1_500


def put(value: int, begin: int, end: int = NEVER_US) -> Operation:
    return Operation(1, "x", is_put=True, value=value, begin_us=begin, end_us=end)


def get(value: int, begin: int, end: int) -> Operation:
    return Operation(2, "x", is_put=False, value=value, begin_us=begin, end_us=end)


def test_one_after_another():
    assert linearizable([get(0, 0, 1), put(1, 2, 3), get(1, 4, 5), put(2, 6, 7), get(2, 8, 9)])


def test_a_stale_read_is_none():
    assert not linearizable([put(1, 0, 1), put(2, 2, 3), get(1, 4, 5)])


def test_a_read_beside_a_write_may_see_either():
    assert linearizable([put(1, 0, 1), put(2, 2, 6), get(1, 3, 4), get(2, 5, 7)])


def test_but_not_go_back():
    assert not linearizable([put(1, 0, 1), put(2, 2, 9), get(2, 3, 4), get(1, 5, 6)])


def test_a_write_of_unknown_outcome_may_come_late_or_never():
    assert linearizable([put(1, 0), get(0, 5, 6)])
    assert linearizable([put(1, 0), get(0, 5, 6), get(1, 7, 8)])
    assert not linearizable([put(1, 0), get(1, 5, 6), get(0, 7, 8)])


def test_a_lost_write_is_none():
    assert not linearizable([put(1, 0, 1), get(0, 2, 3)])


def test_what_failed_did_not_happen_and_keys_are_judged_alone():
    history = History()
    failed = history.begin(1, "x", 7, 0, is_put=True)
    failed.failed = True
    history.operations += [get(0, 1, 2)]
    assert history.violation() is None
    history.operations += [get(7, 3, 4)]
    assert "'x' is not linearizable" in (history.violation() or "")


def tried_in_every_order(operations: list[Operation]) -> bool:
    """The definition, by brute force: some order, with or without each write of unknown outcome."""
    sure = [o for o in operations if o.end_us != NEVER_US]
    unsure = [o for o in operations if o.end_us == NEVER_US]
    for count in range(len(unsure) + 1):
        for happened in combinations(unsure, count):
            for order in permutations([*sure, *happened]):
                if in_real_time(order) and a_register_would(order):
                    return True
    return False


def in_real_time(order: tuple[Operation, ...]) -> bool:
    return not any(b.end_us < a.begin_us for a, b in combinations(order, 2))


def a_register_would(order: tuple[Operation, ...]) -> bool:
    held = 0
    for operation in order:
        if operation.is_put:
            held = operation.value
        elif operation.value != held:
            return False
    return True


def some_history(random: Random) -> list[Operation]:
    puts, history = random.randint(1, 3), list[Operation]()
    for value in range(1, puts + 1):
        begin = random.randrange(8)
        end = NEVER_US if random.random() < 0.3 else begin + random.randrange(5)
        history.append(put(value, begin, end))
    for _ in range(random.randint(1, 3)):
        begin = random.randrange(8)
        history.append(get(random.randint(0, puts), begin, begin + random.randrange(5)))
    return history


def test_it_agrees_with_brute_force():
    verdicts = set()
    for seed in range(HISTORIES):
        history = some_history(Random(seed))
        verdict = linearizable(history)
        assert verdict == tried_in_every_order(history), f"seed {seed}: {history}"
        verdicts.add(verdict)
    assert verdicts == {True, False}
