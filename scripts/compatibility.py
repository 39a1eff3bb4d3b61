"""Writes docs/COMPATIBILITY.md from the code: `python scripts/compatibility.py`.

Names of RPCs and options come from the messages' descriptors, flags from the flag tables, tests and
differences from docs/compatibility.toml. `tests/unit/test_compatibility.py` fails when the page is
stale, when an RPC is not served, or when a test that is named does not exist.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from google.protobuf.descriptor import Descriptor, ServiceDescriptor

import kvshim.api
from kvshim.config.etcd_other_flags import IGNORED
from kvshim.config.flag import Disposition, Flag
from kvshim.config.retired_flags import RETIRED
from kvshim.config.tables import ETCD_FLAGS
from kvshim.pb.etcd import election_pb2, lock_pb2, rpc_pb2

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "COMPATIBILITY.md"
DATA = ROOT / "docs" / "compatibility.toml"
MORE_DIFFERENCES = ROOT / "docs" / "differences.md"

OPENED = ("WatchCreateRequest", "Compare")
"""Messages inside requests whose fields are options too."""

HEAD = """\
# Compatibility

kvshim is meant to be etcd 3.7 for every client. This page says what of etcd's interface there is,
and names a test for each part of it; `make test`, `make conformance` and `make users` run them. It
is written by `make compatibility`; a stale page, or a test that does not exist, fails `make test`.

The messages themselves, every field's name, number and type, are compared with those of etcd's own
Go modules (`conformance/test_descriptors.py`), and the tests of `tests/api` run on real etcd too
(`conformance/test_api_elsewhere.py`). Beyond the interface: [Kubernetes' own tests of its
storage](kubernetes-storage.md), and [other users of etcd](users.md) at work.
"""

FLAGS_HEAD = """\
Every flag that etcd 3.7 knows, and every one that 3.5 and 3.6 knew, is obeyed, accepted with a
warning that says why it has no effect, or refused by name. Names, kinds and defaults are compared
with the real program (`conformance/test_flags.py`). What each does:
[configuration](configuration.md).
"""


@dataclass(frozen=True, slots=True)
class Rpc:
    """One method of etcd's services, and the options of its request."""

    name: str
    """`KV.Range`."""
    path: str
    options: tuple[str, ...]


def data() -> dict[str, Any]:
    """What only we know: docs/compatibility.toml."""
    return tomllib.loads(DATA.read_text(encoding="utf-8"))


def rpcs() -> Iterator[Rpc]:
    """All methods in the order of the interface."""
    for file in (rpc_pb2, lock_pb2, election_pb2):
        service: ServiceDescriptor
        for service in file.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                path = f"/{service.full_name}/{method.name}"
                yield Rpc(f"{service.name}.{method.name}", path, tuple(_options(method.input_type)))


def _options(message: Descriptor) -> Iterator[str]:
    for field in message.fields:
        inner = field.message_type
        if inner is None or inner.name not in OPENED:
            yield field.name
            continue
        if field.is_repeated:
            yield field.name
        for part in inner.fields:
            yield f"{field.name}.{part.name}"


def served() -> frozenset[str]:
    """The paths that the services answer: their tables need no running node."""
    paths = set()
    for module in pkgutil.iter_modules(kvshim.api.__path__):
        room = importlib.import_module(f"kvshim.api.{module.name}")
        for _, kind in inspect.getmembers(room, inspect.isclass):
            if kind.__module__ == room.__name__ and hasattr(kind, "methods"):
                paths |= {method.path for method in object.__new__(kind).methods()}
    return frozenset(paths)


def rendered() -> str:
    """The whole page."""
    known = data()
    parts = [HEAD, "## RPCs and their options\n", *_rpcs(known["rpc"])]
    parts += ["## etcdctl\n", *_etcdctl(known["etcdctl"])]
    parts += ["## Flags\n", FLAGS_HEAD, *_flags(known["flags"])]
    parts += ["## Known differences\n", *_differences(known["differences"])]
    return "\n".join(parts).rstrip() + "\n"


def _rpcs(known: dict[str, Any]) -> Iterator[str]:
    yield "All are served. Options named beside an RPC are part of what its own test asks.\n"
    yield "| RPC | option | | shown by |\n|---|---|---|---|"
    for rpc in rpcs():
        entry = known[rpc.name]
        plain = [option for option in rpc.options if option not in entry.get("options", {})]
        names = ", ".join(f"`{option}`" for option in plain)
        yield f"| `{rpc.name}` | {names} | {entry.get('note', '')} | {_test(entry['test'])} |"
        for option, test in entry.get("options", {}).items():
            yield f"| | `{option}` | | {_test(test)} |"
    yield ""


def _etcdctl(known: dict[str, Any]) -> Iterator[str]:
    yield "etcdctl 3.7 itself, each command run on kvshim and on etcd and the outputs compared.\n"
    yield "| command | | shown by |\n|---|---|---|"
    for command, entry in known.items():
        if "test" in entry:
            yield f"| `{command}` | works | {_test(entry['test'])} |"
        else:
            yield f"| `{command}` | {entry['note']} | |"
    yield ""


def _flags(known: dict[str, str]) -> Iterator[str]:
    yield "| flag | | why, or shown by |\n|---|---|---|"
    for flag in ETCD_FLAGS:
        if flag not in IGNORED:
            yield f"| `--{flag.name}` | {_disposition(flag)} | {_reason(flag, known)} |"
    yield ""
    names = ", ".join(f"`--{flag.name}`" for flag in IGNORED)
    yield f"Accepted with one warning, as etcd does without: {names}.\n"
    yield "### Flags of etcd 3.5 and 3.6 that 3.7 has no more\n"
    yield "| flag | | why |\n|---|---|---|"
    for row in RETIRED:
        flag = row.flag
        here = "taken under its new name" if row.now or row.gate else _disposition(flag)
        yield f"| `--{flag.name}` | {here} | {flag.note} |"
    yield ""


def _disposition(flag: Flag) -> str:
    return {
        Disposition.OBEYED: "supported",
        Disposition.ACCEPTED: "accepted, with a warning",
        Disposition.REFUSED: "refused",
    }[flag.disposition]


def _reason(flag: Flag, known: dict[str, str]) -> str:
    return _test(known[flag.name]) if flag.disposition is Disposition.OBEYED else flag.note


def _differences(known: list[dict[str, str]]) -> Iterator[str]:
    yield "| what | why |\n|---|---|"
    for difference in known:
        yield f"| {difference['what']} | {difference['why']} |"
    yield ""
    if MORE_DIFFERENCES.exists():
        _, _, body = MORE_DIFFERENCES.read_text(encoding="utf-8").partition("\n")
        yield body.strip().replace("\n## ", "\n### ")


def _test(node: str) -> str:
    """A link to the file, under the name of the test."""
    file, _, name = node.partition("::")
    return f"[{name or file}](../{file})"


def shown_by() -> Iterator[tuple[str, str]]:
    """What is claimed to be there, and the test that is to show it."""
    known = data()
    for name, entry in known["rpc"].items():
        yield name, entry["test"]
        for option, test in entry.get("options", {}).items():
            yield f"{name} {option}", test
    for command, entry in known["etcdctl"].items():
        if "test" in entry:
            yield f"etcdctl {command}", entry["test"]
    for name, test in known["flags"].items():
        yield f"--{name}", test


def main() -> None:
    PAGE.write_text(rendered(), encoding="utf-8")
    print(f"wrote {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
