"""The disk of one member fills up: it says so and stops, and the others go on without it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.clients import Traffic
from tests.cluster.cluster import wait_for
from tests.cluster.conftest import FormCluster
from tests.cluster.member import Member
from tests.cluster.test_kills import settle

DISK_BYTES = 16 << 20
ROOM_BYTES = 512 << 20
VALUE_BYTES = 8_000
FILL_SECONDS_MAX = 90.0


class SmallDisk:
    """A file system of its own for one member's data, which only root can make."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def mount(self, size: int) -> bool:
        """Make it, or change its size; False when that is not permitted."""
        self._directory.mkdir(parents=True, exist_ok=True)
        how = "remount," if self._directory.is_mount() else ""
        mount = ["mount", "-t", "tmpfs", "-o", f"{how}size={size},mode=0700"]
        done = subprocess.run(
            [*mount, "tmpfs", str(self._directory)], capture_output=True, check=False
        )
        return done.returncode == 0

    def unmount(self) -> None:
        if self._directory.is_mount():
            subprocess.run(["umount", "--lazy", str(self._directory)], check=True)


@pytest.fixture
def small_disks() -> Iterator[list[SmallDisk]]:
    disks: list[SmallDisk] = []
    yield disks
    for disk in disks:
        disk.unmount()


def sentence(member: Member) -> str:
    """The last thing it told its operator."""
    lines = member.log.read_text(errors="replace").splitlines()
    return next(line for line in reversed(lines) if line.startswith("kvshim: "))


def test_a_member_with_a_full_disk_stops_and_comes_back_when_there_is_room(
    form: FormCluster, small_disks: list[SmallDisk], seed: int
) -> None:
    def prepare(member: Member) -> None:
        if member.name == "b":
            small_disks.append(SmallDisk(member.data_dir))
            if os.geteuid() != 0 or not small_disks[0].mount(DISK_BYTES):
                pytest.skip("cannot mount a small file system here")

    cluster = form(3, prepare=prepare)
    victim = cluster.members[1]
    load = Traffic(cluster.targets(), seed, writes=1.0, value_bytes=VALUE_BYTES)
    with load as traffic:
        wait_for(lambda: True if not victim.running else None, FILL_SECONDS_MAX, victim.tail)
        assert "full" in sentence(victim)
        assert "Traceback" not in victim.log.read_text(errors="replace")
        victim.process = None
        cluster.wait_leader()
        traffic.wait_writes(100, 40)
        assert small_disks[0].mount(ROOM_BYTES)
        cluster.restart(victim)
        settle(cluster, traffic)
