"""What a node that serves keys in the clear must not load: each costs memory for its whole life."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

NEEDLESS = {
    "bcrypt": "passwords, once there are users",
    "click": "the other commands",
    "cryptography.hazmat.bindings._rust": "TLS towards clients, making certificates",
    "google.protobuf.json_format": "the JSON gateway",
    "grpc": "--transport=grpcio",
    "jwt": "--auth-token=jwt",
    "rich": "help and progress bars",
    "yaml": "--config-file",
    "zstandard": "snapshots between members",
}
"""By module, what it is for; together they are a quarter of the node."""

PROGRAM = """
import json, sys
from kvshim.cli.main import main
code = main(sys.argv[1:])
print(json.dumps(sorted(sys.modules)))
sys.exit(code)
"""


def serve_once(directory: Path) -> set[str]:
    """Start, show metrics and status, stop; returns what was loaded by then."""
    address = directory / "clients"
    command = [sys.executable, "-c", PROGRAM, "--data-dir", str(directory / "data")]
    command += ["--listen-client-urls", f"unix://{address}"]
    command += ["--advertise-client-urls", "http://127.0.0.1:2379"]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=directory, text=True
    )
    try:
        assert process.stderr is not None
        seen = []
        for line in process.stderr:
            seen.append(line)
            if "ready to serve client requests" in line:
                break
        else:
            raise AssertionError("".join(seen))
        assert b"etcd_server_has_leader 1" in metrics(address)
        status = [sys.executable, "-m", "kvshim.cli.main", "status", "--data-dir", command[4]]
        subprocess.run(status, check=True, stdout=subprocess.DEVNULL, timeout=30)
        process.terminate()
        output, _ = process.communicate(timeout=20)
    finally:
        process.kill()
    assert process.returncode == 0
    return set(json.loads(output.splitlines()[-1]))


def metrics(address: Path) -> bytes:
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(10)
        client.connect(str(address))
        client.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        return b"".join(iter(lambda: client.recv(1 << 16), b""))


def test_a_plain_node_loads_nothing_that_it_does_not_need(tmp_path: Path):
    # given a node with a CA of its own, which its first start made
    serve_once(tmp_path)
    # when it runs again, looks after its certificate and says until when that holds
    loaded = serve_once(tmp_path)
    # then
    assert loaded & NEEDLESS.keys() == set()
