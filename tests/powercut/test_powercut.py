"""Two hundred power cuts: whatever was acknowledged is there afterwards, whenever the power went.

The node's storage (log, backend, store) runs on a simulated disk; see `vfs` for what it loses and
`member` for what runs. The last three tests take one safeguard away each and must find a loss:
they show that the harness would notice. `KVSHIM_POWERCUT_SEED` moves all seeds.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest

from kvshim.errors import StartupError
from tests.powercut.member import CarelessMachine, Life, Machine
from tests.powercut.vfs import weakened

CUTS = 200
CUTS_A_LIFE = 4
FIRST_SEED = int(os.environ.get("KVSHIM_POWERCUT_SEED", "0"))
LOSSES_ENOUGH = 3
SYNCHRONOUS_OFF, SYNCHRONOUS_NORMAL = 0, 1


def test_nothing_acknowledged_is_lost(tmp_path: Path) -> None:
    hit: list[tuple[str, str]] = []
    for seed in range(FIRST_SEED, FIRST_SEED + CUTS // CUTS_A_LIFE):
        life = Life(seed, tmp_path)
        try:
            life.live(CUTS_A_LIFE)
        except Exception as error:
            error.add_note(f"seed {seed}, cuts so far {life.hit}")
            raise
        hit += life.hit

    assert len(hit) == CUTS
    phases = {phase for phase, _ in hit}
    assert phases >= {
        "start",
        "write",
        "apply",
        "log cut",
        "compaction",
        "checkpoint raft.db",
        "checkpoint kv.db",
    }
    operations = {operation for _, operation in hit}
    assert operations >= {
        "write raft.db-wal",
        "sync raft.db-wal",
        "write raft.db",
        "write kv-1.db-wal",
        "write kv-1.db",
    }


@pytest.mark.parametrize(
    ("sabotage", "machine_type"),
    [
        pytest.param(weakened("kv-1.db", SYNCHRONOUS_OFF), Machine, id="kv.db OFF"),
        pytest.param(weakened("raft.db", SYNCHRONOUS_NORMAL), Machine, id="raft.db NORMAL"),
        pytest.param(nullcontext(), CarelessMachine, id="log cut at the applied index"),
    ],
)
def test_without_a_safeguard_something_is_lost(
    tmp_path: Path, sabotage: AbstractContextManager[None], machine_type: type[Machine]
) -> None:
    losses = 0
    with sabotage:
        for seed in range(FIRST_SEED, FIRST_SEED + CUTS // CUTS_A_LIFE):
            try:
                Life(seed, tmp_path, machine_type).live(CUTS_A_LIFE)
            except StartupError as error:  # refused, which also a damaged file would be
                print(f"seed {seed}: {error}".splitlines()[0])
            except Exception as error:  # a loss seen, or pages that no longer fit together
                losses += 1
                if losses == LOSSES_ENOUGH:
                    return
                print(f"seed {seed}: {type(error).__name__}: {error}".splitlines()[0])
    raise AssertionError(f"only {losses} losses: the harness does not notice")
