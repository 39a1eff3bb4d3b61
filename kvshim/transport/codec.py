"""Request and response messages as bytes, and what a path that nobody serves is told.

Shared by all transports; knows no RPC library.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import assert_never

from google.protobuf.message import DecodeError, Message

from kvshim.errors import MalformedMessage, MessageTooLarge
from kvshim.metrics.calls import CallKind
from kvshim.rpc import Bidi, Method, ServerStream, Unary

CLIENT_API_VERSION = "client-api-version"
"""Metadata in which clients tell their version, for a metric."""


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
