"""gRPC health and reflection as tools use them, over the transport."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from grpc.aio import AioRpcError
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from kvshim.api.health import HealthService
from kvshim.api.reflection import ReflectionService, service_names
from kvshim.metrics.registry import Metrics
from kvshim.pb.etcd import rpc_pb2
from kvshim.rpc import Unary
from kvshim.transport.grpcio_server import GrpcioOptions, GrpcioServer
from tests.transport.serving import LOCAL, LogBook

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
SERVICE_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


@pytest.fixture
async def node() -> AsyncIterator[tuple[HealthService, Any]]:
    health = HealthService()
    ranges = Unary("/etcdserverpb.KV/Range", rpc_pb2.RangeRequest, health.check)
    methods = [*health.methods(), ranges]
    methods += ReflectionService(service_names(methods)).methods()
    options = GrpcioOptions(listen_urls=(LOCAL,))
    server = GrpcioServer(methods, options, Metrics().calls, LogBook())
    [url] = server.bind()
    await server.start()
    async with grpc.aio.insecure_channel(url.address) as channel:
        yield health, channel
    await server.stop(0)


def check(channel: Any, service: str) -> Any:
    call = channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        health_pb2.HealthCheckRequest.SerializeToString,
        health_pb2.HealthCheckResponse.FromString,
    )
    return call(health_pb2.HealthCheckRequest(service=service), timeout=5)


def watch(channel: Any, service: str) -> Any:
    call = channel.unary_stream(
        "/grpc.health.v1.Health/Watch",
        health_pb2.HealthCheckRequest.SerializeToString,
        health_pb2.HealthCheckResponse.FromString,
    )
    return call(health_pb2.HealthCheckRequest(service=service), timeout=5)


async def test_the_empty_service_is_serving_until_the_node_stops(node: Any):
    health, channel = node
    assert (await check(channel, "")).status == SERVING
    health.shutdown()
    assert (await check(channel, "")).status == NOT_SERVING


async def test_other_services_are_unknown(node: Any):
    _, channel = node
    with pytest.raises(AioRpcError) as caught:
        await check(channel, "etcdserverpb.KV")
    assert caught.value.code() == grpc.StatusCode.NOT_FOUND
    assert caught.value.details() == "unknown service"
    stream = watch(channel, "etcdserverpb.KV")
    assert (await stream.read()).status == SERVICE_UNKNOWN
    stream.cancel()


async def test_a_watch_is_told_that_serving_ends(node: Any):
    health, channel = node
    stream = watch(channel, "")
    assert (await stream.read()).status == SERVING
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await asyncio.shield(reading := asyncio.ensure_future(stream.read()))
    health.shutdown()
    assert (await reading).status == NOT_SERVING


async def test_the_list_has_the_empty_service(node: Any):
    _, channel = node
    call = channel.unary_unary(
        "/grpc.health.v1.Health/List",
        health_pb2.HealthListRequest.SerializeToString,
        health_pb2.HealthListResponse.FromString,
    )
    answer = await call(health_pb2.HealthListRequest(), timeout=5)
    assert {name: one.status for name, one in answer.statuses.items()} == {"": SERVING}


async def ask(channel: Any, package: str, **question: Any) -> Any:
    """Both versions have the same bytes, so v1alpha's messages read either."""
    call = channel.stream_stream(
        f"/grpc.reflection.{package}.ServerReflection/ServerReflectionInfo",
        reflection_pb2.ServerReflectionRequest.SerializeToString,
        reflection_pb2.ServerReflectionResponse.FromString,
    )
    stream = call(timeout=5)
    await stream.write(reflection_pb2.ServerReflectionRequest(**question))
    answer = await stream.read()
    await stream.done_writing()
    assert await stream.read() is grpc.aio.EOF
    return answer


@pytest.mark.parametrize("package", ["v1", "v1alpha"])
async def test_services_are_listed(node: Any, package: str):
    _, channel = node
    answer = await ask(channel, package, list_services="*")
    assert [one.name for one in answer.list_services_response.service] == [
        "etcdserverpb.KV",
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    ]


@pytest.mark.parametrize("package", ["v1", "v1alpha"])
async def test_a_symbol_brings_its_file_and_what_it_imports(node: Any, package: str):
    _, channel = node
    answer = await ask(channel, package, file_containing_symbol="etcdserverpb.KV.Range")
    files = answer.file_descriptor_response.file_descriptor_proto
    assert rpc_pb2.DESCRIPTOR.serialized_pb == files[0]
    assert len(files) == 1 + len(rpc_pb2.DESCRIPTOR.dependencies)


@pytest.mark.parametrize(
    "question",
    [
        {"file_containing_symbol": "no.such.Symbol"},
        {"file_containing_symbol": "etcdserverpb.KV.NoSuchMethod"},
        {"file_by_filename": "no/such.proto"},
        {"all_extension_numbers_of_type": "no.such.Type"},
        {
            "file_containing_extension": reflection_pb2.ExtensionRequest(
                containing_type="etcdserverpb.RangeRequest", extension_number=1000
            )
        },
    ],
)
async def test_what_does_not_exist_is_not_found(node: Any, question: dict[str, Any]):
    _, channel = node
    answer = await ask(channel, "v1", **question)
    assert answer.error_response.error_code == grpc.StatusCode.NOT_FOUND.value[0]
    assert answer.original_request == reflection_pb2.ServerReflectionRequest(**question)


async def test_an_empty_question_is_invalid(node: Any):
    _, channel = node
    answer = await ask(channel, "v1")
    assert answer.error_response.error_code == grpc.StatusCode.INVALID_ARGUMENT.value[0]


async def test_a_file_by_name_and_extension_numbers(node: Any):
    _, channel = node
    answer = await ask(channel, "v1", file_by_filename=rpc_pb2.DESCRIPTOR.name)
    files = answer.file_descriptor_response.file_descriptor_proto
    assert files[0] == rpc_pb2.DESCRIPTOR.serialized_pb
    answer = await ask(channel, "v1", all_extension_numbers_of_type="etcdserverpb.RangeRequest")
    numbers = answer.all_extension_numbers_response
    assert (numbers.base_type_name, list(numbers.extension_number)) == (
        "etcdserverpb.RangeRequest",
        [],
    )


def test_nothing_but_the_adapter_loads_grpc():
    """Handlers, pages and TLS serve any transport; ciphers are chosen before grpc is loaded."""
    modules = [
        "kvshim.api.health",
        "kvshim.api.reflection",
        "kvshim.http.server",
        "kvshim.http.pages",
        "kvshim.http.health",
        "kvshim.metrics.registry",
        "kvshim.transport.client_tls",
        "kvshim.transport.grpcio_environment",
    ]
    code = f"import sys, {', '.join(modules)}; sys.exit('grpc' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
