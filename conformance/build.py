"""Builds the Go programs that the conformance checks run, into `build/` at the repository root.

`python conformance/build.py [target ...]` builds the targets named, or all of them. Standard
library only, so that it runs before `make setup`. A target whose inputs have not changed since it
was built is left alone without asking Go; otherwise Go's own build cache decides what to compile.
"""

import argparse
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

HERE = Path(__file__).resolve().parent
BUILD_DIR = HERE.parent / "build"

KUBERNETES_VERSION = "1.37.2"
# The day of the release, and not of the build: a fixed value keeps the link step cacheable.
KUBERNETES_RELEASED = "2026-10-27T12:01:04Z"


@dataclass(frozen=True, slots=True)
class Target:
    """One program: the Go module it is built in, its package, and what the linker is told."""

    name: str
    module: str
    package: str
    ldflags: str = "-s -w"
    hint: str = ""
    verb: ClassVar[tuple[str, ...]] = ("build",)


class TestsTarget(Target):
    """A program that runs the tests of a package."""

    __test__ = False  # though pytest would think so by its name
    verb = ("test", "-c")


def _kubernetes_ldflags() -> str:
    """Stamps the version that a release build carries; without it the server calls itself v0.0.0
    and the emulated version, the feature gates and kubectl's skew check start from nonsense."""
    major, minor, _ = KUBERNETES_VERSION.split(".")
    stamped = {
        "gitVersion": f"v{KUBERNETES_VERSION}",
        "gitMajor": major,
        "gitMinor": minor,
        "gitTreeState": "archive",
        "buildDate": KUBERNETES_RELEASED,
    }
    package = "k8s.io/component-base/version"
    return "-s -w " + " ".join(f"-X {package}.{name}={value}" for name, value in stamped.items())


TARGETS = {
    target.name: target
    for target in (
        Target("etcd", "etcd", "./cmd/etcd"),
        Target("etcdctl", "etcd", "go.etcd.io/etcd/etcdctl/v3"),
        Target("etcdutl", "etcd", "go.etcd.io/etcd/etcdutl/v3"),
        Target("kine", "kine", "github.com/k3s-io/kine"),
        Target("h2spec", "h2spec", "github.com/summerwind/h2spec/cmd/h2spec"),
        Target("story-go", "clients/go", "."),
        Target("recipes", "recipes", "."),
        TestsTarget("storage-suites", "storage", ".", hint="3 minutes on 2 cores the first time"),
        Target("coredns", "coredns", ".", hint="a minute or two the first time"),
        Target(
            "kube-apiserver",
            "kubernetes",
            "./cmd/kube-apiserver",
            _kubernetes_ldflags(),
            "10 to 15 minutes on 2 cores the first time",
        ),
    )
}


OPTIONAL = ("kine", "coredns")
"""Built only if named, or by the test that runs them."""

WITH_C = ("kine",)
"""As published, it has its SQLite in C; all others need no C compiler and come out the same
everywhere."""


def binary(name: str) -> Path:
    """Where the program of that name is, or is to be."""
    return BUILD_DIR / TARGETS[name].name


def build(target: Target) -> None:
    """Builds one target unless it is up to date; raises CalledProcessError if Go fails."""
    out, stamp = binary(target.name), BUILD_DIR / f".{target.name}.inputs"
    with _lock(target.name):
        inputs = _inputs_digest(target)
        if out.exists() and stamp.exists() and stamp.read_text() == inputs:
            print(f"{target.name}: up to date", flush=True)
            return
        print(f"{target.name}: building" + (f" ({target.hint})" if target.hint else ""), flush=True)
        started = time.monotonic()
        _go_build(target, out)
        stamp.write_text(inputs)
        print(f"{target.name}: built in {time.monotonic() - started:.0f} s", flush=True)


def _go_build(target: Target, out: Path) -> None:
    command = ["go", *target.verb, "-mod=readonly", "-trimpath", "-buildvcs=false"]
    command += ["-ldflags", target.ldflags, "-o", str(out), target.package]
    environment = {**os.environ, "CGO_ENABLED": "1" if target.name in WITH_C else "0"}
    subprocess.run(command, cwd=HERE / target.module, env=environment, check=True)


def _inputs_digest(target: Target) -> str:
    """Everything of ours that the binary depends on; go.sum pins the rest."""
    module = HERE / target.module
    files = [module / "go.mod", module / "go.sum"]
    if target.package.startswith("."):
        files += sorted((module / target.package).rglob("*.go"))
    digest = hashlib.sha256(f"{target}\n{_go_version()}".encode())
    for file in files:
        digest.update(f"\n{file.relative_to(HERE)}\n".encode())
        digest.update(file.read_bytes())
    return digest.hexdigest()


def _go_version() -> str:
    command = ["go", "env", "GOVERSION", "GOOS", "GOARCH"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@contextmanager
def _lock(name: str) -> Iterator[None]:
    """Two runs at once build a program once: the second waits and finds it up to date."""
    BUILD_DIR.mkdir(exist_ok=True)
    with (BUILD_DIR / f".{name}.lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def main() -> int:
    """Builds what the command line names; 1 with one sentence if that is not possible."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("targets", nargs="*", metavar="target", help=f"of {', '.join(TARGETS)}")
    names = parser.parse_args().targets or [name for name in TARGETS if name not in OPTIONAL]
    if unknown := [name for name in names if name not in TARGETS]:
        parser.error(f"unknown target {unknown[0]!r}; choose from {', '.join(TARGETS)}")
    if shutil.which("go") is None:
        print("build: no `go` in PATH; the conformance programs need Go 1.26 or newer")
        return 1
    for name in names:
        try:
            build(TARGETS[name])
        except subprocess.CalledProcessError as failure:
            print(f"{name}: go failed with exit code {failure.returncode}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
