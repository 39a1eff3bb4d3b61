"""A unit file of `Type=notify`, as Debian ships for etcd, sees the node become ready."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from kvshim.node.notify import notify

KVSHIM = Path(sys.executable).with_name("kvshim")


@pytest.fixture
def manager(tmp_path, monkeypatch):
    """The service manager's end of the socket."""
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(path))
        receiver.settimeout(20)
        monkeypatch.setenv("NOTIFY_SOCKET", str(path))
        yield receiver


def free_url() -> str:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_starting_and_stopping_node_tells_the_service_manager(manager, tmp_path):
    url = free_url()
    command = [KVSHIM, "--data-dir", tmp_path / "data", "--listen-client-urls", url]
    command += ["--advertise-client-urls", url, "--listen-metrics-urls", free_url()]
    process = subprocess.Popen(command, env=os.environ, stderr=subprocess.DEVNULL)
    try:
        assert manager.recv(64) == b"READY=1"
        process.send_signal(signal.SIGTERM)
        assert manager.recv(64) == b"STOPPING=1"
        assert process.wait(5) == 0
    finally:
        process.kill()
        process.wait()


def test_a_manager_that_is_gone_is_no_reason_to_stop(monkeypatch, tmp_path):
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nobody"))
    notify("READY=1")
    monkeypatch.delenv("NOTIFY_SOCKET")
    notify("READY=1")
