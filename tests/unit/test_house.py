"""The sizes that CONTRIBUTING promises. The layers are held by import-linter (`make lint`), not here."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PRODUCT = ("vzero", "harness", "benchmarks", "tools")
FILES = sorted(path for room in PRODUCT for path in (ROOT / room).rglob("*.py"))


def functions(path: Path) -> Iterator[tuple[str, int]]:
    """Name and number of lines, decorators and docstring included, of every function in a file."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = min([node.lineno, *(one.lineno for one in node.decorator_list)])
            assert node.end_lineno is not None
            yield node.name, node.end_lineno - first + 1


def test_no_function_has_more_than_sixty_lines() -> None:
    long = [(path.name, name, lines) for path in FILES for name, lines in functions(path) if lines > 60]
    assert FILES and long == []


def test_no_file_outgrows_one_idea() -> None:
    assert [path.name for path in FILES if len(path.read_text("utf-8").splitlines()) > 310] == []


def test_harness_holds_the_program_and_rooms() -> None:
    assert {path.name for path in (ROOT / "harness").glob("*.py")} == {"__init__.py", "__main__.py", "cli.py"}


@pytest.mark.parametrize("room", ["harness"])
def test_untyped_dictionaries_stay_few(room: str) -> None:
    count = sum(path.read_text("utf-8").count("dict[str, Any]") for path in FILES if room in path.parts)
    assert count <= 60
