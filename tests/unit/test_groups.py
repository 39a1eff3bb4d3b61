"""Tests of one group run in one worker: servers that a file shares start once, clusters take turns.

A pytest that its plugin for workers does not know may ignore groups without a word.
"""

from __future__ import annotations

import pytest


@pytest.mark.xdist_group("one")
def test_workers_know_groups(request: pytest.FixtureRequest, worker_id: str):
    if worker_id == "master":
        pytest.skip("no workers")
    if not request.config.getoption("loadgroup"):
        pytest.skip("workers take single tests")
    assert request.node.nodeid.endswith("@one")
