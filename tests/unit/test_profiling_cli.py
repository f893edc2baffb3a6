"""`vzero-harness profile` as a user meets it: help, wrong use, what it writes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.warm import Warm

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]


def harness(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "from harness.cli import app\ntry: app(prog_name='vzero-harness')\n"
        "finally: assert 'torch' not in sys.modules"  # nothing heavy is imported to refuse
    )
    return subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, cwd=cwd, timeout=300
    )


def test_help_has_an_example_and_loads_nothing_heavy(tmp_path: Path) -> None:
    result = harness("profile", "--help", cwd=tmp_path)
    assert result.returncode == 0 and "Example: vzero-harness profile all" in result.stdout
    program = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r}); from harness.cli import app\n"
        "try: app(['profile', '--help'])\nexcept SystemExit: pass\n"
        "print([m for m in ('torch', 'transformers', 'PIL', 'numpy', 'trl') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=tmp_path, timeout=120
    )
    assert result.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["sleep"], "'sleep' is not one of"),
        ([], "Missing argument 'target'"),
        (["votes", "--preset", "pokcet"], "There is no preset 'pokcet'"),
        (["votes", "--against", "verl"], "'verl' is not"),
        (["votes", "--repetitions", "0"], "Invalid value for '--repetitions'"),
        (["votes", "--prompts", "1"], "Invalid value for '--prompts'"),
        (["votes", "--set", "engine.name=vllm"], "A profile measures the transformers engine"),
        (["votes", "--trace"], "--trace writes a file; say where with --out FOLDER."),
        (["votes", "--out", "/dev/null"], "/dev/null is a file, not a folder"),
        (["votes", "--out", "/dev/null/x"], "Cannot create /dev/null/x"),
        (["votes", "--images", "nowhere"], "Cannot read the image folder"),
        (["votes", "--set", "model=nowhere"], "There is no model folder 'nowhere'"),
    ],
)
def test_wrong_use_is_one_sentence_and_exit_2(words: list[str], sentence: str, tmp_path: Path) -> None:
    result = harness("profile", *words, cwd=tmp_path)
    assert result.returncode == 2 and result.stdout == ""
    last = result.stderr.splitlines()[-1]
    assert last.startswith("error: ") and sentence in last
    assert "Traceback" not in result.stderr


def test_json_and_files_are_the_same_profile(warm: Warm, tmp_path: Path) -> None:
    words = [
        "rollout",
        "--preset",
        "smoke",
        "--prompts",
        "2",
        "--repetitions",
        "1",
        "--set",
        "engine.threads=1",
        "--out",
        "out",
        "--json",
    ]
    result = warm.run("-m", "harness", "profile", *words, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    profile = json.loads(result.stdout)
    assert json.loads((tmp_path / "out" / "profile.json").read_text()) == profile
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "profile.html",
        "profile.json",
        "profile.md",
    ]
    [row] = profile["phases"]
    assert (row["phase"], row["encoder_passes_per_picture"], row["pictures"]) == ("rollout", 1, 2)
    assert profile["provenance"]["packages"]["torch"]
