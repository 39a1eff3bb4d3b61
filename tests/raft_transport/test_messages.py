"""Messages between members over real sockets: order, loss that is told, who may speak."""

from __future__ import annotations

import asyncio
import struct
from pathlib import Path

import pytest

from raft.core.messages import AppendRequest, Heartbeat
from raft.pb import peer_pb2 as pb
from raft.transport import CallRefused, Formats
from raft.transport.frames import Kind, frame
from raft.types import LogError, MemberId
from tests.raft_transport.members import CLUSTER, Wire, append, heartbeat, host, hosts

ONE, TWO = MemberId(1), MemberId(2)


async def test_messages_arrive_both_ways_and_appends_keep_their_order(tmp_path: Path):
    async with hosts(await host(1, tmp_path), await host(2, tmp_path)) as (one, two):
        one.transport.set_peers({TWO: [two.url]})
        two.transport.set_peers({ONE: [one.url]})
        await one.transport.connected(TWO)
        await two.transport.connected(ONE)

        sent = [append(index, size=index * 97 % 5_000) for index in range(1, 500)]
        for message in sent:
            one.transport.send([message, heartbeat(message.entries[0].index)])
            if message.entries[0].index % 20 == 0:
                await asyncio.sleep(0)
        two.transport.send([Heartbeat(TWO, ONE, sent[0].term, sent[0].commit, 3)])

        await two.inbox.until(lambda: len(two.inbox.messages) == 998)
        await one.inbox.until(lambda: one.inbox.messages)
        appends = [m for m in two.inbox.messages if isinstance(m, AppendRequest)]
        beats = [m for m in two.inbox.messages if isinstance(m, Heartbeat)]
        assert appends == sent
        assert [beat.round for beat in beats] == list(range(1, 500))
        assert one.inbox.messages == [Heartbeat(TWO, ONE, sent[0].term, sent[0].commit, 3)]
        assert one.inbox.lost == two.inbox.lost == []


async def test_heartbeats_pass_a_bulk_lane_that_is_stuck(tmp_path: Path):
    """Megabytes of appends wait behind one another; the heartbeat does not wait with them."""
    async with hosts(await host(1, tmp_path), await host(2, tmp_path)) as (one, two):
        one.transport.set_peers({TWO: [two.url]})
        await one.transport.connected(TWO)

        one.transport.send([append(index, size=1 << 20) for index in range(1, 33)])
        one.transport.send([heartbeat(1)])
        await two.inbox.until(lambda: any(isinstance(m, Heartbeat) for m in two.inbox.messages))
        before = len(two.inbox.messages)
        await two.inbox.until(lambda: len(two.inbox.messages) == 33)
        assert before < 33


async def test_a_full_queue_drops_and_says_so_once(tmp_path: Path):
    one = await host(1, tmp_path, bulk_bytes_max=1 << 20)
    async with hosts(one, await host(2, tmp_path)) as (_, two):
        one.transport.set_peers({TWO: [two.url]})
        await one.transport.connected(TWO)

        one.transport.send([append(index, size=300_000) for index in range(1, 20)])

        assert one.inbox.lost == [TWO]
        await two.inbox.until(lambda: len(two.inbox.messages) == 3)
        assert [m.prev_index for m in two.inbox.messages] == [0, 1, 2]
        assert one.transport.status()[TWO].dropped == 16


async def test_a_member_that_is_not_there_is_told_once_and_found_when_it_comes(tmp_path: Path):
    gone = await host(2, tmp_path)
    await gone.stop()
    async with hosts(await host(1, tmp_path)) as (one,):
        one.transport.set_peers({TWO: [gone.url]})
        one.transport.send([heartbeat(number) for number in range(10)])
        one.transport.send([heartbeat(11)])
        assert one.inbox.lost == [TWO]
        await one.notes.until(lambda: one.notes.failures)

        async with hosts(await host(2, tmp_path, port=gone.port)) as (two,):
            await one.transport.connected(TWO)
            one.transport.send([heartbeat(12)])
            await two.inbox.until(lambda: two.inbox.messages)
            assert two.inbox.messages == [heartbeat(12)]
        assert len(one.notes.failures) == 1


async def test_a_member_that_restarts_is_found_again(tmp_path: Path):
    first = await host(2, tmp_path)
    async with hosts(await host(1, tmp_path), first) as (one, _):
        one.transport.set_peers({TWO: [first.url]})
        await one.transport.connected(TWO)
        await first.stop()
        await one.notes.until(lambda: len(one.notes.ends) == 2)
        assert one.inbox.lost[0] == TWO

        async with hosts(await host(2, tmp_path, port=first.port)) as (again,):
            await one.transport.connected(TWO)
            one.transport.send([append(1), heartbeat(1)])
            await again.inbox.until(lambda: len(again.inbox.messages) == 2)


async def test_a_connection_that_went_silent_is_noticed_and_replaced(tmp_path: Path):
    async with (
        hosts(await host(1, tmp_path), await host(2, tmp_path)) as (one, two),
        Wire(two.port) as wire,
    ):
        one.transport.set_peers({TWO: [wire.url]})
        await one.transport.connected(TWO)

        wire.hold()
        began = asyncio.get_running_loop().time()
        await one.notes.until(lambda: len(one.notes.ends) == 2, seconds=2)
        assert asyncio.get_running_loop().time() - began < 1.5
        assert one.inbox.lost
        assert "nothing was heard" in one.notes.ends[0]

        wire.flow()
        await one.transport.connected(TWO)
        one.transport.send([heartbeat(9)])
        await two.inbox.until(lambda: heartbeat(9) in two.inbox.messages)


async def test_a_connection_without_messages_stays_up(tmp_path: Path):
    async with hosts(await host(1, tmp_path), await host(2, tmp_path)) as (one, two):
        one.transport.set_peers({TWO: [two.url]})
        await one.transport.connected(TWO)
        with pytest.raises(TimeoutError):  # half as long again as a dead one would last
            await one.notes.until(lambda: one.notes.ends, seconds=1)


async def test_a_slow_wire_is_not_taken_for_a_dead_one(tmp_path: Path):
    """Pings wait behind megabytes; what arrives of these is a sign of life as well."""
    async with (
        hosts(await host(1, tmp_path), await host(2, tmp_path)) as (one, two),
        Wire(two.port) as wire,
    ):
        one.transport.set_peers({TWO: [wire.url]})
        await one.transport.connected(TWO)
        wire.bytes_per_second = 4 << 20
        one.transport.send([append(1, size=8 << 20)])
        await two.inbox.until(lambda: two.inbox.messages)
        assert one.notes.ends == []


async def test_whoever_answers_must_be_the_member_that_was_meant(tmp_path: Path):
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1_000)
        hello = pb.HelloAnswer(version=1, cluster_id=CLUSTER, member_id=3)
        writer.write(frame(Kind.HELLO_ANSWER, hello.SerializeToString()))
        await reader.read()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with hosts(await host(1, tmp_path)) as (one,):
        port = server.sockets[0].getsockname()[1]
        one.transport.set_peers({TWO: [f"http://127.0.0.1:{port}"]})
        await one.notes.until(lambda: one.notes.failures)
        assert one.notes.failures == ["member 3 answers, not 2"]
    server.close()


async def test_what_was_still_on_an_older_connection_does_not_come_after_a_newer_one(
    tmp_path: Path,
):
    async with (
        hosts(await host(1, tmp_path), await host(2, tmp_path)) as (one, two),
        Wire(two.port) as wire,
    ):
        one.transport.set_peers({TWO: [wire.url]})
        await one.transport.connected(TWO)
        wire.hold()
        one.transport.send([append(1), heartbeat(1)])
        await asyncio.sleep(0)  # it leaves at the end of this turn

        one.transport.set_peers({TWO: [two.url]})
        await one.notes.until(lambda: len(one.notes.ends) == 2)
        await one.transport.connected(TWO)
        wire.flow()
        await wire.idle()
        one.transport.send([append(2), heartbeat(2)])
        await two.inbox.until(lambda: len(two.inbox.messages) >= 2)
        assert sorted(map(repr, two.inbox.messages)) == [repr(append(2)), repr(heartbeat(2))]


async def test_a_member_that_moves_is_followed_and_one_that_left_is_dropped(tmp_path: Path):
    async with hosts(
        await host(1, tmp_path), await host(2, tmp_path), await host(2, tmp_path / "new")
    ) as (one, old, new):
        one.transport.set_peers({TWO: [old.url]})
        await one.transport.connected(TWO)

        one.transport.set_peers({TWO: [new.url]})
        await one.notes.until(lambda: len(one.notes.ends) == 2)
        await one.transport.connected(TWO)
        one.transport.send([heartbeat(1)])
        await new.inbox.until(lambda: new.inbox.messages)
        assert old.inbox.messages == []

        one.transport.set_peers({})
        one.transport.send([heartbeat(2)])
        assert one.transport.status() == {}


async def test_a_member_that_was_removed_is_hung_up_on(tmp_path: Path):
    async with hosts(await host(1, tmp_path), await host(2, tmp_path)) as (one, two):
        one.transport.set_peers({TWO: [two.url]})
        two.transport.set_peers({ONE: [one.url]})
        await one.transport.connected(TWO)

        two.transport.set_peers({})
        await one.notes.until(lambda: len(one.notes.ends) == 2)


@pytest.mark.parametrize(
    ("cluster", "member", "said"),
    [
        (0xC2, 2, "of cluster c1, this member of cluster c2"),
        (0xC1, 3, "this is member 3, not 2"),
        (0xC1, 1, "two nodes use one identity|this is member 1, not 2"),
    ],
)
async def test_another_cluster_or_member_is_refused_and_both_say_why_once(
    tmp_path: Path, cluster: int, member: int, said: str
):
    async with hosts(
        await host(1, tmp_path), await host(member, tmp_path / "other", cluster=cluster)
    ) as (one, other):
        one.transport.set_peers({TWO: [other.url]})
        await one.notes.until(lambda: one.notes.failures)
        await other.notes.until(lambda: other.notes.refusals)
        for _ in range(3):  # it is tried again and again, and refused
            await asyncio.sleep(0.05)
        one.transport.send([heartbeat(1)])

        assert len(one.notes.failures) == len(other.notes.refusals) == 1
        assert any(part in one.notes.failures[0] for part in said.split("|"))
        assert one.notes.failures[0].endswith(other.notes.refusals[0])
        assert other.inbox.messages == []


async def test_what_does_not_speak_the_protocol_is_cut_off(tmp_path: Path):
    async with hosts(await host(2, tmp_path)) as (two,):
        for garbage in (
            b"GET / HTTP/1.1\r\n\r\n",
            struct.pack(">IB", 1 << 30, 1),
            b"\0\0\0\1\1\xff",
        ):
            reader, writer = await asyncio.open_connection("127.0.0.1", two.port)
            writer.write(garbage)
            async with asyncio.timeout(2):
                assert await reader.read() == b""
            writer.close()
        assert two.inbox.messages == []
        assert two.notes.refusals


async def test_an_append_larger_than_the_receiver_takes_ends_the_connection(tmp_path: Path):
    two = await host(2, tmp_path, frame_bytes_max=1 << 20)
    async with hosts(await host(1, tmp_path), two) as (one, _):
        one.transport.set_peers({TWO: [two.url]})
        await one.transport.connected(TWO)
        one.transport.send([append(1, size=2 << 20)])
        await one.notes.until(lambda: one.notes.ends)
        assert one.inbox.lost
        assert two.inbox.messages == []


async def test_ports_that_are_taken_are_one_sentence_and_nothing_is_claimed(tmp_path: Path):
    async with hosts(await host(1, tmp_path)) as (one,):
        with pytest.raises(
            LogError, match=f"cannot listen for peers on 127.0.0.1:{one.port}: Addr"
        ):
            one.transport.bind([("127.0.0.1", 0, False), ("127.0.0.1", one.port, False)])
        with pytest.raises(LogError, match="needs TLS"):
            one.transport.bind([("127.0.0.1", 0, True)])
        with pytest.raises(LogError, match="no address of a member"):
            one.transport.set_peers({TWO: ["ftp://x:1"]})


def formats(newest: int, in_use: int) -> Formats:
    return Formats(newest, lambda: in_use)


async def test_members_announce_what_their_programs_can_take(tmp_path: Path):
    one = await host(1, tmp_path, formats=formats(3, 2))
    async with hosts(one, await host(2, tmp_path, formats=formats(2, 2))) as (_, two):
        one.transport.set_peers({TWO: [two.url]})
        two.transport.set_peers({ONE: [one.url]})
        await one.transport.connected(TWO)
        await two.transport.connected(ONE)
        assert one.transport.status()[TWO].format_version == 2
        assert two.transport.status()[ONE].format_version == 3


@pytest.mark.parametrize(("in_use", "refused"), [(1, False), (2, True)])
async def test_a_program_that_announces_nothing_is_of_the_first_version(
    tmp_path: Path, in_use: int, refused: bool
):
    hello = pb.Hello(
        oldest_version=1,
        newest_version=1,
        cluster_id=CLUSTER,
        member_id=1,
        target_id=2,
        purpose=pb.Hello.URGENT,
    )
    async with hosts(await host(2, tmp_path, formats=formats(2, in_use))) as (two,):
        reader, writer = await asyncio.open_connection("127.0.0.1", two.port)
        writer.write(frame(Kind.HELLO, hello.SerializeToString()))
        size, _ = struct.unpack(">IB", await reader.readexactly(5))
        answer = pb.HelloAnswer.FromString(await reader.readexactly(size))
        writer.close()
    assert bool(answer.refusal) == refused
    assert answer.format_version == 2


async def test_who_is_older_than_the_cluster_is_refused_by_whoever_is_dialled(tmp_path: Path):
    one = await host(1, tmp_path, formats=formats(1, 1))
    async with hosts(one, await host(2, tmp_path, formats=formats(2, 2))) as (_, two):
        one.transport.set_peers({TWO: [two.url]})
        await one.notes.until(lambda: one.notes.failures)
        assert "the cluster runs at version 2" in one.notes.failures[0]
        assert "start the newer program" in one.notes.failures[0]
        assert not one.transport.status()[TWO].connected
        with pytest.raises(CallRefused, match="knows up to 1"):  # a joiner's calls as well
            await one.transport.call(two.url, "cluster-info", b"", 5.0)


async def test_who_is_older_than_the_cluster_is_refused_by_whoever_dials(tmp_path: Path):
    one = await host(1, tmp_path, formats=formats(2, 2))
    async with hosts(one, await host(2, tmp_path, formats=formats(1, 1))) as (_, two):
        one.transport.set_peers({TWO: [two.url]})
        await one.notes.until(lambda: one.notes.failures)
        assert "the cluster runs at version 2" in one.notes.failures[0]
