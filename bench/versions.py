"""Which programs a measurement is about; reads the checkout, leaves it as it is but for bytecode.

kvshim runs from its sources, or compiled from them by make, so a measurement stands for one version
only if these stay as they are from its first round to its last.
"""

from __future__ import annotations

import compileall
import hashlib
import subprocess
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Self

from bench.load import MODULE_DIR, ROOT
from tests.support.program import KVSHIM

ETCD_MODULE = "go.etcd.io/etcd/server/v3"
KINE_MODULE = "github.com/k3s-io/kine"
PACKAGES = ("kvshim", "raft")


class VersionError(Exception):
    """It cannot be said which version was measured."""


@dataclass(frozen=True, slots=True)
class Program:
    """kvshim as it is at one moment."""

    version: str
    digest: str
    root: Path

    @classmethod
    def now(cls, root: Path = ROOT) -> Self:
        """The program in this checkout."""
        return cls(_kvshim_version(root), _digest(root), root)

    def compile(self) -> None:
        """To bytecode, as pip does on installing it: else each start may compile it all anew."""
        for package in PACKAGES:
            compileall.compile_dir(self.root / package, quiet=1)

    def require_unchanged(self) -> None:
        """Raises VersionError if the sources are no longer those that this describes."""
        if _digest(self.root) != self.digest:
            raise VersionError(
                "kvshim's sources changed during the measurement, so its rounds do not compare: "
                "nothing is kept; measure in a clone that nobody edits"
            )


def etcd() -> str:
    """The version that go.mod pins and build.py builds."""
    return _pinned(MODULE_DIR, ETCD_MODULE)


def kine() -> str:
    """The same of kine."""
    return _pinned(MODULE_DIR.parent / "kine", KINE_MODULE)


def _pinned(directory: Path, module: str) -> str:
    for line in (directory / "go.mod").read_text().splitlines():
        words = line.replace("require ", "").split()
        if len(words) > 1 and words[0] == module:
            return words[1].removeprefix("v")
    raise VersionError(f"{module} is not in go.mod")


def _kvshim_version(root: Path) -> str:
    """The package's version, in a checkout the commit and whether the program differs, and
    whether it is compiled.
    """
    version = metadata.version("kvshim")
    if commit := _git(root, "rev-parse", "--short", "HEAD"):
        changed = _git(root, "status", "--porcelain", "--", *PACKAGES)
        version += f" at {commit}" + (" with changes" if changed else "")
    said = subprocess.run([KVSHIM, "version"], capture_output=True, text=True, check=True).stdout
    about = dict(line.split(": ", 1) for line in said.splitlines())
    compiled = ", compiled" if about["Compiled"] == "yes" else ""
    return f"{version}{compiled}, Python {about['Python Version']}"


def _git(root: Path, *arguments: str) -> str:
    """What git prints; nothing outside a checkout or without git."""
    command = ["git", *arguments]
    try:
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def _digest(root: Path) -> str:
    digest = hashlib.sha256()
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            digest.update(f"{path.relative_to(root)}\n".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()
