"""The notebook, run cell by cell as Jupyter does, on the smallest runs that train and evaluate."""

from __future__ import annotations

import ast
import html
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.analysis.results import read_results
from tests import small_grid
from vzero.runtime import artefacts

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOK = ROOT / "notebooks" / "quickstart.ipynb"
FEW = ("images.count=12", "questioner.votes.n=2", "solver.votes.n=2")
SETTINGS = (*small_grid.SETTINGS, *small_grid.BATCHES, *FEW)


def cells() -> list[dict[str, Any]]:
    return json.loads(NOTEBOOK.read_text("utf-8"))["cells"]


def run(source: str, names: dict[str, Any]) -> object:
    """Execute a cell; the value of its last line where that is an expression, as Jupyter shows it."""
    tree = ast.parse(source)
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, str(NOTEBOOK), "exec"), names)
    if last is None:
        return None
    return eval(compile(ast.Expression(last.value), str(NOTEBOOK), "eval"), names)


def test_it_holds_no_output_and_opens_with_what_it_answers() -> None:
    found = cells()
    assert found[0]["source"][0].startswith("# Does") and len({one["id"] for one in found}) == len(found)
    code = [one for one in found if one["cell_type"] == "code"]
    assert code and all(one["outputs"] == [] and one["execution_count"] is None for one in code)
    for path in re.findall(r"`((?:docs|notebooks)/[\w./]+)`", json.dumps(found)):
        assert (ROOT / path).exists(), path


def test_every_cell_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("VZERO_NOTEBOOK", " ".join(f"--set {setting}" for setting in SETTINGS))
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
    names: dict[str, Any] = {"__name__": "__main__"}
    shown = [run("".join(one["source"]), names) for one in cells() if one["cell_type"] == "code"]
    arms = tmp_path / "runs" / "quickstart" / "arms"
    found = {name: read_results(arms / name / "seed-0" / "results.json") for name in ("v-zero", "doubt")}
    assert all(one.complete and one.models == ["base", "S1"] for one in found.values())
    record = artefacts.read_json(arms / "doubt" / "seed-0" / "run.json")
    assert "uncertainty(one.votes)" in record["preset"]["questioner"]["reward_source"]
    table, curves = (html.unescape(one._repr_html_()) for one in shown if hasattr(one, "_repr_html_"))
    assert "doubt" in table and "pocket_math" in table and "<svg" not in table
    for curve in ("questioner 1, reward", "solver 1, KL"):
        assert all(f"{arm}: {curve}" in curves for arm in found)
    assert curves.count("<svg") == curves.count("<figure>") >= 8
    assert "doubt" in capsys.readouterr().out
