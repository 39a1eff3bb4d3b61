"""The rooms keep their order: nothing imports upwards, and each library has one room."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Top to bottom; a room imports rooms below it, and its own.
ROOMS = [
    {"kvshim.cli"},
    {"kvshim.node"},
    {"kvshim.http"},
    {"kvshim.gateway"},
    {"kvshim.transport"},
    {"kvshim.api"},
    {"kvshim.server"},
    {"kvshim.exchange"},
    {"kvshim.apply", "kvshim.watch"},
    {"kvshim.mvcc"},
    {"kvshim.backend", "kvshim.pki", "kvshim.auth", "kvshim.bbolt"},
]
# What every room may import.
SHARED = {
    "kvshim.types",
    "kvshim.errors",
    "kvshim.lazy",
    "kvshim.rpc",
    "kvshim.pb",
    "kvshim.config",
    "kvshim.logs",
    "kvshim.logrotate",
    "kvshim.metrics",
    "kvshim.version",
    "kvshim",
}
# Libraries that one place alone may import, so that it can be replaced or reasoned about.
ONLY_IN = {
    "apsw": ("kvshim.backend", "raft"),
    "bcrypt": ("kvshim.auth",),
    "grpc": ("kvshim.transport",),
    "h11": ("kvshim.http",),
    "hpack": ("kvshim.transport",),
    "prometheus_client": ("kvshim.metrics",),
    "structlog": ("kvshim.logs",),
    "yaml": ("kvshim.config",),
    "cryptography": ("kvshim.pki", "kvshim.transport", "kvshim.auth"),
    "jwt": ("kvshim.auth",),
    "click": ("kvshim.cli",),
    "rich": ("kvshim.cli",),
}


def modules() -> list[tuple[str, Path]]:
    found = []
    for package in ("kvshim", "raft"):
        for path in sorted((ROOT / package).rglob("*.py")):
            if "pb" in path.relative_to(ROOT).parts:
                continue
            parts = path.relative_to(ROOT).with_suffix("").parts
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found.append((name, path))
    return found


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            assert node.module is not None
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def lies_in(module: str, room: str) -> bool:
    return module == room or module.startswith(room + ".")


def level_of(module: str) -> int | None:
    for level, rooms in enumerate(ROOMS):
        if any(lies_in(module, room) for room in rooms):
            return level
    return None


@pytest.mark.parametrize(("name", "path"), modules(), ids=str)
def test_a_room_imports_only_what_lies_below_it(name: str, path: Path):
    level = level_of(name)
    for imported in imports(path):
        if imported.split(".")[0] == "kvshim":
            assert not name.startswith("raft"), f"raft must not know kvshim: {imported}"
            target = level_of(imported)
            if target is None:
                shared = any(lies_in(imported, room) for room in SHARED)
                assert shared, f"{imported} belongs to no room"
                continue
            assert level is not None, f"{name} is shared, so it must not import {imported}"
            same_room = name.split(".")[:2] == imported.split(".")[:2]
            assert same_room or target > level, f"{name} imports upwards: {imported}"


@pytest.mark.parametrize(("name", "path"), modules(), ids=str)
def test_a_library_is_imported_by_its_own_room_only(name: str, path: Path):
    for imported in imports(path):
        rooms = ONLY_IN.get(imported.split(".")[0])
        if rooms is not None:
            assert any(lies_in(name, room) for room in rooms), f"{name} must not use {imported}"


def test_every_module_belongs_to_a_room():
    homeless = [
        name
        for name, _ in modules()
        if name.startswith("kvshim")
        and level_of(name) is None
        and not any(lies_in(name, room) for room in SHARED)
    ]
    assert homeless == []


def test_the_map_in_the_architecture_page_is_the_folders_as_they_are():
    page = (ROOT / "docs" / "ARCHITECTURE.md").read_text()
    drawn = set(re.findall(r"^\s*([a-z0-9_/]+/)\s", page.split("```")[1], re.MULTILINE))
    real = {
        str(path.relative_to(ROOT)) + "/"
        for package in ("kvshim", "raft", "protos", "conformance", "bench")
        for path in [ROOT / package, *(ROOT / package).glob("*/")]
        if path.is_dir() and path.name not in ("__pycache__",)
    }
    assert drawn == real
