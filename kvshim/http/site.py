"""What plain HTTP leads to: pages, and on the client port the gateway behind access control.

Event loop only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from urllib.parse import urlsplit

from kvshim.http.limits import Limits
from kvshim.http.routes import Request, Response, Router, error_text, reply
from kvshim.transport.plain import Application, ClientGone, Exchange, RequestLine

ANY = "*"
CORS_METHODS = "POST, GET, OPTIONS, PUT, DELETE"
NAME_IGNORED = (
    "CommonName of client sending a request against gateway will be ignored and not used as"
    " expected"
)
"""etcd's words."""

CORS_HEADERS = "accept, content-type, authorization"


class Pages:
    """The application of `--listen-metrics-urls`: pages and nothing else."""

    def __init__(self, router: Router, limits: Limits | None = None) -> None:
        self._router = router
        self._limits = limits or Limits()

    async def answer(self, exchange: Exchange) -> None:
        """Answer one request; raises ClientGone and cancellation alone."""
        line = exchange.request
        try:
            request = Request.of(line.method, line.target)
            async with asyncio.timeout(self._limits.request_seconds_max):
                is_small = await _body_is_small(exchange, self._limits.body_bytes_max)
            if not is_small:
                await reply(exchange, _bad_request(413))
                return
            async with asyncio.timeout(self._limits.response_seconds_max):
                response = await self._router.respond(request)
        except ValueError:
            response = _bad_request(400)
        except TimeoutError as error:
            raise ClientGone from error
        await reply(exchange, response)


class Site:
    """The application of the client port."""

    def __init__(
        self,
        pages: Pages,
        gateway: Application | None,
        origins: Sequence[str],
        hosts: Sequence[str],
        refuses_names: Callable[[], bool] = lambda: False,
    ) -> None:
        """While `refuses_names`, the gateway is not for clients whose certificate names somebody:
        they might think to be that user, and are nobody."""
        self._pages = pages
        self._gateway = gateway
        self._origins = frozenset(origins)
        self._hosts = frozenset(hosts)
        self._refuses_names = refuses_names

    async def answer(self, exchange: Exchange) -> None:
        """Answer one request; raises ClientGone and cancellation alone."""
        request = exchange.request
        host = _host(request)
        if not request.is_secure and not self._admits(host):
            text = f"CVE-2018-5702: unrecognized host in {host!r}: see --host-whitelist"
            await reply(exchange, error_text(421, text))
            return
        is_v3 = request.target.startswith("/v3/")
        if request.common_name and is_v3 and self._gateway is not None and self._refuses_names():
            await reply(exchange, error_text(400, NAME_IGNORED))
            return
        exchange.extra_headers = self._cors(request.headers.get("origin", ""))
        if request.method == "OPTIONS":
            await exchange.begin(200, (("Content-Length", "0"),))
        elif self._gateway is not None and request.target.startswith(("/v3/", "/v3beta/")):
            await self._gateway.answer(exchange)
        else:
            await self._pages.answer(exchange)

    def _admits(self, host: str) -> bool:
        return ANY in self._hosts or host in self._hosts

    def _cors(self, origin: str) -> tuple[tuple[str, str], ...]:
        """Headers that let a browser use the answer, if it may."""
        allowed = ANY if ANY in self._origins else origin
        if not allowed or allowed not in self._origins:
            return ()
        return (
            ("Access-Control-Allow-Headers", CORS_HEADERS),
            ("Access-Control-Allow-Methods", CORS_METHODS),
            ("Access-Control-Allow-Origin", allowed),
        )


async def _body_is_small(exchange: Exchange, bytes_max: int) -> bool:
    size = 0
    while data := await exchange.receive():
        size += len(data)
        if size > bytes_max:
            return False
    return True


def _bad_request(status: int) -> Response:
    return error_text(status, "Bad Request", {"Connection": "close"})


def _host(request: RequestLine) -> str:
    """The name in the request's Host, without its port."""
    try:
        return urlsplit("//" + request.headers.get("host", "")).hostname or ""
    except ValueError:
        return ""
