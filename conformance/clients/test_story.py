"""grpc-go, grpcio and grpc-java tell the same story, without TLS and with certificates.

Each teller is a program of its own that prints what its client has seen, a fact a line, and every
line must be that of `story.txt`. Afterwards the server has no stream left: deadlines and
cancellations have reached its handlers.
"""

import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from conformance.build import TARGETS, binary, build
from conformance.certs import CertFiles, write_certs
from conformance.servers import BUILD_DIR, ROOT, Datastore, Kind

HERE = Path(__file__).resolve().parent
STORY = (HERE / "story.txt").read_text()

TELLING_SECONDS_MAX = 120
BUILD_SECONDS_MAX = 600
STREAMS_END_SECONDS_MAX = 5.0
STREAMS = re.compile(
    r"^grpc_server_(started|handled)_total\{.*grpc_type=\"bidi_stream\".*\} (\S+)$", re.M
)


def go() -> list[str]:
    build(TARGETS["story-go"])
    return [str(binary("story-go"))]


def java() -> list[str]:
    """Maven compares dates itself, so a second build takes a few seconds."""
    if shutil.which("mvn") is None:
        pytest.fail("no `mvn` in PATH; the story in Java needs Maven and Java 17")
    command = ["mvn", "--batch-mode", "--quiet", f"--file={HERE / 'java'}", "compile"]
    built = subprocess.run(
        command, capture_output=True, text=True, timeout=BUILD_SECONDS_MAX, check=False
    )
    assert built.returncode == 0, built.stdout + built.stderr
    out = BUILD_DIR / "story-java"
    return ["java", "-cp", f"{out / 'classes'}:{out / 'lib'}/*", "story.Story"]


def python() -> list[str]:
    return [sys.executable, "-m", "conformance.clients.python.story"]


@pytest.mark.timeout(BUILD_SECONDS_MAX + TELLING_SECONDS_MAX)
@pytest.mark.parametrize("secured", [False, True], ids=["plain", "mutual TLS"])
@pytest.mark.parametrize("teller", [go, java, python])
def test_every_client_sees_the_same(
    teller: Callable[[], list[str]], secured: bool, datastore_kind: Kind, tmp_path: Path
):
    command = teller()
    tls = write_certs(tmp_path / "certs") if secured else None
    with Datastore(datastore_kind, tmp_path / "datastore", tls=tls) as datastore:
        files = _client_files(tls) if tls is not None else []
        told = subprocess.run(
            [*command, datastore.client_url, *map(str, files)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=TELLING_SECONDS_MAX,
            check=False,
        )
        assert told.stdout == STORY, told.stderr
        assert told.returncode == 0, told.stderr
        _wait_until_no_stream_is_left(datastore)


def _client_files(tls: CertFiles) -> list[Path]:
    """CA, certificate and key, the key in the only form that Java reads."""
    key = serialization.load_pem_private_key(tls.client_key.read_bytes(), password=None)
    pkcs8 = tls.client_key.with_suffix(".pkcs8")
    pkcs8.touch(mode=0o600)
    pkcs8.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return [tls.ca_cert, tls.client_cert, pkcs8]


def _wait_until_no_stream_is_left(datastore: Datastore) -> None:
    deadline = time.monotonic() + STREAMS_END_SECONDS_MAX
    while True:
        counted = {"started": 0.0, "handled": 0.0}
        for what, number in STREAMS.findall(datastore.metrics()):
            counted[what] += float(number)
        assert counted["started"] > 0
        if counted["started"] == counted["handled"]:
            return
        assert time.monotonic() < deadline, counted
        time.sleep(0.1)
