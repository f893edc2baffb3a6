"""The command line as a user meets it: help, exit codes, one sentence for each mistake."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from harness.cli import COMMANDS, app
from vzero.presets import load_preset
from vzero.selfplay import Stage

ROOT = Path(__file__).resolve().parents[2]


def harness(*words: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "harness", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, env=environment, timeout=120)


def test_the_help_of_every_command_has_an_example() -> None:
    words = [[], *([name] for name in COMMANDS if name != "pocket"), ["pocket", "build"]]
    assert len(words) > 12
    for one in words:
        shown = CliRunner().invoke(app, [*one, "--help"])
        assert shown.exit_code == 0 and "Example: vzero-harness" in shown.stdout, one
    listed = " ".join(CliRunner().invoke(app, ["--help"]).stdout.split())
    for name, sentence in COMMANDS.items():
        shown = CliRunner().invoke(app, [name, "--help"]).stdout
        assert sentence in " ".join(shown.split()) and f"{name} {sentence}" in listed, name


def test_help_loads_nothing_heavy() -> None:
    program = (
        "import sys; from harness.cli import app\ntry: app(['--help'])\nexcept SystemExit: pass\n"
        "heavy = ('torch', 'transformers', 'pydantic', 'PIL', 'numpy', 'trl', 'lmms_eval')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, timeout=120
    )
    assert result.stdout.splitlines()[-1] == "[]"


@pytest.mark.slow
@pytest.mark.parametrize("words", [["reproduce"], ["train"], ["reproduce", "--seeds", "2"]])
def test_the_first_line_of_a_run_waits_for_nothing_heavy(words: list[str], tmp_path: Path) -> None:
    """What results and reports need is imported after it; the program stops at the first line."""
    program = (
        "import sys\nfrom harness.cli import app\n"
        "heavy = ('torch', 'transformers', 'scipy', 'httpx', 'datasets', 'pandas')\n"
        "class FirstLine:\n"
        "    def write(self, text):\n"
        "        found = [name for name in heavy if name in sys.modules]\n"
        "        print(repr(text), found, file=sys.__stdout__, flush=True)\n"
        "        import os; os._exit(0)\n"
        "    def flush(self): pass\n"
        "    def isatty(self): return False\n"
        "sys.stdout = FirstLine()\n"
        f"app({[*words, '--preset', 'smoke', '--plain', '--out', str(tmp_path / 'run')]!r})"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, timeout=120
    )
    assert found.stdout.rstrip().endswith(" []"), (found.stdout, found.stderr)


@pytest.mark.parametrize("words", [["reproduce"], ["train"], ["reproduce", "--arms", "v-zero"]])
def test_a_reward_in_python_that_a_presets_file_brings_asks_first(words: list[str], tmp_path: Path) -> None:
    mark, file, out = tmp_path / "ran", tmp_path / "kind.toml", tmp_path / "run"
    text = CliRunner().invoke(app, ["reproduce", "--preset", "smoke", "--show"]).stdout
    source = f"open({str(mark)!r}, 'w')\ndef reward(asked): return 0.0"
    inner = f'reward = "own"\nreward_source = {json.dumps(source)}'
    file.write_text(text.replace('reward = "dual_track"', inner))
    for more, sentence in (
        ([], "brings a program, 2 lines of Python in questioner.reward_source"),
        (["--trust-code", "--set", "images.source=/nowhere"], "Cannot read the image folder /nowhere"),
        (["--set", f"questioner.reward_source={source}", "--out", "/dev/null"], "is a file, not a folder"),
    ):
        command = [*words, "--preset", str(file), "--out", str(out), *more]
        found = CliRunner().invoke(app, command)
        assert found.exit_code == 2 and sentence in " ".join(found.stderr.split()), (more, found.stderr)
    assert not out.exists() and not mark.exists()
    choice = f'labels = "own"\nselection_source = {json.dumps("def label(one): return None")}'
    file.write_text(text.replace('labels = "majority"', choice))
    found = CliRunner().invoke(app, [*words, "--preset", str(file), "--out", str(out)])
    assert found.exit_code == 2 and "Python in solver.selection_source" in " ".join(found.stderr.split())
    assert CliRunner().invoke(app, ["reproduce", "--preset", str(file), "--show"]).exit_code == 0


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["reproduc"], "No such command 'reproduc'. Did you mean 'reproduce'?"),
        (["reproduce", "--preset", "pokcet"], "There is no preset 'pokcet'; choose one of"),
        (["reproduce", "--preset", "nowhere.toml"], "Cannot read the preset file nowhere.toml"),
        (["reproduce", "--set", "solver.grpo.lr=1"], "'solver.grpo.lr' is not a setting"),
        (["reproduce", "--set", "seed"], "--set needs key=value"),
        (["train", "--set", "launch.nodes=2", "--set", "launch.strategy=ddp"], "without a cluster"),
        (["reproduce", "--arms", "controls", "--watch"], "--watch shows one run"),
        (["reproduce", "--set", "seed.x=1"], "'seed.x' is not a setting"),
        (["reproduce", "--set", "iterations=0"], "iterations: "),
        (["reproduce", "--set", "solver.grpo.micro_batch=7"], "micro_batch must divide"),
        (["reproduce", "--images", "nowhere"], "Cannot read the image folder"),
        (["reproduce", "--images", ""], "Invalid value for '--images': is empty"),
        (["reproduce", "--out", " "], "Invalid value for '--out': is empty"),
        (["pocket", "build", "--out", "/dev/null/base"], "Cannot write into /dev/null/base: Not a directory"),
        (["table", "nowhere"], "nowhere has no results.json"),
        (["pocket", "build", "--scale", "inf"], "Invalid value for '--scale'"),
        (["pocket", "build", "--scale", "nan"], "Invalid value for '--scale'"),
        (["plan", "--gpu-memory", "inf"], "Invalid value for '--gpu-memory'"),
        (
            ["evaluate", "pocket", "--samples", "1", "--temperature", "inf"],
            "temperature: Input should be a finite",
        ),
        (
            ["evaluate", "pocket", "--samples", "1", "--temperature", "1e-300"],
            "temperature: logits cannot be divided",
        ),
        (["evaluate", "pocket", "--samples", "1", "--top-p", "0"], "top_p: Input should be greater than 0"),
        (["evaluate", "pocket", "--samples", "1", "--top-p", "nan"], "Invalid value for '--top-p'"),
        (["evaluate", "pocket", "--samples", f"{10**30}"], "n: Input should be less than or equal to 100000"),
        (
            ["evaluate", "pocket", "--max-new-tokens", f"{10**30}"],
            "max_new_tokens: Input should be less than",
        ),
        (
            ["evaluate", "pocket", "--batch", f"{10**30}"],
            "batch_sequences: Input should be less than or equal",
        ),
        (["reproduce", "--set", f"images.count={10**30}"], "images.count: no machine can hold that many"),
        (["evaluate", "pocket", "--thought-tokens", "5"], "--thought-tokens is for --thinking"),
        (["reproduce", "--set", "evaluation.sampled.temperature=inf"], "temperature: Input should be a fin"),
        (["reproduce", "--seed", "one"], "Invalid value for '--seed'"),
        (["reproduce", "--presett", "pocket"], "No such option: --presett"),
        (["repoduce"], "No such command 'repoduce'"),
        (["reproduce", "--out", "/dev/null"], "/dev/null is a file, not a folder"),
        (["reproduce", "--out", "/dev/null/run"], "Cannot create /dev/null/run: Not a directory"),
    ],
)
def test_wrong_use_is_one_sentence_and_exit_2(
    words: list[str],
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        app(words, prog_name="vzero-harness")
    assert stop.value.code == 2
    out, err = capsys.readouterr()
    assert out == ""
    [line] = err.splitlines()
    assert line.startswith("error: ") and sentence in line
    assert list(tmp_path.iterdir()) == []  # nothing was created


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["table", "no\x1bwhere", "--json"], "no\x1bwhere has no results.json"),
        (["check", "nowhere", "--format", "json"], "nowhere is not a run directory"),
        (["check", "nowhere", "--format=json"], "nowhere is not a run directory"),
        (["reproduce", "--json", "--seed", "one"], "Invalid value for '--seed'"),
        (["repoduce", "--json"], "No such command 'repoduce'"),
    ],
)
def test_with_json_an_error_is_json_on_stderr(
    words: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stop:
        app(words, prog_name="vzero-harness")
    out, err = capsys.readouterr()
    [line] = err.splitlines()
    found = json.loads(line)
    assert set(found) == {"error", "exit_code"} and found["exit_code"] == stop.value.code == 2
    assert out == "" and found["error"].startswith(said) and line.isascii() and "\x1b" not in line


@pytest.mark.slow
def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    for words in ([], ["--fresh"]):
        result = harness("reproduce", "--preset", "smoke", "--out", str(tmp_path), *words)
        assert result.returncode == 2 and "not a run directory" in result.stderr
    assert (tmp_path / "thesis.tex").exists()


@pytest.mark.slow
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


@pytest.mark.slow
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
        "harness.runs.orchestrate.run_plan",
        lambda run, preset, stages, *_: taken.extend(stages),
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
