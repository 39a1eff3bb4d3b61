"""The scripts in `golden/`: commands, and exactly what the core does on each.

`pytest tests/raft_core --rewrite-golden` writes the answers anew; the diff is to be reviewed.
A line "> command" is followed by what happened, up to an empty line; "#" comments tell the story.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.raft_core.cluster import Cluster

SCRIPTS = sorted((Path(__file__).parent / "golden").glob("*.txt"))


def replay(text: str) -> str:
    """Run the commands of a script; returns the script with what happens now."""
    cluster = Cluster()
    lines: list[str] = []
    answer = False
    for line in text.splitlines():
        if line.startswith("> "):
            if answer:
                lines.append("")
            lines += [line, *cluster.run(line[2:])]
            answer = True
        elif answer:
            if line and not line.startswith("#"):
                continue
            answer = False
            if line:
                lines.append("")
            lines.append(line)
        else:
            lines.append(line)
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_script(path: Path, request: pytest.FixtureRequest):
    told = path.read_text()
    happened = replay(told)
    if request.config.getoption("--rewrite-golden", default=False):
        path.write_text(happened)
    else:
        assert happened == told


def test_every_rule_has_a_script():
    assert len(SCRIPTS) >= 20


def test_a_script_that_tells_something_else_fails():
    told = "> add 1\nok\n\n> campaign 1\nnothing happens\n"
    assert replay(told) != told
