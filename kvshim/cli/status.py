"""`kvshim status`: who is in the cluster, who leads, and what it survives."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from kvshim.cli.admin_options import data_dir_option, node_at, run_command


def run(arguments: Sequence[str]) -> int:
    return run_command(_status, arguments)


@click.command("status")
@data_dir_option
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table")
def _status(data_dir: Path, output: str) -> None:
    """Show the cluster, as the node that runs here sees it."""
    found = node_at(data_dir).call("status", {})
    if output == "json":
        print(json.dumps(found, indent=2))
    else:
        print("\n".join(_lines(found)))


def _lines(found: Mapping[str, Any]) -> list[str]:
    quorum = found["quorum"]
    leader = next((_name(m) for m in found["members"] if m["leads"]), "")
    lines = [
        f"Cluster {found['cluster_id']}, term {found['term']}, "
        + (f"led by {leader} since {found['leader_since']}" if leader else "without a leader"),
        f"Voters {quorum['voters']}, majority {quorum['majority']}, reached"
        f" {quorum['voters_reached']}: {quorum['failures_tolerated']} may fail",
        f"Applied {found['applied_index']} of {found['commit_index']}, store"
        f" {found['db_bytes'] / (1 << 20):.1f} MiB, in use"
        f" {found['db_bytes_in_use'] / (1 << 20):.1f} MiB",
        f"Wanted: {found['wanted']['voters']} voters, {found['wanted']['standbys']} standbys; all"
        " others are spares",
        *_versions(found),
        *_certificates(found["certificates"]),
        _backup(found["last_backup"]),
        "",
        *_table(found["members"]),
    ]
    return lines + [f"Warning: {text}" for text in (*quorum["warnings"], *found["warnings"])]


def _versions(found: Mapping[str, Any]) -> list[str]:
    """One line while not all members run the same program; a leader may be too old to say."""
    runs_at = found["cluster_version"]
    listed = {_name(m): m.get("program_version") for m in found["members"]}
    known = {version for version in listed.values() if version} | {found["program_version"]}
    if known == {runs_at}:
        return []
    named = ", ".join(f"{name} {version or '?'}" for name, version in sorted(listed.items()))
    return [f"The cluster runs at version {runs_at}; its members' programs can: {named}"]


def _certificates(found: Sequence[Mapping[str, str]]) -> list[str]:
    """One line for the node that was asked; none without TLS."""
    if not found:
        return []
    listed = (f"{each['kind']} until {each['not_after'] or '?'}" for each in found)
    return [f"Certificates of this node: {', '.join(listed)}"]


def _backup(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "No backup of this node is known"
    return (
        f"Last backup {found['taken_at']} at revision {found['revision']},"
        f" by {found['kind']}: {found['path']}"
    )


def _table(members: Sequence[Mapping[str, Any]]) -> list[str]:
    rows = [("MEMBER", "NAME", "ROLE", "REACHED", "LAG", "PEER ADDRESSES")]
    for member in members:
        lag = member["lag_entries"]
        rows.append(
            (
                member["id"],
                member["name"] or "(not started)",
                "leader" if member["leads"] else member["role"],
                "yes" if member["reached"] else "no",
                "-" if member["role"] == "spare" else "?" if lag is None else str(lag),
                ",".join(member["peer_urls"]),
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]


def _name(member: Mapping[str, Any]) -> str:
    return str(member["name"] or member["id"])
