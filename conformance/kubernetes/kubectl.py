"""kubectl as a person would run it: the released binary, a kubeconfig, text or JSON back."""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from conformance.kubernetes.client import Object, WatchEvent
from conformance.servers import ROOT

PROGRAM = ROOT / ".venv" / "bin" / "kubectl"
RUN_SECONDS_MAX = 90.0


class KubectlError(Exception):
    """kubectl exited with an error; the message is what it printed on standard error."""


@dataclass(frozen=True, slots=True)
class Kubectl:
    """kubectl with a kubeconfig, and a directory for its caches and output."""

    kubeconfig: Path
    directory: Path

    def run(self, *arguments: str, stdin: Object | None = None) -> str:
        """Standard output of one command; `stdin` goes in as JSON (use with `-f -`)."""
        done = subprocess.run(
            self._command(arguments),
            input=None if stdin is None else json.dumps(stdin),
            capture_output=True,
            text=True,
            env=self._env(),
            timeout=RUN_SECONDS_MAX,
            check=False,
        )
        if done.returncode != 0:
            raise KubectlError(f"kubectl {' '.join(arguments)}: {done.stderr.strip()}")
        return done.stdout

    def json(self, *arguments: str, stdin: Object | None = None) -> Object:
        """The answer of a command that knows `-o json`."""
        answer: Object = json.loads(self.run(*arguments, "-o", "json", stdin=stdin))
        return answer

    def names(self, *arguments: str) -> list[str]:
        """What `get` lists, as bare names in the order printed."""
        lines = self.run("get", *arguments, "-o", "name").splitlines()
        return [line.partition("/")[2] for line in lines]

    @contextmanager
    def watch(self, *arguments: str) -> Iterator["KubectlWatch"]:
        """`kubectl get ... -w`, running for as long as the `with` block lasts."""
        out = self.directory / f"watch-{time.monotonic_ns()}.json"
        command = self._command(("get", *arguments, "-w", "--output-watch-events", "-o", "json"))
        with (
            out.open("wb") as handle,
            subprocess.Popen(
                command, stdout=handle, stderr=subprocess.STDOUT, env=self._env()
            ) as p,
        ):
            try:
                yield KubectlWatch(out)
            finally:
                p.kill()

    def _command(self, arguments: tuple[str, ...]) -> list[str]:
        return [str(PROGRAM), f"--kubeconfig={self.kubeconfig}", *arguments]

    def _env(self) -> dict[str, str]:
        """A home of its own, so that no cache or preference of the user plays a part."""
        return {**os.environ, "HOME": str(self.directory), "KUBECACHEDIR": str(self.directory)}


@dataclass(frozen=True, slots=True)
class KubectlWatch:
    """The output of a running `kubectl get -w`."""

    out: Path

    def events(self) -> list[WatchEvent]:
        """Every event printed so far, oldest first."""
        text = self.out.read_text()
        decoder, found, at = json.JSONDecoder(), list[WatchEvent](), 0
        while at < len(text):
            try:
                event, at = decoder.raw_decode(text, at)
            except ValueError:
                # The last one is still being written.
                break
            found.append(WatchEvent(event["type"], event["object"]))
            at += len(text[at:]) - len(text[at:].lstrip())
        return found
