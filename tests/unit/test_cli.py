"""The command line as a user meets it: help, exit codes, one sentence for each mistake."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.cli import app
from vzero.presets import load_preset
from vzero.selfplay import Stage

ROOT = Path(__file__).resolve().parents[2]


def harness(*words: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    program = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from harness.cli import app; app(prog_name='vzero-harness')"
    return subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, cwd=cwd, timeout=120
    )


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["reproduce", "--help"],
        ["train", "--help"],
        ["pocket", "build", "--help"],
        ["seeds", "--help"],
        ["table", "--help"],
        ["check", "--help"],
        ["score", "--help"],
    ],
)
def test_help_has_an_example(words: list[str]) -> None:
    result = harness(*words)
    assert result.returncode == 0
    assert "Example: vzero-harness" in result.stdout


def test_help_loads_nothing_heavy() -> None:
    program = (
        "import sys; from harness.cli import app\ntry: app(['--help'])\nexcept SystemExit: pass\n"
        "print([m for m in ('torch', 'transformers', 'pydantic', 'PIL', 'numpy', 'trl', 'lmms_eval') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, timeout=120
    )
    assert result.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["reproduce", "--preset", "pokcet"], "There is no preset 'pokcet'; choose one of"),
        (["reproduce", "--preset", "nowhere.toml"], "Cannot read the preset file nowhere.toml"),
        (["reproduce", "--set", "solver.grpo.lr=1"], "'solver.grpo.lr' is not a setting"),
        (["reproduce", "--set", "seed"], "--set needs key=value"),
        (["reproduce", "--set", "seed.x=1"], "'seed.x' is not a setting"),
        (["reproduce", "--set", "iterations=0"], "iterations: "),
        (["reproduce", "--set", "solver.grpo.micro_batch=7"], "micro_batch must divide"),
        (["reproduce", "--images", "nowhere"], "Cannot read the image folder"),
        (["reproduce", "--images", ""], "Invalid value for '--images': is empty"),
        (["reproduce", "--out", " "], "Invalid value for '--out': is empty"),
        (["pocket", "build", "--out", "/dev/null/base"], "Cannot write into /dev/null/base: Not a directory"),
        (["seeds", "nowhere", "elsewhere"], "nowhere is not a run directory"),
        (["reproduce", "--seed", "one"], "Invalid value for '--seed'"),
        (["reproduce", "--presett", "pocket"], "No such option: --presett"),
        (["repoduce"], "No such command 'repoduce'"),
        (["reproduce", "--out", "/dev/null"], "/dev/null is a file, not a folder"),
        (["reproduce", "--out", "/dev/null/run"], "Cannot create /dev/null/run: Not a directory"),
    ],
)
def test_wrong_use_is_one_sentence_and_exit_2(words: list[str], sentence: str, tmp_path: Path) -> None:
    result = harness(*words, cwd=tmp_path)
    assert result.returncode == 2
    assert result.stdout == ""
    [line] = result.stderr.splitlines()
    assert line.startswith("error: ") and sentence in line
    assert list(tmp_path.iterdir()) == []  # nothing was created


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    for words in ([], ["--fresh"]):
        result = harness("reproduce", "--preset", "smoke", "--out", str(tmp_path), *words)
        assert result.returncode == 2 and "not a run directory" in result.stderr
    assert (tmp_path / "thesis.tex").exists()


def test_shown_presets_can_be_given_back(tmp_path: Path) -> None:
    result = harness(
        "reproduce", "--preset", "smoke", "--seed", "5", "--set", "solver.grpo.learning_rate=2e-6", "--show"
    )
    assert result.returncode == 0
    (tmp_path / "mine.toml").write_text(result.stdout)
    expected = load_preset("smoke", ["seed=5", "solver.grpo.learning_rate=2e-6"])
    assert load_preset(str(tmp_path / "mine.toml")) == expected
    shown = harness("reproduce", "--preset", "smoke", "--show", "--json")
    assert json.loads(shown.stdout)["images"]["count"] == 96


def test_version() -> None:
    assert harness("--version").stdout.startswith("vzero-harness 0.")


def test_no_command_shows_the_help() -> None:
    result = harness()
    assert result.returncode == 2 and "Commands:" in result.stderr


def test_an_image_folder_without_pictures_is_one_sentence(tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    (pictures / "broken.png").write_text("no picture")
    result = harness(
        "reproduce", "--preset", "smoke", "--images", "pictures", "--out", "run", "--plain", cwd=tmp_path
    )
    assert result.returncode == 2
    [line] = result.stderr.splitlines()
    assert "No usable picture in" in line and "(1 skipped)" in line and "00-images.log" in line
    assert "[1/7] 00-images started" in result.stdout


@pytest.mark.parametrize("preset", ["pocket", "smoke"])
def test_a_training_needs_no_stage_that_it_leaves_out(
    preset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The probe reads the last evaluation, which `train` does not run."""
    taken: list[Stage] = []
    monkeypatch.setattr(
        "harness.runs.orchestrate.run_plan", lambda run, preset, stages, display: taken.extend(stages)
    )
    assert (
        CliRunner()
        .invoke(app, ["train", "--preset", preset, "--out", str(tmp_path / "run"), "--plain"])
        .exit_code
        == 0
    )
    names = {one.name for one in taken} | {"base"}
    assert all(source in names for one in taken for source in one.inputs.values())
    assert [one.kind for one in taken].count("train-solver") == load_preset(preset).iterations
