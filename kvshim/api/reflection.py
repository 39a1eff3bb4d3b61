"""gRPC server reflection, v1 and v1alpha: tools such as grpcurl learn the API from the server.

The two versions differ in their package name only, so v1's messages are made from v1alpha's
description, which is the one that `grpcio-reflection` brings. Event loop only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import FileDescriptor
from google.protobuf.message import Message
from grpc_reflection.v1alpha import reflection_pb2  # type: ignore[import-untyped]

from kvshim.errors import Code
from kvshim.rpc import Bidi, BidiCall, Method, service_of

METHOD = "ServerReflectionInfo"
V1ALPHA = "grpc.reflection.v1alpha"
V1 = "grpc.reflection.v1"
SERVICES = tuple(f"{package}.ServerReflection" for package in (V1, V1ALPHA))


class ReflectionService:
    """Answers for the services given, out of the pool that their generated modules filled."""

    def __init__(
        self, services: Iterable[str], pool: descriptor_pool.DescriptorPool | None = None
    ) -> None:
        self._pool = pool or descriptor_pool.Default()
        self._services = sorted({*services, *SERVICES})

    def methods(self) -> list[Method]:
        v1_request, v1_response = _v1_messages()
        return [
            self._method(V1, v1_request, v1_response),
            self._method(
                V1ALPHA,
                reflection_pb2.ServerReflectionRequest,
                reflection_pb2.ServerReflectionResponse,
            ),
        ]

    def _method(self, package: str, request: type[Message], response: type[Message]) -> Method:
        async def serve(call: BidiCall) -> None:
            sent: set[str] = set()
            while (asked := await call.receive()) is not None:
                await call.send(self.answer(asked, response, sent))

        return Bidi(f"/{package}.ServerReflection/{METHOD}", request, serve)

    def answer(self, asked: Any, response: type[Any], sent: set[str]) -> Message:  # noqa: ANN401
        """The response to one request; `sent` names the files this stream already has."""
        reply = response(valid_host=asked.host, original_request=asked)
        try:
            self._fill(asked, reply, sent)
        except KeyError as error:
            reply.error_response.error_code = Code.NOT_FOUND
            reply.error_response.error_message = str(error.args[0])
        filled: Message = reply
        return filled

    def _fill(self, asked: Any, reply: Any, sent: set[str]) -> None:  # noqa: ANN401
        pool = self._pool
        match asked.WhichOneof("message_request"):
            case "list_services":
                for name in self._services:
                    reply.list_services_response.service.add(name=name)
            case "file_by_filename":
                file = pool.FindFileByName(asked.file_by_filename)
                _add_files(reply, file, sent)
            case "file_containing_symbol":
                _add_files(reply, _file_of(pool, asked.file_containing_symbol), sent)
            case "file_containing_extension":
                wanted = asked.file_containing_extension
                extendee = pool.FindMessageTypeByName(wanted.containing_type)
                extension = pool.FindExtensionByNumber(extendee, wanted.extension_number)
                _add_files(reply, pool.FindFileContainingSymbol(extension.full_name), sent)
            case "all_extension_numbers_of_type":
                name = asked.all_extension_numbers_of_type
                extendee = pool.FindMessageTypeByName(name)
                numbers = [field.number for field in pool.FindAllExtensions(extendee)]
                reply.all_extension_numbers_response.base_type_name = name
                reply.all_extension_numbers_response.extension_number.extend(sorted(numbers))
            case _:
                reply.error_response.error_code = Code.INVALID_ARGUMENT
                reply.error_response.error_message = f"invalid MessageRequest: {asked}"


def service_names(methods: Sequence[Method]) -> set[str]:
    """The services of a table of methods, for `ReflectionService`."""
    return {service_of(method) for method in methods}


def _file_of(pool: descriptor_pool.DescriptorPool, symbol: str) -> FileDescriptor:
    """The file of a symbol; methods, which the pool does not know, are found by their service."""
    try:
        return pool.FindFileContainingSymbol(symbol)
    except KeyError:
        service = pool.FindServiceByName(symbol.rpartition(".")[0])
        if symbol.rpartition(".")[2] not in service.methods_by_name:
            raise
        return service.file


def _add_files(reply: Any, file: FileDescriptor, sent: set[str]) -> None:  # noqa: ANN401
    """The file asked for, always, and those it imports that the client has not got yet."""
    waiting, added = [file], set()
    while waiting:
        current = waiting.pop(0)
        if current.name in added or (current is not file and current.name in sent):
            continue
        added.add(current.name)
        reply.file_descriptor_response.file_descriptor_proto.append(current.serialized_pb)
        waiting.extend(current.dependencies)
    sent |= added


def _v1_messages() -> tuple[type[Message], type[Message]]:
    pool = descriptor_pool.Default()
    name = "grpc/reflection/v1/reflection.proto"
    try:
        file = pool.FindFileByName(name)
    except KeyError:
        file = pool.AddSerializedFile(_v1_file(name))
    messages = (
        file.message_types_by_name[message]
        for message in ("ServerReflectionRequest", "ServerReflectionResponse")
    )
    request, response = (message_factory.GetMessageClass(message) for message in messages)
    return request, response


def _v1_file(name: str) -> bytes:
    """v1alpha's file under v1's names."""
    file = descriptor_pb2.FileDescriptorProto()
    reflection_pb2.DESCRIPTOR.CopyToProto(file)
    file.name, file.package = name, V1
    old, new = f".{V1ALPHA}.", f".{V1}."
    for message in file.message_type:
        for field in message.field:
            if field.HasField("type_name"):
                field.type_name = field.type_name.replace(old, new)
    for service in file.service:
        for method in service.method:
            method.input_type = method.input_type.replace(old, new)
            method.output_type = method.output_type.replace(old, new)
    return file.SerializeToString()
