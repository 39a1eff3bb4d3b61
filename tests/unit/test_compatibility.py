"""docs/COMPATIBILITY.md is what the code says now, and every test that it names exists."""

import ast
import functools
from pathlib import Path

import pytest

from kvshim.config.flag import Disposition
from kvshim.config.tables import ETCD_FLAGS
from scripts import compatibility

ROOT = Path(__file__).resolve().parents[2]
CLAIMS = list(compatibility.shown_by())


def test_the_page_is_up_to_date():
    page = compatibility.PAGE.read_text(encoding="utf-8")
    assert page == compatibility.rendered(), "run: make compatibility"


@pytest.mark.parametrize(("claim", "node"), CLAIMS, ids=[claim for claim, _ in CLAIMS])
def test_what_shows_it_exists(claim: str, node: str):
    file, _, name = node.partition("::")
    assert (ROOT / file).exists(), f"{claim}: there is no {file}"
    assert not name or name in names_in(ROOT / file), f"{claim}: {file} has no {name}"


@functools.cache
def names_in(file: Path) -> set[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in ast.walk(tree) if isinstance(node, kinds)}


def test_every_rpc_has_an_entry_and_no_entry_is_invented():
    known = compatibility.data()["rpc"]
    by_name = {rpc.name: rpc for rpc in compatibility.rpcs()}
    assert known.keys() == by_name.keys()
    for name, entry in known.items():
        assert set(entry.get("options", {})) <= set(by_name[name].options), name


def test_every_rpc_is_served():
    assert {rpc.path for rpc in compatibility.rpcs()} <= compatibility.served()


def test_every_flag_that_is_obeyed_has_an_entry():
    obeyed = {flag.name for flag in ETCD_FLAGS if flag.disposition is Disposition.OBEYED}
    assert compatibility.data()["flags"].keys() == obeyed
