"""Every command that etcdctl has is accounted for in docs/COMPATIBILITY.md, and no other."""

import re
import subprocess
from collections.abc import Iterator

from conformance.servers import ETCDCTL
from scripts.compatibility import data

COMMAND = re.compile(r"^  (\w[\w-]*) +\S", re.M)
LISTS = re.compile(r"^[\w -]*[Cc]ommands:?\n((?:^  .*\n)+)", re.M)


def commands(*path: str) -> Iterator[str]:
    """The commands below that one, the ones that have others below them left out."""
    said = subprocess.run(
        [ETCDCTL, *path, "--help"], capture_output=True, text=True, timeout=10, check=True
    ).stdout
    below = [name for block in LISTS.findall(said) for name in COMMAND.findall(block)]
    if path and not below:
        yield " ".join(path)
    for name in below:
        if path and name == "help":
            continue
        # These take any argument for a shell or a topic.
        yield from [name] if name in ("completion", "help") else commands(*path, name)


def test_every_command_is_accounted_for():
    found = set(commands())
    assert len(found) > 50
    assert found == data()["etcdctl"].keys()
