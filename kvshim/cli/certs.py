"""`kvshim certs`: the cluster's certificates on this node, and how long they hold.

Reads the files alone, so it works whether the node runs or not.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from kvshim.cli.admin_options import data_dir_option, run_command
from kvshim.pki.certificates import CertificateInfo, PkiError, inspect
from kvshim.pki.files import Pki


def run(arguments: Sequence[str]) -> int:
    return run_command(_certs, arguments)


@click.command("certs")
@data_dir_option
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table")
def _certs(data_dir: Path, output: str) -> None:
    """Show the cluster's certificates on this node."""
    pki = Pki.of(data_dir)
    if not pki.exists():
        raise PkiError(f"the data directory {data_dir} holds no certificate of a cluster")
    found = [
        ("node", pki.node_file, pki.node()),
        ("CA", pki.ca_file, inspect(pki.ca_certificate())),
    ]
    holds_key = pki.authority() is not None
    if output == "json":
        rows = [_plain(kind, path, info) for kind, path, info in found]
        print(json.dumps({"certificates": rows, "holds_ca_key": holds_key}, indent=2))
        return
    print(_table(found))
    print(
        "This node holds the CA's key: it can admit nodes and renew certificates."
        if holds_key
        else "The CA's key is on voters only; this node does not hold it."
    )


def _plain(kind: str, path: Path, info: CertificateInfo) -> dict[str, Any]:
    return {
        "kind": kind,
        "file": str(path),
        "subject": info.subject,
        "hosts": list(info.hosts),
        "member_id": f"{info.member_id:x}" if info.member_id else "",
        "not_before": _date(info.not_before),
        "not_after": _date(info.not_after),
        "sha256": info.fingerprint,
    }


def _table(found: Sequence[tuple[str, Path, CertificateInfo]]) -> str:
    """Never folded or cut, since paths are long and get copied."""
    rows = [("CERTIFICATE", "SUBJECT", "EXPIRES", "LEFT", "FILE")]
    for kind, path, info in found:
        rows.append((kind, info.subject, _date(info.not_after), _left(info), str(path)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    return "\n".join(lines)


def _left(info: CertificateInfo) -> str:
    now = time.time()
    days = int((info.not_after - now) // 86_400)
    if info.not_after <= now:
        return "expired"
    return f"{days} days" + (", renewal due" if not info.is_ca and info.renewal_due(now) else "")


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
