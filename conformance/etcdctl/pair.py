"""etcd and kvshim side by side: every etcdctl command runs on both, and must answer the same.

Both are fresh and get the same flags and commands, so whatever the rules of `normal.py` do not
name has to agree to the letter: standard output, standard error, exit code. Blocking code; owns the
two servers and the etcdctl processes it starts.
"""

import os
import re
import shlex
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from conformance.etcdctl.normal import normalise, normalise_table
from conformance.servers import ETCDCTL, Datastore, Kind

COMMAND_SECONDS_MAX = 15.0
WAIT_SECONDS_MAX = 10.0
POLL_SECONDS = 0.01

# Ids are computed from these, so both servers are given the same ones. Nobody connects to them.
PEER_URL = "http://127.0.0.1:2380"
SAME_IDS = (
    f"--initial-advertise-peer-urls={PEER_URL}",
    f"--initial-cluster=m1={PEER_URL}",
)

GRANTED = re.compile(r"lease ([0-9a-f]{16}) granted with TTL\((\d+)s\)\n")


@dataclass(frozen=True, slots=True)
class Answer:
    """How one etcdctl ended, and what it printed."""

    code: int
    stdout: str
    stderr: str

    def __str__(self) -> str:
        return f"exit {self.code}\n--- stdout\n{self.stdout}\n--- stderr\n{self.stderr}"

    @property
    def lines(self) -> list[str]:
        return self.stdout.splitlines()


class DifferenceError(AssertionError):
    """The two servers answered differently, or not as the test said they would."""


@dataclass(slots=True)
class Side:
    """One server and the etcdctl processes that talk to it."""

    store: Datastore
    leases: dict[str, str] = field(default_factory=dict)
    """Hexadecimal id by the name that tests use for the lease."""

    def command(self, arguments: tuple[str, ...]) -> list[str]:
        """A command line; `{L1}` in it stands for the id of that lease on this server."""
        filled = [self._fill(argument) for argument in arguments]
        return [str(ETCDCTL), f"--endpoints={self.store.client_url}", *filled]

    def names(self) -> Mapping[str, str]:
        """What is this server's own in any text, and what to call it."""
        found = {self.store.endpoint: "<endpoint>"}
        for name, hexadecimal in self.leases.items():
            found[hexadecimal] = f"<{name}>"
            found[str(int(hexadecimal, 16))] = f"<{name}>"
        return found

    def popen(
        self, arguments: tuple[str, ...], out: int | IO[bytes], err: int | IO[bytes]
    ) -> subprocess.Popen[bytes]:
        environ = {name: text for name, text in os.environ.items() if "ETCDCTL" not in name}
        command = self.command(arguments)
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=out, stderr=err, env=environ)

    def answer(self, code: int, stdout: bytes, stderr: bytes) -> Answer:
        return Answer(code, self.readable(stdout), self.readable(stderr))

    def readable(self, output: bytes) -> str:
        text = output.decode("utf-8", errors="backslashreplace")
        return normalise(normalise_table(text), self.names())

    def _fill(self, text: str) -> str:
        for name, hexadecimal in self.leases.items():
            text = text.replace(f"{{{name}}}", hexadecimal)
        return text


@dataclass(slots=True)
class Running:
    """One long-running etcdctl on each side, a watch for example, and what it has printed."""

    sides: tuple[Side, ...]
    arguments: tuple[str, ...]
    directory: Path
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self) -> None:
        for number, side in enumerate(self.sides):
            outputs = (self._file(number, name) for name in ("out", "err"))
            with next(outputs).open("wb") as out, next(outputs).open("wb") as err:
                self.processes.append(side.popen(self.arguments, out, err))

    def send(self, line: str) -> None:
        """Types a line."""
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.write(line.encode() + b"\n")
            process.stdin.flush()

    def wait_for(self, text: str, times: int = 1) -> None:
        """Returns once both have printed the text so often."""
        wait_until(lambda: self._missing(text, times))

    def _missing(self, text: str, times: int) -> str:
        for number, side in enumerate(self.sides):
            printed = self._printed(number)
            if printed.count(text) < times:
                said = f"no {text!r} from etcdctl {shlex.join(self.arguments)}:"
                return f"{side.store.kind.value}: {said}\n{printed}"
        return ""

    def interrupt(self) -> Answer:
        """SIGINT, as Ctrl-C; then the common answer."""
        for process in self.processes:
            process.send_signal(signal.SIGINT)
        return self.finish()

    def finish(self) -> Answer:
        """The common answer of both, once they have ended by themselves."""
        answers = []
        for number, (side, process) in enumerate(self._running()):
            try:
                process.wait(timeout=WAIT_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                said = f"etcdctl {shlex.join(self.arguments)} does not end"
                raise DifferenceError(f"{side.store.kind.value}: {said}") from None
            out, err = (self._file(number, name).read_bytes() for name in ("out", "err"))
            answers.append(side.answer(process.returncode, out, err))
        return same(shlex.join(self.arguments), *answers)

    def end(self) -> None:
        """Whatever still runs is over."""
        for process in self.processes:
            process.kill()
            process.wait()
            assert process.stdin is not None
            with suppress(BrokenPipeError):  # what was typed and not read
                process.stdin.close()

    def _running(self) -> list[tuple[Side, subprocess.Popen[bytes]]]:
        return list(zip(self.sides, self.processes, strict=True))

    def _printed(self, number: int) -> str:
        return self.sides[number].readable(self._file(number, "out").read_bytes())

    def _file(self, number: int, name: str) -> Path:
        return self.directory / f"{number}.{name}"


class Pair:
    """The two servers."""

    def __init__(self, directory: Path, *flags: str) -> None:
        self._directory = directory
        etcd, kvshim = (
            Side(Datastore(kind, directory / kind.value, [*SAME_IDS, *flags]))
            for kind in (Kind.ETCD, Kind.KVSHIM)
        )
        self.etcd, self.kvshim = etcd, kvshim
        self.sides = (etcd, kvshim)

    def start(self) -> None:
        with ThreadPoolExecutor(len(self.sides)) as pool:
            for started in [pool.submit(side.store.start) for side in self.sides]:
                started.result()

    def stop(self) -> None:
        """kvshim's stop must be clean and in time; how etcd stops is not our business."""
        self.etcd.store.kill()
        self.kvshim.store.stop()

    def revision(self) -> int:
        """Where both stand."""
        etcd, kvshim = (side.store.revision() for side in self.sides)
        assert etcd == kvshim, "the stores went apart"
        return etcd

    def apart(self) -> bool:
        """Whether the stores have ceased to hold the same."""
        etcd, kvshim = (side.store.revision() for side in self.sides)
        return etcd != kvshim

    def run(self, *arguments: str, stdin: str = "", fails: bool = False) -> Answer:
        """One command on both; `fails` says whether it has to. Returns what both answered."""
        return self._compared(self.raw(*arguments, stdin=stdin), arguments, fails)

    def raw(self, *arguments: str, stdin: str = "") -> list[tuple[int, bytes, bytes]]:
        """One command on both at the same time: code, output and errors, as they are."""
        processes = [side.popen(arguments, subprocess.PIPE, subprocess.PIPE) for side in self.sides]
        answers = []
        try:
            for side, process in zip(self.sides, processes, strict=True):
                try:
                    out, err = process.communicate(stdin.encode(), COMMAND_SECONDS_MAX)
                except subprocess.TimeoutExpired:
                    where = f"{side.store.kind.value}: etcdctl {shlex.join(arguments)}"
                    raise DifferenceError(f"{where} does not end") from None
                answers.append((process.returncode, out, err))
        finally:
            for process in processes:
                process.kill()
                process.wait()
        return answers

    def script(self, text: str) -> list[Answer]:
        """Commands line by line, as typed; one that begins with `!` has to fail.

        All lines run whatever their answers, so that one difference does not hide the next.
        """
        answers, problems = [], []
        for line in filter(None, map(str.strip, text.splitlines())):
            if line.startswith("#"):
                continue
            try:
                fails = line.startswith("!")
                answers.append(self.run(*shlex.split(line.removeprefix("!")), fails=fails))
            except DifferenceError as problem:
                problems.append(str(problem))
        if problems:
            raise DifferenceError("\n\n".join(problems))
        return answers

    def grant(self, name: str, ttl: int, *, granted: int | None = None) -> None:
        """A lease on both, `{name}` in later commands. Fails unless it gets the TTL granted."""
        answers = self.raw("lease", "grant", "--", str(ttl))
        for side, (code, out, err) in zip(self.sides, answers, strict=True):
            match = GRANTED.fullmatch(out.decode())
            assert match, (side.store.kind, code, out, err)
            assert int(match[2]) == (ttl if granted is None else granted)
            side.leases[name] = match[1]

    @contextmanager
    def running(self, *arguments: str) -> Iterator[Running]:
        """A command that goes on until it is interrupted."""
        with tempfile.TemporaryDirectory(dir=self._directory) as directory:
            running = Running(self.sides, arguments, Path(directory))
            running.start()
            try:
                yield running
            finally:
                running.end()

    def wait_for_watchers(self, count: int) -> None:
        """Returns once both servers have so many watchers: what happens then, these see."""
        wait_until(lambda: self._watchers_missing(count))

    def _watchers_missing(self, count: int) -> str:
        found = [watchers(side.store) for side in self.sides]
        return "" if set(found) == {count} else f"{found} watchers, not {count} on each"

    def _compared(
        self, raw: list[tuple[int, bytes, bytes]], arguments: tuple[str, ...], fails: bool
    ) -> Answer:
        command = shlex.join(arguments)
        answers = [side.answer(*answer) for side, answer in zip(self.sides, raw, strict=True)]
        answer = same(command, *answers)
        if (answer.code != 0) is not fails:
            raise DifferenceError(f"etcdctl {command} was to {['work', 'fail'][fails]}: {answer}")
        return answer


def same(command: str, etcd: Answer, kvshim: Answer) -> Answer:
    """The answer of both; raises DifferenceError if there is none."""
    if etcd != kvshim:
        raise DifferenceError(f"etcdctl {command}\n=== etcd: {etcd}\n=== kvshim: {kvshim}")
    return etcd


def watchers(store: Datastore) -> int:
    """How many watchers the server has, by its metrics."""
    match = re.search(r"^etcd_debugging_mvcc_watcher_total (\d+)", store.metrics(), re.M)
    assert match, f"{store.kind.value} does not tell how many watchers it has"
    return int(match[1])


def wait_until(missing: Callable[[], str]) -> None:
    """Polls until nothing is missing; raises DifferenceError with what still is, in the end."""
    deadline = time.monotonic() + WAIT_SECONDS_MAX
    while problem := missing():
        if time.monotonic() > deadline:
            raise DifferenceError(problem)
        time.sleep(POLL_SECONDS)
