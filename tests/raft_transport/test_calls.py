"""Calls: to members and addresses, refusals, time limits, and what strangers may do."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from raft.transport import CallPeer, CallRefused, Identity, PeerTransport, TransportOptions
from raft.types import MemberId
from tests.raft_transport.members import Host, Inbox, Wire, host, hosts

TWO = MemberId(2)


async def echo(payload: bytes, peer: CallPeer) -> bytes:
    return f"{peer.member_id} {peer.address} ".encode() + payload


async def refuse(payload: bytes, peer: CallPeer) -> bytes:
    raise CallRefused("spent", "the token was used before")


async def break_down(payload: bytes, peer: CallPeer) -> bytes:
    raise ValueError("secret")


async def pair(tmp_path: Path) -> tuple[Host, Host]:
    one, two = await host(1, tmp_path), await host(2, tmp_path)
    one.transport.set_peers({TWO: [two.url]})
    two.transport.handle("echo", echo)
    two.transport.handle("join", echo, open_to_strangers=True)
    two.transport.handle("refuse", refuse)
    two.transport.handle("break", break_down)
    return one, two


def stranger(tmp_path: Path) -> PeerTransport:
    """Nobody yet: it listens nowhere and need not be started."""
    return PeerTransport(Identity(0, 0), Inbox(), options=TransportOptions(tmp_path / "0"))


async def test_calls_by_member_and_by_address_many_at_once(tmp_path: Path):
    async with hosts(*await pair(tmp_path)) as (one, two):
        answers = await asyncio.gather(
            *(one.transport.call(TWO, "echo", b"%d" % n, 5) for n in range(50)),
            one.transport.call(two.url, "echo", b"by address", 5),
        )
        assert answers == [b"1 127.0.0.1 %d" % n for n in range(50)] + [b"1 127.0.0.1 by address"]


async def test_refusals_carry_code_and_text_and_a_broken_handler_tells_no_secrets(tmp_path: Path):
    broken: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: broken.append(context))
    async with hosts(*await pair(tmp_path)) as (one, _):
        for method, code, text in (
            ("refuse", "spent", "the token was used before"),
            ("break", "failed", "the call failed there"),
            ("nothing", "unknown-method", "there is no method 'nothing'"),
        ):
            with pytest.raises(CallRefused) as caught:
                await one.transport.call(TWO, method, b"", 5)
            assert (caught.value.code, caught.value.text) == (code, text)
        with pytest.raises(CallRefused, match="at most"):
            await one.transport.call(TWO, "echo", bytes(5 << 20), 5)
        assert await one.transport.call(TWO, "echo", b"still there", 5)
    assert len(broken) == 1


async def test_strangers_may_make_open_calls_only(tmp_path: Path):
    async with hosts(*await pair(tmp_path)) as (_, two):
        nobody = stranger(tmp_path)
        assert await nobody.call(two.url, "join", b"x", 5) == b"None 127.0.0.1 x"
        for method in ("echo", "nothing"):
            with pytest.raises(CallRefused) as caught:
                await nobody.call(two.url, method, b"", 5)
            assert caught.value.code == "not-a-member"
        with pytest.raises(OSError, match=r"closed|reset"):
            await nobody.call(two.url, "join", bytes(100_000), 5)


async def test_strangers_calls_are_limited_in_rate(tmp_path: Path):
    two = await host(2, tmp_path, stranger_calls_per_second=3)
    two.transport.handle("join", echo, open_to_strangers=True)
    async with hosts(two):
        nobody = stranger(tmp_path)
        codes = []
        for _ in range(6):
            try:
                await nobody.call(two.url, "join", b"", 5)
                codes.append("")
            except CallRefused as refused:
                codes.append(refused.code)
        assert codes[:3] == [""] * 3
        assert "busy" in codes


async def test_a_flood_of_silent_connections_keeps_no_member_out(tmp_path: Path):
    two = await host(2, tmp_path, strangers_max=4, handshake_seconds=60)
    two.transport.handle("echo", echo)
    async with hosts(await host(1, tmp_path), two) as (one, _):
        flood = [await asyncio.open_connection("127.0.0.1", two.port) for _ in range(12)]
        one.transport.set_peers({TWO: [two.url]})
        assert await one.transport.call(TWO, "echo", b"", 5)
        await one.transport.connected(TWO)
        async with asyncio.timeout(5):
            for reader, _ in flood[:8]:
                assert await reader.read() == b""
        for _, writer in flood:
            writer.close()


async def test_another_cluster_may_not_call(tmp_path: Path):
    async with hosts(await host(1, tmp_path, cluster=0xC2), await host(2, tmp_path)) as (one, two):
        two.transport.handle("join", echo, open_to_strangers=True)
        with pytest.raises(CallRefused, match="of cluster c2") as caught:
            await one.transport.call(two.url, "join", b"", 5)
        assert caught.value.code == "refused"


async def test_a_call_ends_at_its_time_and_so_does_its_handler(tmp_path: Path):
    ended = asyncio.Event()

    async def forever(payload: bytes, peer: CallPeer) -> bytes:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return b""

    async with hosts(*await pair(tmp_path)) as (one, two):
        two.transport.handle("forever", forever)
        with pytest.raises((TimeoutError, CallRefused)):
            await one.transport.call(TWO, "forever", b"", 0.2)
        async with asyncio.timeout(2):
            await ended.wait()


async def test_a_call_over_a_wire_that_went_silent_fails_before_its_time(tmp_path: Path):
    async with hosts(*await pair(tmp_path)) as (one, two), Wire(two.port) as wire:
        one.transport.set_peers({TWO: [wire.url]})
        assert await one.transport.call(TWO, "echo", b"", 5)
        wire.hold()
        with pytest.raises(OSError, match="nothing was heard"):
            await one.transport.call(TWO, "echo", b"", 30)
        wire.flow()
        assert await one.transport.call(TWO, "echo", b"", 5)
