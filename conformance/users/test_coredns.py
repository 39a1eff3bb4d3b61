"""CoreDNS answers from kvshim what its etcd plugin finds there, also after changes and a crash."""

import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import dns.exception
import dns.message
import dns.query
import dns.rcode
import pytest

from conformance.build import TARGETS, binary, build
from conformance.servers import Datastore, Kind, log_tail
from tests.support.ports import free_ports

READY_SECONDS_MAX = 30.0
ZONE = "cluster.local."

COREFILE = """\
{zone}:{port} {{
    bind 127.0.0.1
    errors
    etcd {{
        path /skydns
        endpoint {endpoint}
    }}
}}
"""

Answers = tuple[str, ...]


@dataclass(slots=True)
class NameServer:
    """A running CoreDNS."""

    port: int
    log: Path

    def ask(self, name: str, kind: str = "A") -> Answers:
        """The records of that kind, or the name of the failure."""
        question = dns.message.make_query(name, kind)
        answer = dns.query.udp(question, "127.0.0.1", timeout=5, port=self.port)
        if answer.rcode() != dns.rcode.NOERROR:
            return (dns.rcode.to_text(answer.rcode()),)
        return tuple(sorted(str(record) for part in answer.answer for record in part))

    def wait_for(self, expected: Answers, name: str) -> None:
        """Nothing is cached, so an answer is right as soon as the store is up."""
        deadline, said = time.monotonic() + READY_SECONDS_MAX, None
        while time.monotonic() < deadline:
            try:
                if (said := self.ask(name)) == expected:
                    return
            except (OSError, dns.exception.DNSException) as failure:
                said = failure
            time.sleep(0.1)
        raise AssertionError(f"{name}: {said} instead of {expected}\n{log_tail(self.log)}")


@contextmanager
def coredns(datastore: Datastore, directory: Path) -> Iterator[NameServer]:
    build(TARGETS["coredns"])
    [port] = free_ports(1)
    corefile, log = directory / "Corefile", directory / "coredns.log"
    corefile.write_text(COREFILE.format(zone=ZONE, port=port, endpoint=datastore.client_url))
    with log.open("wb") as out:
        process = subprocess.Popen(
            [binary("coredns"), f"-conf={corefile}"], stdout=out, stderr=subprocess.STDOUT
        )
    try:
        yield NameServer(port, log)
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("kind", [Kind.KVSHIM, Kind.ETCD], ids=lambda kind: kind.value)
def test_names_follow_the_keys(kind: Kind, tmp_path: Path):
    with (
        Datastore(kind, tmp_path / "datastore") as datastore,
        coredns(datastore, tmp_path) as server,
    ):

        def put(key: str, **record: object) -> None:
            datastore.etcdctl("put", f"/skydns/local/cluster/{key}", json.dumps(record))

        put("web/one", host="10.0.0.1", ttl=7)
        server.wait_for(("10.0.0.1",), f"web.{ZONE}")
        put("web/two", host="10.0.0.2", port=8080)
        assert server.ask(f"web.{ZONE}") == ("10.0.0.1", "10.0.0.2")
        assert server.ask(f"two.web.{ZONE}") == ("10.0.0.2",)
        assert f"10 100 8080 two.web.{ZONE}" in server.ask(f"two.web.{ZONE}", "SRV")
        put("alias", host=f"web.{ZONE}")
        assert "10.0.0.1" in server.ask(f"alias.{ZONE}")
        put("note/x", text="hello")
        assert server.ask(f"note.{ZONE}", "TXT") == ('"hello"',)
        put("web/one", host="10.0.0.9")
        assert server.ask(f"one.web.{ZONE}") == ("10.0.0.9",)
        datastore.etcdctl("del", "--prefix", "/skydns/local/cluster/web/")
        assert server.ask(f"web.{ZONE}") == ("NXDOMAIN",)
        put("back/one", host="10.0.0.3")
        datastore.kill()
        datastore.start()
        server.wait_for(("10.0.0.3",), f"back.{ZONE}")
