"""Flags that show in answers: kvshim under a flag answers as etcd does under it."""

import http.client
import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from conformance.build import TARGETS, build
from conformance.servers import ETCDCTL, Datastore, Kind

PEER_URL = "http://127.0.0.1:2380"
SAME_IDS = (f"--initial-advertise-peer-urls={PEER_URL}", f"--initial-cluster=m1={PEER_URL}")


@contextmanager
def both(directory: Path, *flags: str) -> Iterator[list[Datastore]]:
    """etcd and kvshim with the same flags."""
    build(TARGETS["etcd"])
    build(TARGETS["etcdctl"])
    with ExitStack() as stack:
        yield [
            stack.enter_context(Datastore(kind, directory / kind.value, [*SAME_IDS, *flags]))
            for kind in (Kind.ETCD, Kind.KVSHIM)
        ]


def answer(store: Datastore, method: str, path: str, **headers: str) -> tuple[int, dict[str, str]]:
    """Status, and the headers that browsers read of an answer."""
    connection = http.client.HTTPConnection(store.endpoint, timeout=10)
    try:
        body = json.dumps({"key": "Zm9v"}) if method == "POST" else None
        connection.request(method, path, body, headers)
        got = connection.getresponse()
        got.read()
        allowed = {
            name: text for name, text in got.getheaders() if "access-control" in name.lower()
        }
        return got.status, {name.lower(): text for name, text in allowed.items()}
    finally:
        connection.close()


@pytest.mark.parametrize("token", ["etcd-cluster", "another"])
def test_initial_cluster_token_makes_the_ids(tmp_path: Path, token: str):
    with both(tmp_path, f"--initial-cluster-token={token}") as stores:
        headers = [store.etcdctl_json("get", "x")["header"] for store in stores]
    etcd, kvshim = [(header["cluster_id"], header["member_id"]) for header in headers]
    assert etcd == kvshim


@pytest.mark.parametrize(
    "flags",
    [
        [],
        ["--cors=http://a.example:80"],
        ["--cors=http://a.example:80,http://b.example:80"],
        ["--cors=*"],
    ],
    ids=lambda flags: "".join(flags) or "default",
)
def test_cors(tmp_path: Path, flags: list[str]):
    with both(tmp_path, *flags) as stores:
        for method, origin in [
            ("POST", "http://a.example:80"),
            ("POST", "http://c.example"),
            ("OPTIONS", "http://a.example:80"),
            ("OPTIONS", "http://c.example"),
        ]:
            etcd, kvshim = (
                answer(store, method, "/v3/kv/range", Origin=origin) for store in stores
            )
            assert etcd == kvshim, (method, origin)


@pytest.mark.parametrize("switch", ["true", "false"])
def test_enable_grpc_gateway(tmp_path: Path, switch: str):
    with both(tmp_path, f"--enable-grpc-gateway={switch}") as stores:
        for path in ("/v3/kv/range", "/v3/nothing", "/version", "/health"):
            method = "POST" if "v3" in path else "GET"
            etcd, kvshim = (answer(store, method, path) for store in stores)
            assert etcd == kvshim, path


def test_host_whitelist(tmp_path: Path):
    with both(tmp_path, "--host-whitelist=good.example") as stores:
        for host in ("good.example", "bad.example", "127.0.0.1"):
            etcd, kvshim = (answer(store, "POST", "/v3/kv/range", Host=host)[0] for store in stores)
            assert etcd == kvshim, host


@pytest.mark.parametrize("flag", ["--max-txn-ops=2", "--max-request-bytes=600"])
def test_limits_of_requests(tmp_path: Path, flag: str):
    puts = "\n" + "".join(f"put k{number} v\n" for number in range(3)) + "\n\n"
    with both(tmp_path, flag) as stores:
        said: list[tuple[int, list[str]]] = []
        for store in stores:
            command = [ETCDCTL, f"--endpoints={store.client_url}"]
            for arguments, typed in ((["txn"], puts), (["put", "k", "x" * 700], "")):
                done = subprocess.run(
                    [*command, *arguments],
                    input=typed,
                    capture_output=True,
                    text=True,
                    timeout=20,
                    check=False,
                )
                said.append((done.returncode, done.stderr.splitlines()[-1:]))
        etcd, kvshim = (
            [line[1:] for line in said if line[0] is kind] for kind in (Kind.ETCD, Kind.KVSHIM)
        )
        assert etcd == kvshim
