"""The end of a run and of a grid in the terminal, of real results: what a user reads last."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import pytest
from rich.cells import cell_len
from rich.console import Console

from harness.analysis.results import read_results, write_results
from harness.report import ending, grid_end, print_summary
from harness.runs.grid import GridEntry, GridIndex

ARMS = Path(__file__).resolve().parents[2] / "results" / "pocket" / "arms"


def end_of(run: Path, width: int = 80) -> list[str]:
    """Lines on a terminal."""
    stream = io.StringIO()
    print_summary(run, Console(file=stream, width=width, force_terminal=True, color_system=None))
    return stream.getvalue().splitlines()


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("arm", ["v-zero", "zero-sum", "one-iteration"])
def test_a_run_ends_in_fifteen_lines_that_do_not_wrap(
    arm: str, width: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "runs" / "pocket"
    run.mkdir(parents=True)
    shutil.copy(ARMS / arm / "seed-0" / "results.json", run)
    lines = end_of(run, width)
    assert len(lines) <= 15 and all(cell_len(line) < width for line in lines)
    assert (
        "Report    runs/pocket/report.html" in lines and "Next      vzero-harness open runs/pocket" in lines
    )
    results = read_results(run / "results.json")
    text = " ".join(line.strip() for line in lines)
    gain = results.gains[results.models[-1]]["average"]["greedy"]
    assert f"greedy +{100 * gain.gain:.1f} (" in text.replace("\u2212", "+").replace("-", "+")
    assert (f"{len(results.alarms)} fired" in text) is bool(results.alarms)
    if arm == "v-zero":  # the only claim that a single arm can measure
        assert "TOY: \u201cV-Zero beats the base model\u201d holds in the toy world" in text


def test_a_preset_that_is_no_evidence_has_no_verdict_and_a_broken_off_run_says_what_is_missing(
    tmp_path: Path,
) -> None:
    results = read_results(ARMS / "v-zero" / "seed-0" / "results.json")
    small = results.model_copy(
        update={"evidence": False, "missing": {"12-probe-2": "not started"}, "warnings": ["one"]}
    )
    write_results(tmp_path / "results.json", small)
    lines = end_of(tmp_path)
    text = " ".join(line.strip() for line in lines)
    assert "Verdict   none: " in text and "TOY" not in text and "not judged" in text
    assert any(line.startswith("Missing   12-probe-2") for line in lines)
    assert any(line.startswith("Warnings  1, ") for line in lines)


@pytest.mark.slow
def test_a_grid_ends_with_an_arm_a_line_its_page_and_what_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder, names = tmp_path / "grid", ("v-zero", "zero-sum", "capped-mismatch-step-matched")
    for arm in names:
        for seed in range(3):
            (folder / arm / f"seed-{seed}").mkdir(parents=True)
            shutil.copy(ARMS / arm / f"seed-{seed}" / "results.json", folder / arm / f"seed-{seed}")
    bad = GridEntry(arm="visplay", category="paper", seed=0, state="failed", reason="no such picture")
    comparison = grid_end.finish(folder)
    assert comparison is not None
    stream = io.StringIO()
    console = Console(file=stream, width=80, force_terminal=True, color_system=None)
    grid_end.show(
        comparison, GridIndex(preset="pocket", runs={"visplay/seed-0": bad}), folder, console, False
    )
    lines = stream.getvalue().splitlines()
    assert all(cell_len(line) < 80 for line in lines)
    of_arms = [line.split()[0] for line in lines if " (" in line and not line.startswith(("Best", " "))]
    assert of_arms[0] == "base" and sorted(of_arms[1:]) == sorted(names)  # a line each
    results = [read_results(folder / "zero-sum" / f"seed-{seed}" / "results.json") for seed in range(3)]
    last = [one.average[one.models[-1]]["greedy"].value for one in results]
    [line] = [line for line in lines if line.startswith("zero-sum ")]
    assert f"{100 * sum(last) / 3:.1f} (" in line
    [best] = [line for line in lines if line.startswith("Best ")]  # of these three it gains most
    assert ": zero-sum, +" in best
    assert "Failed    visplay/seed-0: no such picture" in lines
    assert "Page      grid/arms.html" in lines and (folder / "arms.html").stat().st_size > 1000
    assert "Next      vzero-harness open grid" in lines


def test_a_line_of_a_grid_has_the_gain_without_its_intervals() -> None:
    results = read_results(ARMS / "v-zero" / "seed-0" / "results.json")
    gains = results.gains["S2"]["average"]
    greedy, sampled = (f"{100 * gains[one].gain:+.1f}" for one in ("greedy", "sampled"))
    assert ending.brief(results) == f"greedy {greedy}, T = 1 {sampled}".replace("-", "\u2212")
    assert ending.brief(results.model_copy(update={"gains": {}})) == "none"


def test_a_grid_without_a_finished_run_has_no_page(tmp_path: Path) -> None:
    assert grid_end.finish(tmp_path) is None and not list(tmp_path.iterdir())
