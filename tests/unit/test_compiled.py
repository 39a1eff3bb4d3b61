"""What `make wheel` compiles keeps the rules of docs/adr/0020-compiled.md, which mypyc needs.

A coroutine of mypyc has no exception state of its own. What it awaits while it handles an exception
lets others run with that exception as theirs; an `await` in `finally` then raises theirs.
"""

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
WORDS_OF_C = {"_thread", "_const", "_inline", "_signed", "_volatile", "_asm", "_restrict"}
"""mypyc puts an underscore before the names of attributes."""
AWAITS = (ast.Await, ast.AsyncFor, ast.AsyncWith, ast.Yield, ast.YieldFrom)


def compiled() -> Iterator[Path]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    hook = project["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]["mypyc"]
    for pattern in hook["include"]:
        found = sorted(ROOT.glob(pattern))
        assert found, f"{pattern} is nowhere"
        for path in found:
            at = path.relative_to(ROOT).as_posix()
            if path.name != "__init__.py" and at not in hook["exclude"]:
                yield path


def own_classes() -> set[str]:
    trees = (ast.parse(path.read_text()) for path in compiled())
    return {
        node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)
    }


def of_two_types(function: ast.AST, classes: set[str]) -> Iterator[int]:
    """Where a name that an exception has already gets another class of what is compiled."""
    types: dict[str, str] = {}
    for node in ast.walk(function):
        if isinstance(node, ast.ExceptHandler) and node.name and node.type is not None:
            of = ast.unparse(node.type)
            first = types.setdefault(node.name, of)
            if of != first and {of, first} & classes:
                yield node.lineno


def waiting(parts: list[ast.stmt]) -> Iterator[int]:
    for part in parts:
        yield from (node.lineno for node in ast.walk(part) if isinstance(node, AWAITS))


def too_deep(function: ast.AST) -> Iterator[int]:
    """Coroutines in a function that is in `function`."""
    for inner in ast.walk(function):
        if inner is not function and isinstance(inner, FUNCTIONS):
            found = (node for node in ast.walk(inner) if node is not inner)
            yield from (node.lineno for node in found if isinstance(node, ast.AsyncFunctionDef))


def against_the_rules(path: Path, classes: set[str]) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        lines: list[int] = []
        if isinstance(node, ast.AsyncWith) or (
            isinstance(node, ast.Attribute) and node.attr in WORDS_OF_C
        ):
            lines = [node.lineno]
        elif isinstance(node, ast.Try):
            lines = [*waiting(node.finalbody)]
            for handler in node.handlers:
                lines += waiting(handler.body)
        elif isinstance(node, ast.ClassDef) and any(
            ast.unparse(base).endswith(("Error", "Exception")) for base in node.bases
        ):
            fixed = [part for part in node.body if isinstance(part, ast.Assign)]
            lines = [part.lineno for part in fixed]
        elif isinstance(node, FUNCTIONS):
            lines = [*of_two_types(node, classes), *too_deep(node)]
        yield from (f"{path.name}:{line}" for line in lines)


OWN_CLASSES = own_classes()


@pytest.mark.parametrize("path", [*compiled()], ids=lambda path: path.relative_to(ROOT).as_posix())
def test_it_can_be_compiled(path):
    """No await while an exception is handled, no class attribute that overrides an exception's, no
    name for exceptions of two types, no coroutine in a function of a function, no
    attribute whose name is a word of C."""
    assert list(against_the_rules(path, OWN_CLASSES)) == []


def test_the_rules_see_what_breaks_them(tmp_path):
    """Each of these went wrong in a compiled kvshim."""
    for text in (
        "async def f(a):\n    try:\n        await a\n    finally:\n        await a.close()",
        "async def f(a):\n    try:\n        await a\n    except OSError:\n        await a.close()",
        "async def f(a):\n    async with a:\n        pass",
        "def f():\n def g():\n  async def h():\n   pass\n  return h\n return g",
        "def f(self):\n self._thread = 1",
        "class Refused(RequestError):\n    code = 5",
        "def f():\n try:\n  pass\n except A as e:\n  raise\n except B as e:\n  raise",
    ):
        sample = tmp_path / "sample.py"
        sample.write_text(text)
        assert list(against_the_rules(sample, {"B"}))
