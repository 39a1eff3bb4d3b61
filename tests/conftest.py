"""Options that every suite below shares: which datastore the black-box stories talk to."""

import os

import hypothesis
import pytest

from kvshim.config import TransportKind
from tests.sim.summary import pytest_terminal_summary
from tests.support.datastore import Kind

__all__ = ["pytest_terminal_summary"]

# An example has no deadline of its own: on a busy machine the clock says nothing about the code.
hypothesis.settings.register_profile("kvshim", deadline=None)
hypothesis.settings.load_profile("kvshim")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--datastore",
        choices=[kind.value for kind in Kind],
        default=Kind.KVSHIM.value,
        help="the program the API stories run against; etcd shows that a story itself is right",
    )
    parser.addoption(
        "--transport",
        choices=[kind.value for kind in TransportKind],
        help="the transport that kvshim serves the API stories with, if not its default",
    )
    parser.addoption(
        "--record-golden",
        action="store_true",
        help="write what the datastore answers into the golden files; only with etcd",
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--transport"):
        # The servers that tests start inherit it.
        os.environ["KVSHIM_TRANSPORT"] = config.getoption("--transport")
    config.addinivalue_line("markers", "kvshim_only: what etcd answers otherwise, or not at all")
