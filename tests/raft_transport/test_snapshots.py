"""Snapshots between members: whole, resumed, damaged, refused, and beside heartbeats."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import zstandard
from google_crc32c import value as crc32c

from raft.core.messages import InstallSnapshot
from raft.pb import peer_pb2 as pb
from raft.transport import snapshots_in, snapshots_out
from raft.types import Index, LogError, MemberId, Membership, SnapshotMeta, Term
from tests.raft_transport.members import Host, Wire, heartbeat, host, hosts

ONE, TWO = MemberId(1), MemberId(2)
META = SnapshotMeta(Index(77), Term(4), Membership.of([1, 3], [2]))


def a_file(path: Path, size: int) -> Path:
    block = os.urandom(1 << 20)
    with path.open("wb") as file:
        for start in range(0, size, len(block)):
            file.write(block[: size - start])
    return path


async def test_a_snapshot_arrives_whole_with_what_it_stands_for(tmp_path: Path):
    source = a_file(tmp_path / "copy", (3 << 20) + 17)
    async with hosts(await host(1, tmp_path), await host(2, tmp_path)) as (one, two):
        one.transport.set_peers({TWO: [two.url]})
        await one.transport.send_snapshot(TWO, Term(5), META, source)

        [(message, path)] = two.inbox.snapshots
        assert message == InstallSnapshot(ONE, TWO, Term(5), META)
        assert path.read_bytes() == source.read_bytes()
        assert path.parent == two.directory
        assert path.stat().st_mode & 0o777 == 0o600
        assert not list(two.directory.glob("*.part"))


async def test_a_snapshot_has_arrived_when_it_was_taken_however_long_that_lasts(tmp_path: Path):
    """A leader that went on before would ask for what is not there yet, and send another."""
    source = a_file(tmp_path / "copy", 1 << 20)
    patient = {"snapshot_stall_seconds": 1.5}
    members = await host(1, tmp_path, **patient), await host(2, tmp_path, **patient)
    async with hosts(*members) as (one, two):
        one.transport.set_peers({TWO: [two.url]})
        two.inbox.taking.clear()
        sending = asyncio.create_task(one.transport.send_snapshot(TWO, Term(5), META, source))
        await two.inbox.until(lambda: two.inbox.snapshots)
        done, _ = await asyncio.wait((sending,), timeout=2.5)
        assert not done
        two.inbox.taking.set()
        await sending
        assert len(two.inbox.snapshots) == 1


async def test_a_sender_hears_that_its_snapshot_cannot_be_used(tmp_path: Path):
    source = a_file(tmp_path / "copy", 1 << 20)
    async with hosts(await host(1, tmp_path), await host(2, tmp_path)) as (one, two):
        one.transport.set_peers({TWO: [two.url]})
        two.inbox.refusal = "it is of another world"
        with pytest.raises(LogError, match="the receiver says: it is of another world"):
            await one.transport.send_snapshot(TWO, Term(5), META, source)


async def test_an_empty_file_is_a_snapshot_too(tmp_path: Path):
    source = a_file(tmp_path / "copy", 0)
    async with hosts(await host(1, tmp_path), await host(2, tmp_path)) as (one, two):
        one.transport.set_peers({TWO: [two.url]})
        await one.transport.send_snapshot(TWO, Term(5), META, source)
        assert two.inbox.snapshots[0][1].read_bytes() == b""


async def test_heartbeats_pass_while_a_large_snapshot_goes_over(tmp_path: Path):
    source = a_file(tmp_path / "copy", 100 << 20)
    loop = asyncio.get_running_loop()
    async with hosts(await host(1, tmp_path), await host(2, tmp_path)) as (one, two):
        one.transport.set_peers({TWO: [two.url]})
        await one.transport.connected(TWO)

        sending = asyncio.create_task(one.transport.send_snapshot(TWO, Term(5), META, source))
        waits, number = [], 0
        while not sending.done():
            number += 1
            sent_at = loop.time()
            one.transport.send([heartbeat(number)])
            await two.inbox.until(lambda n=number: heartbeat(n) in two.inbox.messages[-3:])
            waits.append(loop.time() - sent_at)
            await asyncio.wait((sending,), timeout=0.01)
        await sending

        assert len(waits) > 5
        assert sorted(waits)[len(waits) // 2] < 0.1
        assert max(waits) < 0.5  # an election timeout is a second
        assert one.inbox.lost == []


@asynccontextmanager
async def joined_by_a_wire(tmp_path: Path) -> AsyncIterator[tuple[Host, Host, Wire]]:
    """Two members, and what the first one's bytes to the second pass through."""
    async with (
        hosts(await host(1, tmp_path), await host(2, tmp_path)) as (one, two),
        Wire(two.port) as wire,
    ):
        one.transport.set_peers({TWO: [wire.url]})
        yield one, two, wire


async def test_a_snapshot_goes_on_where_the_wire_was_cut(tmp_path: Path):
    size = 20 << 20
    source = a_file(tmp_path / "copy", size)
    async with joined_by_a_wire(tmp_path) as (one, two, wire):
        wire.cut_after = 14 << 20
        await one.transport.send_snapshot(TWO, Term(5), META, source)

        assert two.inbox.snapshots[0][1].read_bytes() == source.read_bytes()
        assert wire.cut_after is None
        assert wire.forwarded < size + (8 << 20)  # not all of it twice


def a_file_of_objects(path: Path, size: int) -> Path:
    """Bytes as of a store of small manifests: of each a quarter is new."""
    with path.open("wb") as file:
        while file.tell() < size:
            file.write(b'{"kind":"Pod","apiVersion":"v1","metadata":{"uid":"%s"}}' % os.urandom(18))
        file.truncate(size)
    return path


async def test_what_gets_smaller_goes_over_the_wire_compressed(tmp_path: Path):
    size = 8 << 20
    source = a_file_of_objects(tmp_path / "copy", size)
    async with joined_by_a_wire(tmp_path) as (one, two, wire):
        wire.cut_after = 1 << 20  # and goes on where it was cut
        await one.transport.send_snapshot(TWO, Term(5), META, source)

        assert two.inbox.snapshots[0][1].read_bytes() == source.read_bytes()
        assert wire.cut_after is None
        assert wire.forwarded < size // 2


async def test_members_of_before_get_pieces_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """They do not say that they take compressed ones."""
    size = 2 << 20
    source = a_file_of_objects(tmp_path / "copy", size)

    real = snapshots_out.parsed

    def parsed_of_before(*arguments: Any) -> Any:
        progress = real(*arguments)
        progress.ClearField("takes_zstd")
        return progress

    monkeypatch.setattr(snapshots_out, "parsed", parsed_of_before)
    async with joined_by_a_wire(tmp_path) as (one, two, wire):
        await one.transport.send_snapshot(TWO, Term(5), META, source)
        assert two.inbox.snapshots[0][1].read_bytes() == source.read_bytes()
        assert wire.forwarded > size


def frame_that_says(size: int) -> bytes:
    """A Zstandard frame without content that names a size (RFC 8878, section 3.1.1)."""
    return bytes.fromhex("28b52ffde0") + size.to_bytes(8, "little") + bytes.fromhex("010000")


@pytest.mark.parametrize(
    "packed",
    [
        b"no frame",
        zstandard.compress(bytes(100))[:-1],
        zstandard.compress(bytes(101)),
        zstandard.compress(b""),
        zstandard.ZstdCompressor(write_content_size=False).compress(bytes(100)),
        frame_that_says(1 << 40),
    ],
    ids=["none", "cut", "longer", "empty", "of no size", "of a TiB"],
)
def test_a_compressed_piece_that_is_none_is_damaged(packed: bytes, tmp_path: Path):
    part = snapshots_in.Part(pb.SnapshotOffer(size=100), tmp_path / "part", 1 << 20)
    chunk = pb.SnapshotChunk(crc=crc32c(bytes(100)), data=packed, zstd=True)
    with pytest.raises(snapshots_in.Damaged, match="arrived damaged at byte 0"):
        part.take(chunk)
    part.take(pb.SnapshotChunk(crc=chunk.crc, data=zstandard.compress(bytes(100)), zstd=True))
    assert part.offset == 100
    part.discard()


async def test_a_flipped_byte_is_found_and_that_piece_sent_again(tmp_path: Path):
    source = a_file(tmp_path / "copy", 6 << 20)
    async with joined_by_a_wire(tmp_path) as (one, two, wire):
        wire.flip_at = 3 << 20
        await one.transport.send_snapshot(TWO, Term(5), META, source)

        assert wire.flip_at is None
        assert two.inbox.snapshots[0][1].read_bytes() == source.read_bytes()
        assert len(two.inbox.snapshots) == 1


async def test_a_file_that_changes_while_it_is_sent_is_not_taken(tmp_path: Path):
    source = a_file(tmp_path / "copy", 8 << 20)
    one = await host(1, tmp_path, snapshot_bytes_per_second=16 << 20)
    async with hosts(one, await host(2, tmp_path)) as (_, two):
        one.transport.set_peers({TWO: [two.url]})
        sending = asyncio.create_task(one.transport.send_snapshot(TWO, Term(5), META, source))
        while not list(two.directory.glob("*.part")):
            await asyncio.wait((sending,), timeout=0.01)
        with source.open("r+b") as file:
            file.seek(-10, os.SEEK_END)
            file.write(b"0123456789")

        with pytest.raises(LogError, match="arrived damaged: its SHA-256"):
            await sending
        assert two.inbox.snapshots == []
        assert list(two.directory.iterdir()) == []


async def test_a_receiver_without_room_says_so_to_the_sender(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    source = a_file(tmp_path / "copy", 1 << 20)
    usage = type("usage", (), {"free": 1_000})
    monkeypatch.setattr(snapshots_in.shutil, "disk_usage", lambda _: usage)
    async with hosts(await host(1, tmp_path), await host(2, tmp_path)) as (one, two):
        one.transport.set_peers({TWO: [two.url]})
        with pytest.raises(LogError, match="1048576 bytes are needed, 1000 free"):
            await one.transport.send_snapshot(TWO, Term(5), META, source)
        assert list(two.directory.iterdir()) == []


async def test_a_disk_that_becomes_full_is_told_amid_the_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    source = a_file(tmp_path / "copy", 16 << 20)
    real = snapshots_in.Part.append
    failed = 0

    def append(part: snapshots_in.Part, data: bytes) -> None:
        nonlocal failed
        if part.offset >= 4 << 20:
            failed += 1
            raise OSError(errno.ENOSPC, "No space left on device")
        real(part, data)

    monkeypatch.setattr(snapshots_in.Part, "append", append)
    one = await host(1, tmp_path, snapshot_window_bytes=64 << 20)  # it does not stop to listen
    async with hosts(one, await host(2, tmp_path)) as (_, two):
        one.transport.set_peers({TWO: [two.url]})
        for tries in range(1, 4):
            with pytest.raises(LogError, match="cannot be stored: no room left"):
                await one.transport.send_snapshot(TWO, Term(5), META, source)
            assert failed == tries  # the reason was heard the first time
        assert list(two.directory.iterdir()) == []


async def test_nobody_there_fails_after_some_tries(tmp_path: Path):
    source = a_file(tmp_path / "copy", 10)
    gone = await host(2, tmp_path)
    await gone.stop()
    async with hosts(await host(1, tmp_path)) as (one,):
        one.transport.set_peers({TWO: [gone.url]})
        with pytest.raises(OSError, match="for member 2 did not arrive: "):
            await one.transport.send_snapshot(TWO, Term(5), META, source)


async def test_what_an_earlier_run_left_is_deleted_at_the_start(tmp_path: Path):
    directory = tmp_path / "2"
    directory.mkdir()
    for name in ("snapshot-0000000000000001-5.part", "snapshot-0000000000000001-6.received"):
        (directory / name).write_text("half")
    (directory / "kv-1.db").write_text("not mine")
    async with hosts(await host(2, tmp_path)):
        assert [path.name for path in directory.iterdir()] == ["kv-1.db"]
