"""The two flags that say from when on something took too long, seen in the log of a real node."""

import json
from pathlib import Path

import pytest

from kvshim.logs import Event
from tests.support.datastore import Kind, running
from tests.support.grpc_client import EtcdClient


@pytest.mark.parametrize(
    ("flag", "event"),
    [
        ("warning-unary-request-duration", Event.SLOW_REQUEST),
        ("warning-apply-duration", Event.SLOW_APPLY),
    ],
)
@pytest.mark.parametrize(("limit", "warned"), [("1us", True), ("1h", False)])
def test_what_takes_longer_is_a_warning(
    tmp_path: Path, flag: str, event: Event, limit: str, warned: bool
):
    with running(Kind.KVSHIM, tmp_path, f"--{flag}={limit}", "--log-format=json") as store:
        client = EtcdClient(store.target)
        client.put(b"key", b"secret value")
        client.close()
        log = store.log.read_text(encoding="utf-8")
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    told = [line for line in lines if line["msg"] == event]
    assert bool(told) is warned
    assert {line["level"] for line in told} <= {"warn"}
    assert "secret" not in log
