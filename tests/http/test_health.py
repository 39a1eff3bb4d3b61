"""The health pages, with etcd 3.7's bodies and codes."""

import asyncio
import json
from typing import Any

import pytest

from kvshim.errors import NoLeader, RequestTimedOut
from kvshim.http import health
from kvshim.http.health import HealthPages
from kvshim.http.routes import Request, Response, Router
from kvshim.metrics.registry import Metrics
from kvshim.pb.etcd import rpc_pb2
from tests.transport.serving import LogBook


class Source:
    """A node whose health the test decides."""

    def __init__(self) -> None:
        self.linearizable_error: Exception | None = None
        self.serializable_error: Exception | None = None
        self.active: list[int] = []
        self.leader = True
        self.learner = False
        self.reads: list[str] = []

    async def linearizable_read(self) -> None:
        self.reads.append("linearizable")
        if self.linearizable_error is not None:
            raise self.linearizable_error

    async def serializable_read(self) -> None:
        self.reads.append("serializable")
        if self.serializable_error is not None:
            raise self.serializable_error

    def alarms(self) -> list[int]:
        return self.active

    def has_leader(self) -> bool:
        return self.leader

    def is_learner(self) -> bool:
        return self.learner


class Pages:
    def __init__(self) -> None:
        self.source, self.metrics, self.log = Source(), Metrics(), LogBook()
        pages = HealthPages(self.source, self.metrics.health, self.log)
        self.router = Router(pages.routes(), self.log)

    async def get(self, target: str) -> Response:
        return await self.router.respond(Request.of("GET", target))

    async def text(self, target: str) -> tuple[int, str]:
        response = await self.get(target)
        return response.status, response.body.decode()

    def sample(self, metric: str, **labels: str) -> Any:
        return self.metrics.registry.get_sample_value(metric, labels)


@pytest.fixture
def pages() -> Pages:
    return Pages()


async def test_health_of_a_healthy_node(pages: Pages):
    response = await pages.get("/health")
    assert response.status == 200
    assert response.body == b'{"health":"true","reason":""}'
    assert pages.source.reads == ["linearizable"]
    assert pages.sample("etcd_server_health_success") == 1


async def test_health_without_a_leader(pages: Pages):
    pages.source.leader = False
    status, body = await pages.text("/health")
    assert status == 503
    assert body == '{"health":"false","reason":"RAFT NO LEADER"}\n'
    assert pages.sample("etcd_server_health_failures") == 1
    status, _ = await pages.text("/health?serializable=true")
    assert (status, pages.source.reads) == (200, ["serializable"])


@pytest.mark.parametrize("alarm", ["NOSPACE", "CORRUPT"])
async def test_health_with_an_alarm(pages: Pages, alarm: str):
    pages.source.active = [rpc_pb2.AlarmType.Value(alarm)]
    status, body = await pages.text("/health")
    assert (status, json.loads(body)) == (503, {"health": "false", "reason": f"ALARM {alarm}"})
    assert (await pages.text(f"/health?exclude={alarm}"))[0] == 200
    assert (await pages.text("/health?exclude=OTHER"))[0] == 503


async def test_all_alarms_may_be_excluded(pages: Pages):
    pages.source.active = [rpc_pb2.NOSPACE, rpc_pb2.CORRUPT]
    assert (await pages.text("/health?exclude=NOSPACE"))[0] == 503
    assert (await pages.text("/health?exclude=NOSPACE&exclude=CORRUPT"))[0] == 200


async def test_health_when_a_read_fails(pages: Pages):
    pages.source.linearizable_error = RequestTimedOut()
    _, body = await pages.text("/health")
    assert json.loads(body)["reason"] == "RANGE ERROR:etcdserver: request timed out"


async def test_ready_and_alive(pages: Pages):
    for path in ("/livez", "/readyz", "/readyz/linearizable_read", "/livez/serializable_read"):
        response = await pages.get(path)
        assert (response.status, response.body) == (200, b"ok\n"), path
        assert response.content_type == "text/plain; charset=utf-8"
        assert response.headers["X-Content-Type-Options"] == "nosniff"


async def test_verbose_lists_the_checks(pages: Pages):
    assert await pages.text("/readyz?verbose") == (
        200,
        "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\n"
        "[+]non_learner ok\nok\n",
    )
    assert await pages.text("/livez?verbose") == (200, "[+]serializable_read ok\nok\n")


async def test_a_failed_check_is_always_explained(pages: Pages):
    pages.source.linearizable_error = NoLeader()
    status, body = await pages.text("/readyz")
    assert status == 503
    assert body == (
        "[+]data_corruption ok\n[+]serializable_read ok\n"
        "[-]linearizable_read failed: etcdserver: no leader\n[+]non_learner ok\n\n"
    )
    assert await pages.text("/readyz?exclude=linearizable_read") == (200, "ok\n")
    assert (await pages.text("/livez"))[0] == 200, "alive though not ready"
    labels = {"type": "readyz", "name": "linearizable_read"}
    assert pages.sample("etcd_server_healthcheck", **labels) == 0
    assert pages.sample("etcd_server_healthchecks_total", status="error", **labels) == 1


async def test_each_check_alone(pages: Pages):
    pages.source.active = [rpc_pb2.CORRUPT]
    pages.source.learner = True
    pages.source.serializable_error = RequestTimedOut()
    for path, text in (
        ("/readyz/data_corruption", "[-]data_corruption failed: alarm activated: CORRUPT\n\n"),
        ("/readyz/non_learner", "[-]non_learner failed: not supported for learner\n\n"),
        (
            "/livez/serializable_read",
            "[-]serializable_read failed: etcdserver: request timed out\n\n",
        ),
    ):
        assert await pages.text(path) == (503, text)
    assert (await pages.text("/readyz/linearizable_read"))[0] == 200


async def test_nospace_is_no_reason_not_to_be_ready(pages: Pages):
    pages.source.active = [rpc_pb2.NOSPACE]
    assert (await pages.text("/readyz"))[0] == 200


async def test_excluding_what_does_not_exist_is_a_warning(pages: Pages):
    assert (await pages.text("/readyz?exclude=nonsense&exclude="))[0] == 200
    [(level, _, fields)] = pages.log.lines
    assert (level, fields["names"]) == ("warn", ["nonsense"])


async def test_a_check_that_hangs_fails(pages: Pages, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(health, "CHECK_SECONDS_MAX", 0.05)
    monkeypatch.setattr(pages.source, "linearizable_read", lambda: asyncio.sleep(30))
    status, body = await pages.text("/readyz/linearizable_read")
    assert status == 503
    assert body == "[-]linearizable_read failed: context deadline exceeded\n\n"


async def test_readiness_names_a_missing_leader_before_probes_give_up(
    pages: Pages, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(health, "LEADERLESS_SECONDS_MAX", 0.05)
    monkeypatch.setattr(pages.source, "linearizable_read", lambda: asyncio.sleep(30))
    pages.source.leader = False
    status, body = await asyncio.wait_for(pages.text("/readyz"), 5)
    assert status == 503
    assert "[-]linearizable_read failed: RAFT NO LEADER\n" in body
    # A member without a leader still lives: restarting it would not help.
    assert (await pages.text("/livez"))[0] == 200


async def test_a_bug_in_a_page_is_an_error_without_details(pages: Pages):
    pages.source.serializable_error = ZeroDivisionError("secret")
    assert await pages.text("/livez") == (500, "Internal Server Error\n")
    assert pages.log.lines[0][0] == "error"


async def test_other_paths_and_methods(pages: Pages):
    assert await pages.text("/nonsense") == (404, "404 page not found\n")
    response = await pages.router.respond(Request.of("POST", "/health"))
    assert (response.status, response.body) == (405, b"Method Not Allowed\n")
    assert response.headers["Allow"] == "GET"
