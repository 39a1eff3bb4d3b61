"""A watch with hundreds of events a second keeps its connection.

grpc-go measures the path with a ping after nearly every event that comes alone. A server that takes
them for too many ends the connection, and the watch stands still for a second.
"""

import re
from pathlib import Path

import pytest

from bench import load
from conformance.servers import Datastore, Kind

WATCHES = re.compile(r"^grpc_server_started_total\{.*grpc_method=\"Watch\".*\} (\S+)$", re.M)


@pytest.mark.timeout(300)
def test_a_busy_watch_is_never_interrupted(datastore_kind: Kind, tmp_path: Path) -> None:
    load.build()
    flags: dict[str, int | str] = {"n": 100, "value-bytes": 64, "watchers": 1, "connections": 1}
    flags |= {"watch-rate": 300, "watch-duration": "12s"}
    with Datastore(datastore_kind, tmp_path / "datastore") as datastore:
        phases = load.run(("create", "watch"), flags, datastore.client_url, datastore.pid)
        started = [float(number) for number in WATCHES.findall(datastore.metrics())]
    assert phases["watch"]["events"] == phases["watch"]["operations"]
    assert sum(started) == 1, f"the watch was made {sum(started)} times"
