"""PyPI's `etcd3` does what it is for: keys, transactions, leases, watches, locks, maintenance.

It runs in an environment of its own under `build/`, as it needs a protobuf that ours excludes.
"""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from conformance.servers import BUILD_DIR, Datastore, Kind
from conformance.summary import Counts, Recorder, count

HERE = Path(__file__).resolve().parent / "etcd3"
ENVIRONMENT = BUILD_DIR / "venv-etcd3"
INSTALL_SECONDS_MAX = 300
STORY_SECONDS_MAX = 60
CHAPTERS = ["keys", "transactions", "leases", "watches", "locks", "maintenance"]


@pytest.fixture(scope="module")
def python() -> Path:
    """The interpreter that has etcd3, made once for each list of requirements."""
    wanted = HERE / "requirements.txt"
    stamp = ENVIRONMENT / ".requirements"
    digest = hashlib.sha256(wanted.read_bytes()).hexdigest()
    python = ENVIRONMENT / "bin" / "python"
    if not stamp.exists() or stamp.read_text() != digest:
        subprocess.run([sys.executable, "-m", "venv", "--clear", ENVIRONMENT], check=True)
        install = ["-m", "pip", "install", "--quiet", "--progress-bar=off", "-r", wanted]
        subprocess.run([python, *install], timeout=INSTALL_SECONDS_MAX, check=True)
        stamp.write_text(digest)
    return python


@pytest.mark.timeout(INSTALL_SECONDS_MAX + STORY_SECONDS_MAX)
@pytest.mark.parametrize("kind", [Kind.KVSHIM, Kind.ETCD], ids=lambda kind: kind.value)
def test_every_chapter(kind: Kind, python: Path, tmp_path: Path, record_property: Recorder):
    with Datastore(kind, tmp_path / "datastore") as datastore:
        told = subprocess.run(
            [python, HERE / "story.py", *datastore.endpoint.split(":")],
            capture_output=True,
            text=True,
            timeout=STORY_SECONDS_MAX,
            check=False,
        )
    chapters = told.stdout.split()
    count(record_property, kind, Counts(len(chapters), len(CHAPTERS) - len(chapters)))
    assert chapters == CHAPTERS, told.stderr
    assert told.returncode == 0, told.stderr
