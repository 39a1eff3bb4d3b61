"""What README.md and the banner tell people to type works as it stands, on kvshim and on etcd."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from conformance.etcdctl.normal import normalise
from conformance.etcdctl.pair import DifferenceError, wait_until, watchers
from conformance.servers import ETCDCTL, ROOT, Datastore, Kind
from kvshim.cli.banner import commands_to_try
from kvshim.config import Loaded, load

SECONDS_MAX = 10
TOUR_TITLE = "## One minute with etcdctl"


def tour() -> list[str]:
    """The commands of README's block, a line each."""
    section = (ROOT / "README.md").read_text().split(TOUR_TITLE)[1].split("\n## ")[0]
    commands = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    assert len(commands) == 1
    return commands[0].splitlines()


class Shell:
    """A bash that commands are typed into, with etcdctl on its PATH and one server as default."""

    def __init__(self, store: Datastore, directory: Path) -> None:
        self._output = directory / "shell.log"
        environ = {name: text for name, text in os.environ.items() if "ETCDCTL" not in name}
        environ["PATH"] = f"{ETCDCTL.parent}:{environ['PATH']}"
        environ["ETCDCTL_ENDPOINTS"] = store.client_url
        with self._output.open("wb") as output:
            self._bash = subprocess.Popen(
                ["bash"], stdin=subprocess.PIPE, stdout=output, stderr=output, env=environ
            )
        self._count = 0

    def type(self, line: str) -> str:
        """Types a line and waits for its end; returns what was printed until then."""
        self._count += 1
        before, mark = self.printed(), f"(line {self._count}: "
        assert self._bash.stdin is not None
        self._bash.stdin.write(f'{line}\necho "{mark}$?)"\n'.encode())
        self._bash.stdin.flush()
        wait_until(lambda: "" if mark in self.printed() else f"{line} does not end")
        said, _, code = self.printed().removeprefix(before).partition(mark)
        assert code.startswith("0)"), f"{line} failed: {said}"
        return said

    def printed(self) -> str:
        return self._output.read_text()

    def close(self) -> None:
        self._bash.communicate(b"kill $(jobs -p) 2>/dev/null\n", timeout=SECONDS_MAX)


@pytest.mark.parametrize("kind", [Kind.KVSHIM, Kind.ETCD], ids=lambda kind: kind.value)
def test_the_tour_of_the_readme(kind: Kind, tmp_path: Path):
    said: dict[str, str] = {}
    watched = tmp_path / "watch.log"
    with Datastore(kind, tmp_path / "store") as store:
        shell = Shell(store, tmp_path)
        try:
            for line in tour():
                # What runs behind the shell prints when it likes, even amid another's lines, so
                # it gets a file of its own; and a person does not type as fast as this.
                behind = line.endswith("&")
                typed = f"{line[:-1]}> {shlex.quote(str(watched))} &" if behind else line
                said[line.split()[1]] = normalise(shell.type(typed), {})
                if behind:
                    wait_until(lambda: "" if watchers(store) else "nothing is watched")
            wait_until(lambda: "" if "PUT\ngreeting\nhi\n" in watched.read_text() else "no event")
        finally:
            shell.close()
    assert said["put"] == "OK\n"
    assert '"value":"aGVsbG8="' in said["get"]
    assert said["txn"] == "SUCCESS\n\nOK\n"
    assert re.search(r"lease [0-9a-f]{16} granted with TTL\(60s\)", said["lease"])
    assert "compacted revision 3" in said["compact"]
    assert "RAFT APPLIED INDEX" in said["endpoint"]


def test_the_three_commands_of_the_banner(tmp_path: Path):
    with Datastore(Kind.KVSHIM, tmp_path / "store") as store:
        loaded = load(store.command()[1:], {})
        assert isinstance(loaded, Loaded)
        said = [run_as_typed(command) for command in commands_to_try(loaded.config)]
    assert said[:2] == ["OK\n", "greeting\nhello\n"]
    assert f" {store.client_url} " in said[2]


def run_as_typed(command: str) -> str:
    environ = {**os.environ, "PATH": f"{ETCDCTL.parent}:{os.environ['PATH']}"}
    done = subprocess.run(
        shlex.split(command),
        env=environ,
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    if done.returncode != 0:
        raise DifferenceError(f"{command} failed: {done.stderr}")
    return done.stdout


def test_the_tour_without_naming_an_endpoint_needs_the_default_port():
    """`make run` listens where etcdctl looks by itself, so the tour names no endpoint."""
    loaded = load([], {})
    assert isinstance(loaded, Loaded)
    assert [str(url) for url in loaded.config.listen_client_urls] == ["http://127.0.0.1:2379"]
    assert not any("--endpoints" in line for line in tour())
