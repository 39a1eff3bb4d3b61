"""`kvshim version` and `kvshim --version`: what this is, and which etcd it speaks like."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib.metadata import version

from kvshim.version import ETCD_VERSION, KVSHIM_VERSION
from raft.core import log as compiled_room


def run(_: Sequence[str]) -> int:
    print(f"kvshim Version: {KVSHIM_VERSION}")
    print(f"etcd API Version: {ETCD_VERSION}")
    print(f"Python Version: {platform.python_version()}")
    print(f"Compiled: {'no' if str(compiled_room.__file__).endswith('.py') else 'yes'}")
    print(f"apsw (SQLite) Version: {version('apsw')}")
    print(f"OS/Arch: {platform.system().lower()}/{platform.machine()}")
    return 0
