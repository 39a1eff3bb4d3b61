"""The flag that writes the golden scripts anew."""

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--rewrite-golden",
        action="store_true",
        help="write what the core does into the golden scripts; review the diff",
    )
