"""Request and response messages as bytes, and the errors of transports, in grpc-go's words.

Shared by all transports; knows no RPC library.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import assert_never

from google.protobuf.message import DecodeError, Message

from kvshim.errors import Code, RequestError
from kvshim.metrics.calls import CallKind
from kvshim.rpc import Bidi, Method, ServerStream, Unary

CLIENT_API_VERSION = "client-api-version"
"""Metadata in which clients tell their version, for a metric."""


class MessageTooLarge(RequestError):
    code = Code.RESOURCE_EXHAUSTED

    def __init__(self, size: int, size_max: int) -> None:
        super().__init__(f"grpc: received message larger than max ({size} vs. {size_max})")


class MalformedMessage(RequestError):
    code = Code.INTERNAL

    def __init__(self, reason: str) -> None:
        super().__init__(f"grpc: error unmarshalling request: {reason}")


class InternalError(RequestError):
    """Our own bug, seen from outside; the log has the rest."""

    code, text = Code.INTERNAL, "etcdserver: internal error"


def decode(request: type[Message], data: bytes, size_max: int) -> Message:
    """One request message; too large or unreadable ones fail with grpc-go's texts."""
    if len(data) > size_max:
        raise MessageTooLarge(len(data), size_max)
    try:
        return request.FromString(data)
    except DecodeError as error:
        raise MalformedMessage(str(error)) from None


def encode(reply: Message | bytes) -> bytes:
    return reply if isinstance(reply, bytes) else reply.SerializeToString()


def kind_of(method: Method) -> CallKind:
    match method:
        case Unary():
            return CallKind.UNARY
        case ServerStream():
            return CallKind.SERVER_STREAM
        case Bidi():
            return CallKind.BIDI_STREAM
        case _:
            assert_never(method)


def unknown_path(path: str, services: Collection[str]) -> str:
    """What grpc-go answers to a path that nobody serves."""
    service, separator, method = path.removeprefix("/").rpartition("/")
    if not separator:
        return f'malformed method name: "{path}"'
    if service in services:
        return f"unknown method {method} for service {service}"
    return f"unknown service {service}"
