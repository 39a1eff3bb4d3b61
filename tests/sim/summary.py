"""One line at the end of a test run: how much the simulation has seen.

A plugin, not a conftest: with several workers only the controlling process writes the summary.
"""

from __future__ import annotations

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    seeds = files = events = 0
    for reports in terminalreporter.stats.values():
        for report in reports:
            if getattr(report, "when", None) != "call":
                continue
            for name, value in report.user_properties:
                if name == "simulation":
                    count, on_files, seen = value
                    seeds, files, events = seeds + count, files + on_files, events + seen
    if seeds:
        terminalreporter.write_line(
            f"simulation: {seeds} seeds ({files} of them on files), {events:,} events"
        )
