"""h2spec, a suite of RFC 7540 and RFC 7541 for servers, on a node's client port: plain and TLS.

All of its tests run, the strict ones too. What may fail is named here with its reason, and must
fail: a reason that is no longer true goes.
"""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest

from conformance.build import TARGETS, binary, build
from conformance.servers import Datastore, Kind
from tests.support.ports import free_ports

SUITES = ("generic", "http2", "hpack")
TESTS = 146
TIMEOUT_SECONDS = 5
"""Of one answer; h2spec's own 2 s are little on a busy machine."""

PLAIN, TLS = "plain", "TLS"
# What does not begin with HTTP/2's preface is HTTP/1.1 on a port of both: it is answered 400 in
# that language and closed. h2spec expects nothing, or frames.
NOT_THE_PREFACE = ("http2/3.5", "Sends invalid connection preface")
ALLOWED = {PLAIN: {NOT_THE_PREFACE}, TLS: set()}
"""By listener: package and name of the tests that may fail; docs/adr/0006 has the same table."""


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, int]]:
    """A node that serves the same without and with TLS."""
    build(TARGETS["h2spec"])
    plain, secure = free_ports(2)
    urls = f"http://127.0.0.1:{plain},https://127.0.0.1:{secure}"
    flags = (f"--listen-client-urls={urls}", f"--advertise-client-urls={urls}", "--auto-tls")
    node = Datastore(Kind.KVSHIM, tmp_path_factory.mktemp("h2spec"), flags)
    node.ports[0] = plain
    with node:
        yield {PLAIN: plain, TLS: secure}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("listener", [PLAIN, TLS])
def test_every_test_passes_but_those_with_a_reason(
    listener: str, ports: dict[str, int], tmp_path: Path
):
    report = tmp_path / "report.xml"
    command = [str(binary("h2spec")), *SUITES, "--strict", "--host=127.0.0.1", "--path=/version"]
    command += [f"--port={ports[listener]}", f"--timeout={TIMEOUT_SECONDS}"]
    command += [f"--junit-report={report}"]
    if listener == TLS:
        command += ["--tls", "--insecure"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=280, check=False)
    assert report.exists(), done.stdout + done.stderr

    cases = list(ElementTree.parse(report).iter("testcase"))
    failed = {
        (case.attrib["package"], case.attrib["classname"])
        for case in cases
        if case.find("failure") is not None or case.find("error") is not None
    }
    assert len(cases) == TESTS
    assert not [case for case in cases if case.find("skipped") is not None]
    assert failed == ALLOWED[listener], done.stdout
