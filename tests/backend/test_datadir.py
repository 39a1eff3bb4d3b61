"""The data directory: made privately, locked, and refused when it is somebody else's."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from kvshim.backend.datadir import DataDir
from kvshim.errors import StartupError


def test_a_new_directory_is_private(tmp_path: Path) -> None:
    directory = DataDir.open(tmp_path / "deep" / "data")
    assert stat.S_IMODE(directory.path.stat().st_mode) == 0o700
    assert directory.kv_path.name == "kv-1.db"
    assert directory.raft_path.name == "raft.db"
    directory.close()


def test_a_second_opening_is_refused_until_the_first_is_closed(tmp_path: Path) -> None:
    first = DataDir.open(tmp_path / "data")
    with pytest.raises(StartupError, match="in use by another kvshim process"):
        DataDir.open(tmp_path / "data")
    first.close()
    DataDir.open(tmp_path / "data").close()


def test_a_killed_process_leaves_no_lock_behind(tmp_path: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path; from kvshim.backend.datadir import DataDir;"
        "DataDir.open(Path(sys.argv[1])); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "data")], check=False, timeout=30)
    DataDir.open(tmp_path / "data").close()


def test_a_file_system_of_its_own_is_no_foreign_directory(tmp_path: Path) -> None:
    (tmp_path / "lost+found").mkdir()
    DataDir.open(tmp_path).close()


@pytest.mark.parametrize(
    ("content", "message"),
    [("member", "etcd's own data"), ("holiday.jpg", "files that are not kvshim's")],
)
def test_a_foreign_directory_is_refused_and_left_alone(
    tmp_path: Path, content: str, message: str
) -> None:
    (tmp_path / content).mkdir()
    with pytest.raises(StartupError, match=message):
        DataDir.open(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == [content]


def test_a_file_in_place_of_the_directory_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(b"content")
    with pytest.raises(StartupError, match="not a directory"):
        DataDir.open(tmp_path / "data")
    assert (tmp_path / "data").read_bytes() == b"content"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_without_permission_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(StartupError, match="Permission denied"):
        DataDir.open(tmp_path / "data")
    tmp_path.chmod(0o700)
