"""Requests and responses of HTTP as values, and the table that leads from one to the other.

Texts and status codes are those of Go's `net/http`, which etcd answers with. Event loop only;
handlers are coroutines and must not block.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import TypeAlias
from urllib.parse import parse_qs

from kvshim.logs import Event, Logger
from kvshim.transport.plain import Exchange

TEXT = "text/plain; charset=utf-8"
JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Request:
    """`path` is as sent, without the query; `query` has every value of each name."""

    method: str
    path: str
    query: Mapping[str, tuple[str, ...]]

    @classmethod
    def of(cls, method: str, target: str) -> Request:
        """Split a request target; ValueError if the query has too many fields."""
        path, _, query = target.partition("?")
        fields = parse_qs(query, keep_blank_values=True, max_num_fields=QUERY_FIELDS_MAX)
        return cls(method, path, {name: tuple(values) for name, values in fields.items()})

    def first(self, name: str) -> str:
        """The first value of a query field, or nothing."""
        return self.query.get(name, ("",))[0]


QUERY_FIELDS_MAX = 64


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    content_type: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


def ok_text(text: str) -> Response:
    return Response(200, TEXT, text.encode())


def ok_json(value: object) -> Response:
    """Without spaces, as Go encodes."""
    return Response(200, JSON, compact_json(value).encode())


def error_text(status: int, text: str, headers: Mapping[str, str] | None = None) -> Response:
    """Go's `http.Error`: the text, one newline, and no guessing of its type."""
    return Response(
        status,
        TEXT,
        f"{text}\n".encode(),
        {"X-Content-Type-Options": "nosniff", **(headers or {})},
    )


def compact_json(value: object) -> str:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


Handler: TypeAlias = Callable[[Request], Awaitable[Response]]
Routes: TypeAlias = Mapping[str, Handler]
"""Handlers by exact path."""


class Router:
    """Answers GET and HEAD of known paths; everything else in Go's words."""

    def __init__(self, routes: Routes, log: Logger) -> None:
        self._routes = dict(routes)
        self._log = log

    async def respond(self, request: Request) -> Response:
        """Never raises, except for cancellation. The body of a HEAD is for the caller to drop."""
        handler = self._routes.get(request.path)
        if handler is None:
            return error_text(404, "404 page not found")
        if request.method not in ("GET", "HEAD"):
            return error_text(405, "Method Not Allowed", {"Allow": "GET"})
        try:
            return await handler(request)
        except Exception as error:  # a bug in one page must not end the server
            self._log.error(Event.HANDLER_FAILED, method=request.path, exc_info=error)
            return error_text(500, "Internal Server Error")


async def reply(exchange: Exchange, response: Response) -> None:
    """Send a whole response; a HEAD gets no body, but its length."""
    headers = [
        ("Content-Type", response.content_type),
        ("Content-Length", str(len(response.body))),
        ("Date", formatdate(usegmt=True)),
        *response.headers.items(),
    ]
    await exchange.begin(response.status, headers)
    if response.body and exchange.request.method != "HEAD":
        await exchange.send(response.body)
