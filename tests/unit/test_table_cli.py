"""`table` and `check` as commands: formats, files, exit codes, and nothing heavy loaded."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.cli import app

ROOT = Path(__file__).resolve().parents[2]
HEAVY = ("torch", "transformers", "trl", "lmms_eval", "statsmodels", "scipy.stats")
POCKET = str(ROOT / "results" / "pocket" / "arms" / "v-zero")


def harness(*words: str) -> subprocess.CompletedProcess[str]:
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\nfrom harness.cli import app\n"
        "try: app(prog_name='vzero-harness')\n"
        f"finally: print([m for m in {HEAVY} if m in sys.modules], file=sys.stderr)"
    )
    return subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, cwd=ROOT, timeout=120
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "start"),
    [("md", "## Arms by suite"), ("csv", "kind,row,arm"), ("latex", "\\begin{table}"), ("html", "<!doctype")],
)
def test_each_format_goes_to_stdout_or_a_file(name: str, start: str, tmp_path: Path) -> None:
    shown = CliRunner().invoke(app, ["table", POCKET, "--format", name])
    assert shown.exit_code == 0 and shown.stdout.lstrip().startswith(start) and shown.stderr == ""
    words = ["table", POCKET, "--format", name, "--out", str(tmp_path / "table")]
    written = CliRunner().invoke(app, words)
    assert written.exit_code == 0 and written.stdout == ""
    assert (tmp_path / "table").read_text(encoding="utf-8").replace("\r\n", "\n") == shown.stdout.replace(
        "\r\n", "\n"
    )


@pytest.mark.slow
def test_a_page_of_its_own_loads_no_model() -> None:
    """HTML draws the most of all formats: tables, charts and curves."""
    shown = harness("table", POCKET, "--format", "html")
    assert shown.returncode == 0 and shown.stdout.startswith("<!doctype") and shown.stderr.strip() == "[]"


def test_the_terminal_shows_every_suite_and_the_losses() -> None:
    shown = CliRunner().invoke(app, ["table", POCKET])
    assert shown.exit_code == 0
    for words in (
        "pocket_math",
        "pocket_logic",
        "pocket_vision",
        "average",
        "loses on pocket_logic",
        "5 seeds",
    ):
        assert words in shown.stdout


def test_json_is_the_whole_object() -> None:
    found = json.loads(CliRunner().invoke(app, ["table", POCKET, "--json"]).stdout)
    assert [row["name"] for row in found["rows"]] == ["base", "v-zero S1", "v-zero S2"] and len(
        found["claims"]
    ) > 10


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"format": 3}, "is of format 3, this version reads 2"),
        ({}, "None of these runs has a finished suite"),
        ({"gains": []}, "is not the results of a run (gains: "),
        ({"images": 3}, "is not the results of a run (images: "),
        ({"training": {"x": {"steps": "many"}}}, "is not the results of a run (training.x."),
        ({"metrics": [1]}, "is not the results of a run (metrics.0: "),
        ({"format": "x"}, "is not the results of a run (format: "),
        ({"surprise": 1}, "is not the results of a run (surprise: "),
    ],
)
def test_results_of_another_shape_are_one_sentence(
    changes: dict[str, object], sentence: str, tmp_path: Path
) -> None:
    stated = {
        "format": 2,
        "preset": "p",
        "arm": "v-zero",
        "seed": 0,
        "split": "test",
        "model": "m",
        "samples": 1,
    }
    stated |= {"suites": {}, "items": {}, "models": ["base"], "metrics": ["greedy"], **changes}
    (tmp_path / "results.json").write_text(json.dumps(stated), encoding="utf-8")
    shown = CliRunner().invoke(app, ["table", str(tmp_path)])
    assert shown.exit_code == 2 and sentence in shown.stderr


def test_the_schema_of_results_is_current() -> None:
    from harness.analysis import results

    stored = json.loads(results.SCHEMA.read_text(encoding="utf-8"))
    assert stored == results.schema(), results.write_schema.__doc__


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["reproduce", "--arms", ""], "--arms names no arm"),
        (["table"], "Missing argument 'RUN...'"),
        (["table", "nowhere"], "nowhere has no results.json"),
        (["table", POCKET, "--against", "nobody"], "There is no 'nobody' to compare with"),
        (["table", POCKET, "--against", POCKET], "The only run is the one to compare with"),
        (["table", POCKET, "--metric", "luck"], "choose --metric from greedy"),
        (["table", POCKET, "--out", "x.txt"], "The format rich is for the terminal"),
        (["table", POCKET, "--format", "md", "--out", "/dev/null/x"], "Cannot write /dev/null/x"),
        (["table", POCKET, "--format", "pdf"], "Invalid value for '--format'"),
        (["check", "nowhere", "--no-reference"], "nowhere is not a run directory"),
        (["check", "nowhere", "--reference", "nothing.json"], "There is no reference nothing.json"),
    ],
)
def test_wrong_use_is_one_sentence_and_exit_2(
    words: list[str], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2 and result.stdout == ""
    assert sentence in result.stderr.splitlines()[0] and list(tmp_path.iterdir()) == []
