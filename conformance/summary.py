"""A line for each suite at the end of a run: how many checks passed on etcd and on kvshim.

A test is one check on the datastore of the command line, unless a parameter names another, its
suite asks both and compares, or it says by `count` how many checks of which it stands for.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import PurePath

import pytest

from conformance.servers import Kind

COMPARING = frozenset(
    {"descriptors", "differential", "etcdctl", "flags", "flags_at_work", "gateway"}
)
"""Suites whose every test asks etcd and kvshim: what passes, passes on both."""

COLUMNS = (Kind.ETCD, Kind.KVSHIM)
PROPERTY = "checks"

Recorder = Callable[[str, object], None]
Table = Mapping[str, Mapping[Kind, "Counts"]]


@dataclass(frozen=True, slots=True)
class Counts:
    """How many checks ended how."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.passed + other.passed, self.failed + other.failed, self.skipped + other.skipped
        )

    def __str__(self) -> str:
        parts = {"passed": self.passed, "failed": self.failed, "skipped": self.skipped}
        return ", ".join(f"{count} {name}" for name, count in parts.items() if count) or "-"


def count(record_property: Recorder, kind: Kind, counts: Counts) -> None:
    """Say that this test stands for so many checks of this datastore."""
    record_property(PROPERTY, [kind.value, counts.passed, counts.failed, counts.skipped])


def suite_of(nodeid: str) -> str:
    """The folder under `conformance/`, or the name of the file."""
    path = PurePath(nodeid.partition("::")[0])
    inside = path.parts[path.parts.index("conformance") + 1 :]
    return inside[0] if len(inside) > 1 else path.stem.removeprefix("test_")


def counted(reports: Iterable[pytest.TestReport], on_trial: Kind) -> Table:
    """The checks of each suite by datastore."""
    table: dict[str, dict[Kind, Counts]] = defaultdict(lambda: defaultdict(Counts))
    for report in reports:
        if report.when != "call" and report.outcome == "passed":
            continue  # its fixtures worked
        suite = suite_of(report.nodeid)
        for kind, counts in _checks(report, suite, on_trial):
            table[suite][kind] += counts
    return table


def _checks(report: pytest.TestReport, suite: str, on_trial: Kind) -> Iterable[tuple[Kind, Counts]]:
    said = [value for name, value in report.user_properties if name == PROPERTY]
    if said:
        return [(Kind(kind), Counts(*counts)) for kind, *counts in said]
    one = Counts(**{report.outcome: 1})
    if suite in COMPARING:
        return [(kind, one) for kind in COLUMNS]
    parameters = report.nodeid.partition("[")[2].rpartition("]")[0].split("-")
    named = [kind for kind in COLUMNS if kind.value in parameters]
    return [(named[0] if named else on_trial, one)]


def lines(table: Table) -> list[str]:
    """The table as text."""
    rows = [("suite", *(kind.value for kind in COLUMNS))]
    rows += [
        (suite, *(str(table[suite].get(kind, Counts())) for kind in COLUMNS))
        for suite in sorted(table)
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
