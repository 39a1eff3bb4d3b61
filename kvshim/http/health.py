"""`/health`, `/livez` and `/readyz` with etcd 3.7's bodies, texts and checks. Event loop only.

What is healthy is for the layer above to say: it implements `HealthSource`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Protocol, TypeAlias

from kvshim.errors import KvshimError, RequestError
from kvshim.http.routes import (
    Handler,
    Request,
    Response,
    Routes,
    compact_json,
    error_text,
    ok_text,
)
from kvshim.logs import Logger
from kvshim.metrics.server import HealthMetrics
from kvshim.pb.etcd import rpc_pb2

CHECK_SECONDS_MAX = 7.0
"""etcd's request timeout with default flags: 5 s and two election timeouts."""

LEADERLESS_SECONDS_MAX = 2.5
"""While no leader is known: longer than an election, and shorter than those who probe wait."""

NO_LEADER = "RAFT NO LEADER"


class HealthSource(Protocol):
    """What the node knows of its own health. Reads raise RequestError when they fail."""

    async def linearizable_read(self) -> None: ...
    async def serializable_read(self) -> None: ...
    def alarms(self) -> Iterable[int]:
        """Types of the active alarms, as numbers of `rpc_pb2.AlarmType`."""
        ...

    def has_leader(self) -> bool: ...
    def is_learner(self) -> bool: ...


class CheckFailed(Exception):
    """A check did not pass; the text is what etcd prints behind its name."""


class CheckType(Enum):
    LIVEZ = "livez"
    READYZ = "readyz"


Check: TypeAlias = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """One line a check, and whether all passed."""

    passed: bool
    report: str


class HealthPages:
    """The health routes of one node."""

    def __init__(self, source: HealthSource, metrics: HealthMetrics, log: Logger) -> None:
        self._source = source
        self._metrics = metrics
        self._log = log

    def routes(self) -> Routes:
        livez: dict[str, Check] = {"serializable_read": self._serializable_read}
        readyz: dict[str, Check] = {
            "data_corruption": self._data_corruption,
            "serializable_read": self._serializable_read,
            "linearizable_read": self._linearizable_read,
            "non_learner": self._non_learner,
        }
        return {
            "/health": self.health,
            **self._check_routes(CheckType.LIVEZ, livez),
            **self._check_routes(CheckType.READYZ, readyz),
        }

    async def health(self, request: Request) -> Response:
        """The older page: one JSON object, `?exclude=NOSPACE` and `?serializable=true`."""
        serializable = request.first("serializable") == "true"
        reason = await self._unhealthy(request.query.get("exclude", ()), serializable=serializable)
        body = compact_json({"health": "false" if reason else "true", "reason": reason})
        if reason:
            self._metrics.health_failures.inc()
            self._log.warn("/health error", output=body, status=503)
            return error_text(503, body)
        self._metrics.health_success.inc()
        return ok_text(body)

    async def _unhealthy(self, excluded: Iterable[str], *, serializable: bool) -> str:
        """The reason in etcd's words, or nothing."""
        for alarm in self._source.alarms():
            name = _alarm_name(alarm)
            if name not in excluded:
                return f"ALARM {name}"
        if not serializable and not self._source.has_leader():
            return NO_LEADER
        read = self._serializable_read if serializable else self._linearizable_read
        try:
            await read()
        except CheckFailed as error:
            return f"RANGE ERROR:{error}"
        return ""

    def _check_routes(self, kind: CheckType, checks: Mapping[str, Check]) -> dict[str, Handler]:
        """The page that runs all checks but the excluded, and a page for each alone."""
        root = f"/{kind.value}"

        async def run_all(request: Request) -> Response:
            excluded = {name for name in request.query.get("exclude", ()) if name}
            unknown = excluded - checks.keys()
            if unknown:
                self._log.warn(
                    "some health checks cannot be excluded", names=sorted(unknown), path=root
                )
            chosen = {name: check for name, check in checks.items() if name not in excluded}
            return self._page(request, root, await self._run(kind, chosen))

        def run_one(name: str, check: Check) -> Handler:
            async def run(request: Request) -> Response:
                outcome = await self._run(kind, {name: check})
                return self._page(request, f"{root}/{name}", outcome)

            return run

        alone = {f"{root}/{name}": run_one(name, check) for name, check in checks.items()}
        return {root: run_all, **alone}

    async def _run(self, kind: CheckType, checks: Mapping[str, Check]) -> Outcome:
        lines: list[str] = []
        passed = True
        for name, check in checks.items():
            try:
                await check()
            except CheckFailed as error:
                lines.append(f"[-]{name} failed: {error}\n")
                self._metrics.check_failed(kind.value, name)
                passed = False
            else:
                lines.append(f"[+]{name} ok\n")
                self._metrics.check_passed(kind.value, name)
        return Outcome(passed, "".join(lines))

    def _page(self, request: Request, path: str, outcome: Outcome) -> Response:
        """Details are shown when something failed or `?verbose` asks for them."""
        if not outcome.passed:
            self._log.error("Health check error", path=path, reason=outcome.report, status=503)
            return error_text(503, outcome.report)
        report = outcome.report if "verbose" in request.query else ""
        page = ok_text(f"{report}ok\n")
        return Response(
            page.status, page.content_type, page.body, {"X-Content-Type-Options": "nosniff"}
        )

    async def _serializable_read(self) -> None:
        await _in_time(self._source.serializable_read(), CHECK_SECONDS_MAX)

    async def _linearizable_read(self) -> None:
        """Says that there is no leader, if that is the reason, where etcd tells of a deadline."""
        limit = CHECK_SECONDS_MAX if self._source.has_leader() else LEADERLESS_SECONDS_MAX
        try:
            await _in_time(self._source.linearizable_read(), limit)
        except CheckFailed:
            if not self._source.has_leader():
                raise CheckFailed(NO_LEADER) from None
            raise

    async def _data_corruption(self) -> None:
        if rpc_pb2.CORRUPT in self._source.alarms():
            raise CheckFailed("alarm activated: CORRUPT")

    async def _non_learner(self) -> None:
        if self._source.is_learner():
            raise CheckFailed("not supported for learner")


async def _in_time(read: Awaitable[None], seconds_max: float) -> None:
    try:
        async with asyncio.timeout(seconds_max):
            await read
    except TimeoutError:
        raise CheckFailed("context deadline exceeded") from None
    except (RequestError, KvshimError) as error:
        raise CheckFailed(str(error)) from error


def _alarm_name(alarm: int) -> str:
    match alarm:
        case rpc_pb2.NOSPACE:
            return "NOSPACE"
        case rpc_pb2.CORRUPT:
            return "CORRUPT"
        case _:
            return "UNKNOWN"
