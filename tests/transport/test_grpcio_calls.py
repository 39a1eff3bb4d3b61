"""What a client of the grpcio transport sees: replies, statuses, texts; and what handlers see."""

import asyncio
from typing import Any

import grpc
import pytest
from grpc.aio import AioRpcError

from kvshim.pb.etcd import rpc_pb2
from tests.transport.serving import LOCAL, SERVICE, GrpcioOptions, Served, eventually, serving


async def failure(call: Any) -> AioRpcError:
    with pytest.raises(AioRpcError) as caught:
        await call
    return caught.value


async def handled(served: Served, method: str, code: str, count: float = 1) -> None:
    kinds = {"Unary": "unary", "Stream": "server_stream", "Bidi": "bidi_stream"}
    labels = {"grpc_service": "test.Handlers", "grpc_method": method}
    await eventually(
        lambda: (
            served.sample(
                "grpc_server_handled_total", grpc_type=kinds[method], grpc_code=code, **labels
            )
            == count
        )
    )


async def test_a_message_and_its_bytes_are_the_same_reply():
    async with serving() as served:
        assert (await served.unary(b"four")).count == 4
        assert (await served.unary(b"bytes")).count == 7
        await handled(served, "Unary", "OK", 2)


async def test_a_sliced_body_arrives_whole():
    async with serving() as served:
        reply = await served.unary(b"sliced")
        assert reply.count == 1


async def test_a_sliced_body_of_another_length_is_never_sent():
    async with serving() as served:
        error = await failure(served.unary(b"short sliced"))
        assert error.code() == grpc.StatusCode.INTERNAL


async def test_a_request_error_is_its_status_and_exact_text():
    async with serving() as served:
        error = await failure(served.unary(b"compacted"))
        assert error.code() == grpc.StatusCode.OUT_OF_RANGE
        assert error.details() == "etcdserver: mvcc: required revision has been compacted"
        await handled(served, "Unary", "OutOfRange")


async def test_a_bug_is_logged_once_and_told_without_its_details():
    async with serving() as served:
        error = await failure(served.unary(b"bug"))
        assert (error.code(), error.details()) == (
            grpc.StatusCode.INTERNAL,
            "etcdserver: internal error",
        )
        [(level, _, fields)] = served.log.lines
        assert level == "error"
        assert fields["method"] == SERVICE + "Unary"
        assert isinstance(fields["exc_info"], ZeroDivisionError)


async def test_a_cancelled_future_in_a_handler_does_not_leave_the_client_waiting():
    async with serving() as served:
        error = await failure(served.unary(b"cancelled future", timeout=5))
        assert error.code() == grpc.StatusCode.INTERNAL


async def test_metadata_peer_and_deadline_reach_the_handler():
    async with serving() as served:
        metadata = (("hasleader", "true"), ("hasleader", "false"), ("token-bin", b"\x00"))
        await served.unary(b"x", timeout=30, metadata=metadata)
        [call] = served.handlers.calls
        assert call.metadata["hasleader"] == "true"
        assert "token-bin" not in call.metadata
        host, _, port = call.peer.rpartition(":")
        assert host == "127.0.0.1"
        assert port.isdigit()
        left = call.deadline_seconds()
        assert left is not None
        assert 20 < left < 31


async def test_a_call_without_a_deadline_has_none():
    async with serving() as served:
        await served.unary(b"x", timeout=None)
        assert served.handlers.calls[0].deadline_seconds() is None


async def test_unknown_paths_are_unimplemented_in_the_words_of_grpc_go():
    async with serving() as served:
        for path, text in (
            ("/no.Such/Method", "unknown service no.Such"),
            (SERVICE + "Other", "unknown method Other for service test.Handlers"),
        ):
            error = await failure(served.channel.unary_unary(path)(b"", timeout=5))
            assert (error.code(), error.details()) == (grpc.StatusCode.UNIMPLEMENTED, text)


async def test_bytes_that_are_no_message_are_refused():
    async with serving() as served:
        call = served.channel.unary_unary(SERVICE + "Unary")
        error = await failure(call(b"\xff\xff\xff", timeout=5))
        assert error.code() == grpc.StatusCode.INTERNAL
        assert (error.details() or "").startswith("grpc: error unmarshalling request: ")
        assert served.log.lines == []


async def test_a_message_over_the_limit_is_refused_in_the_words_of_grpc_go():
    options = GrpcioOptions(listen_urls=(LOCAL,), request_bytes_max=1000)
    size_max = options.message_bytes_max
    async with serving(options) as served:
        call = served.channel.unary_unary(SERVICE + "Unary")
        fits = rpc_pb2.RangeRequest(key=b"k" * (size_max - 4)).SerializeToString()
        assert len(fits) == size_max
        await call(fits, timeout=5)
        error = await failure(call(fits + b"\x18\x00", timeout=5))
        assert (error.code(), error.details()) == (
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            f"grpc: received message larger than max ({size_max + 2} vs. {size_max})",
        )
        huge = await failure(call(b"\0" * (3 * size_max), timeout=5))
        assert huge.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_a_message_over_the_limit_on_a_stream_ends_it():
    options = GrpcioOptions(listen_urls=(LOCAL,), request_bytes_max=1000)
    async with serving(options) as served:
        stream = served.bidi()
        await stream.write(rpc_pb2.RangeRequest(key=b"k" * (options.message_bytes_max + 1)))
        error = await failure(stream.read())
        assert error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "received message larger than max" in (error.details() or "")


async def test_a_compressed_message_is_refused():
    async with serving() as served:
        call = served.channel.unary_unary(SERVICE + "Unary")
        options = {"compression": grpc.Compression.Gzip, "timeout": 5}
        error = await failure(call(b"\x0a\xff\xff\x3f" + bytes(1_048_575), **options))
        assert error.code() == grpc.StatusCode.UNIMPLEMENTED


async def test_a_large_response_passes():
    async with serving(channel_options=[("grpc.max_receive_message_length", -1)]) as served:
        stream = served.bidi()
        await stream.write(rpc_pb2.RangeRequest(key=b"parallel", limit=500))
        counts = [(await stream.read()).count for _ in range(501)]
        assert sorted(counts[:500]) == list(range(500)), "parallel sends all arrive, none torn"


async def test_a_server_stream_yields_and_ends():
    async with serving() as served:
        replies = [reply.count async for reply in served.stream(b"", limit=3)]
        assert replies == [0, 1, 2]
        await handled(served, "Stream", "OK")


async def test_a_server_stream_may_fail_after_messages():
    async with serving() as served:
        stream = served.stream(b"compacted", limit=1)
        assert (await stream.read()).count == 0
        error = await failure(stream.read())
        assert error.code() == grpc.StatusCode.OUT_OF_RANGE


async def test_half_closing_a_bidi_stream_ends_it_with_ok():
    async with serving() as served:
        stream = served.bidi()
        await stream.write(rpc_pb2.RangeRequest(key=b"abc"))
        assert (await stream.read()).count == 3
        await stream.done_writing()
        assert await stream.read() is grpc.aio.EOF
        assert await stream.code() == grpc.StatusCode.OK


async def test_a_bidi_stream_fails_with_the_handlers_error():
    async with serving() as served:
        stream = served.bidi()
        await stream.write(rpc_pb2.RangeRequest(key=b"compacted"))
        error = await failure(stream.read())
        assert error.code() == grpc.StatusCode.OUT_OF_RANGE


async def test_cancelling_a_unary_call_reaches_its_handler():
    async with serving() as served:
        call = asyncio.create_task(served.unary(b"wait"))
        await served.handlers.entered.wait()
        call.cancel()
        await eventually(lambda: served.handlers.cancelled == ["unary"])
        await handled(served, "Unary", "Canceled")
        assert served.log.lines == []


async def test_a_deadline_that_passes_reaches_the_handler():
    async with serving() as served:
        error = await failure(served.unary(b"wait", timeout=0.3))
        assert error.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        await eventually(lambda: served.handlers.cancelled == ["unary"])
        await handled(served, "Unary", "DeadlineExceeded")


async def test_cancelling_a_server_stream_reaches_its_generator():
    async with serving() as served:
        stream = served.stream(b"wait", limit=1)
        await stream.read()
        await served.handlers.entered.wait()
        stream.cancel()
        await eventually(lambda: served.handlers.cancelled == ["stream"])
        assert served.log.lines == []


@pytest.mark.parametrize("key", [b"idle", b"flood"])
async def test_cancelling_a_bidi_stream_reaches_its_handler(key: bytes):
    async with serving() as served:
        stream = served.bidi()
        await stream.write(rpc_pb2.RangeRequest(key=key))
        await stream.read()
        stream.cancel()
        await handled(served, "Bidi", "Canceled")
        if key == b"flood":
            assert served.handlers.cancelled == ["bidi"]
        assert served.log.lines == []


async def test_calls_and_bytes_are_counted():
    async with serving() as served:
        await served.unary(b"four", metadata=(("client-api-version", "3.7"),))
        await handled(served, "Unary", "OK")
        request = len(rpc_pb2.RangeRequest(key=b"four").SerializeToString())
        reply = len(rpc_pb2.RangeResponse(count=4).SerializeToString())
        assert served.sample("etcd_network_client_grpc_received_bytes_total") == request
        assert served.sample("etcd_network_client_grpc_sent_bytes_total") == reply
        version = {"type": "unary", "client_api_version": "3.7"}
        assert served.sample("etcd_server_client_requests_total", **version) == 1
        labels = {"grpc_type": "unary", "grpc_service": "test.Handlers", "grpc_method": "Unary"}
        assert served.sample("grpc_server_started_total", **labels) == 1
        assert served.sample("grpc_server_handling_seconds_count", **labels) == 1
