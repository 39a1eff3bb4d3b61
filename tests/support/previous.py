"""Other versions of kvshim, to start beside the present one: an earlier commit, or one made up.

Generated messages are committed, so an earlier version is its files and the present environment.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.support.datastore import REPOSITORY

GIT_SECONDS_MAX = 60
START = "import sys; from kvshim.cli.main import main; sys.exit(main())"
LOOK = """
import kvshim, raft
from kvshim import version
print(kvshim.__file__, raft.__file__, getattr(version, "FORMAT_VERSION", 1))
"""
MADE_UP = """
import kvshim.version
kvshim.version.FORMAT_VERSION = {version}
from kvshim.apply.versions import LEAST_VERSIONS
LEAST_VERSIONS.update({least})
"""
RUNS_RAFT = "docs/adr/0009-running-raft.md"
"""There since the first version whose members form a cluster."""


class NoHistory(Exception):
    """The clone holds no earlier version that can run a cluster; the text says why."""


@dataclass(frozen=True, slots=True)
class Previous:
    """How to start it: `program` in `environment`."""

    commit: str
    format_version: int
    program: tuple[str, ...]
    environment: dict[str, str]


def previous_version(directory: Path) -> Previous:
    """The commit before the present one, unpacked; `KVSHIM_PREVIOUS` names another.

    Raises `NoHistory`.
    """
    commit = _git("rev-parse", "--verify", os.environ.get("KVSHIM_PREVIOUS", "HEAD~1")).strip()
    if not _git("ls-tree", "--name-only", commit, RUNS_RAFT).strip():
        raise NoHistory(f"{commit[:12]} is older than the first cluster")
    archive = directory / "previous.tar"
    _git("archive", f"--output={archive}", commit, "kvshim", "raft")
    sources = directory / "previous"
    shutil.unpack_archive(archive, sources)
    # -P: not what lies in the working directory, which is the present version.
    python = (sys.executable, "-P", "-c")
    environment = {"PYTHONPATH": str(sources)}
    *where, version = subprocess.run(
        [*python, LOOK],
        env={**os.environ, **environment},
        check=True,
        capture_output=True,
        text=True,
        timeout=GIT_SECONDS_MAX,
    ).stdout.split()
    assert all(Path(file).is_relative_to(sources) for file in where), where
    return Previous(commit, int(version), (*python, START), environment)


def made_up_program(version: int, **least: int) -> tuple[str, ...]:
    """The present program as if this cluster version were its newest.

    `least` says from which version on it proposes a kind of command.
    """
    return sys.executable, "-c", MADE_UP.format(version=version, least=least) + START


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(REPOSITORY), *arguments],
            check=True,
            capture_output=True,
            text=True,
            timeout=GIT_SECONDS_MAX,
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise NoHistory(f"git {' '.join(arguments)}: {error}") from None
    return done.stdout
