"""Libraries that a node seldom needs, loaded when something of them is first used.

A module names them twice, for the type checker and for the running program:

    if TYPE_CHECKING:
        from cryptography import x509
    else:
        x509 = Lazily("cryptography.x509")

What a node that serves keys in the clear must never load: `tests/node/test_idle.py`.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module


class Lazily:
    """Stands for a module. Any thread."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> object:
        return getattr(import_module(self._name), attribute)


@contextmanager
def without(name: str) -> Iterator[None]:
    """Let what is imported meanwhile do without a library that it loads where it finds it."""
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment] # so an import fails, by Python's rules
    try:
        yield
    finally:
        del sys.modules[name]
