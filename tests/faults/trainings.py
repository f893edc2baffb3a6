"""Trainings in several processes: a run made ready for one of its stages, and what must be equal to one
process's."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from safetensors.torch import load_file

from tests.fixtures.stage_rows import ROWS
from vzero.config import Preset
from vzero.presets import load_preset
from vzero.runtime import artefacts
from vzero.runtime.stage import run_stage, spec_of, stage_folder
from vzero.selfplay import plan
from vzero.stages import PROGRAMS

ROOT = Path(__file__).resolve().parents[2]
IMAGES, QUESTIONER, WRITTEN, LABELS, SOLVER = (
    "00-images",
    "02-train-questioner-1",
    "03-write-questions-1",
    "04-label-1",
    "05-train-solver-1",
)
SMALL = [
    "images.count=20",
    "engine.threads=1",
    "questioner.votes.n=4",
    *(
        f"{role}.grpo.{word}"
        for role in ("questioner", "solver")
        for word in ("prompts_per_generation=8", "prompts_per_step=4")
    ),
    *(f"{role}.grpo.max_generations=2" for role in ("questioner", "solver")),
    "questioner.grpo.micro_batch=4",
    "solver.grpo.micro_batch=10",
]
TWO = [*SMALL, "launch.processes=2"]
# Arguments: the run's folder, and names of stages, none of which begins while FOLDER.hold-NAME is there.
ONE_STAGE = f"""
import sys, time
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from rich.console import Console
from harness.cli import explain
from harness.runs.directory import opened
from harness.runs.display import Display, Plan
from harness.runs.forecast import Forecast
from harness.runs.orchestrate import run_plan
from harness.runs.signals import interruptible
from vzero.selfplay import plan
from vzero.runtime.stage import read_preset
folder = Path(sys.argv[1])
preset = read_preset(folder)
try:
    with interruptible(), opened(folder, preset, "test") as run:
        for name in sys.argv[2:]:
            while Path(f"{{folder}}.hold-{{name}}").exists():
                time.sleep(0.05)
            stages = [one for one in plan(preset) if one.name == name]
            run_plan(run, preset, stages, Display(Plan(preset, stages, Forecast()), Console()))
except Exception as error:
    sys.exit(explain(error))
"""
Launch = Callable[..., "subprocess.Popen[str]"]


def start_run(folder: Path, words: list[str]) -> Preset:
    """A run whose images are drawn and whose questions are labelled already."""
    preset = load_preset("smoke", words)
    artefacts.write_json(folder / "run.json", {"preset": preset.model_dump(mode="json")})
    run_stage(folder, IMAGES, PROGRAMS)
    rows = artefacts.read_jsonl(folder / "stages" / IMAGES / "images.jsonl")
    labels = [
        {
            **ROWS["label/labels.jsonl"],
            "question_id": f"q{i}",
            "image_id": row["image_id"],
            "text": "how many red shapes are there ? A) 1 B) 2 C) 3 D) 4",
            "answer": "ABCD"[i % 4],
            "kept": True,
        }
        for i, row in enumerate(rows)
    ]
    artefacts.write_jsonl(folder / "stages" / LABELS / "labels.jsonl", labels)
    return preset


def seal_made(folder: Path, preset: Preset, *names: str) -> None:
    """Stages that nothing is read from are sealed empty, and the labels above as if made from them."""
    stages = {one.name: one for one in plan(preset)}
    for name in names:
        stage_folder(folder, name).mkdir(parents=True, exist_ok=True)
        artefacts.seal(stage_folder(folder, name), spec_of(folder, preset, stages[name]), {})


def ranks_of(tools: SimpleNamespace, run: Path) -> list[int]:
    """Process ids of the trainings themselves, without the launcher and the guards."""

    def trains(process: int) -> bool:
        try:
            words = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
        except OSError:
            return False
        return words[1:4] == [b"-P", b"-m", b"vzero.stages"]

    return [process for process in tools.processes_of(run) if trains(process)]


def finish(launch: Launch, run: Path, stage: str) -> None:
    process = launch(ONE_STAGE, str(run), stage)
    out, err = process.communicate(timeout=600)
    assert process.returncode == 0, f"{out}\n{err}\n{(run / 'logs' / f'{stage}.log').read_text()}"


def lose_one(launch: Launch, tools: SimpleNamespace, run: Path, stage: str, seconds: float) -> None:
    """kill -9 of one process after a checkpoint, awaited for so long: the other ends, the reason is told,
    nothing is sealed."""
    process = launch(ONE_STAGE, str(run), stage)
    reached = checkpointed(run, stage)
    tools.wait_for(lambda: reached() or process.poll() is not None, "a checkpoint", seconds=seconds)
    subprocess.run(["kill", "-9", str(max(ranks_of(tools, run)))], check=True)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 75
    assert err.count("\n") == 1 and "SIGKILL" in err and f"{stage}.log" in err
    assert tools.processes_of(run) == []
    assert not (stage_folder(run, stage) / "manifest.json").exists()


def assert_equal_trainings(alone: Path, together: Path, stage: str) -> None:
    one, two = (stage_folder(run, stage) for run in (alone, together))
    assert (one / "rollouts.jsonl").read_text() == (
        two / "rollouts.jsonl"
    ).read_text()  # every completion, vote, reward and advantage
    rows = [artefacts.read_jsonl(folder / "metrics.jsonl") for folder in (one, two)]
    assert [row["step"] for row in rows[1]] == [1, 2, 3, 4]
    for expected, found in zip(*rows, strict=True):
        assert found.keys() == expected.keys()
        for name in ("loss", "reward", "completion_tokens", "truncated", "unanimous"):
            assert found[name] == pytest.approx(expected[name], abs=1e-5), name
        assert found["kl"] == pytest.approx(
            expected["kl"], rel=0.1, abs=1e-5
        )  # averaged over micro-batches, and these are others
        assert found["grad_norm"] == pytest.approx(expected["grad_norm"], rel=1e-4)
    assert any(abs(row["loss"]) > 1e-3 for row in rows[0])
    before, after = (load_file(folder / "checkpoint" / "model.safetensors") for folder in (one, two))
    assert before.keys() == after.keys()
    assert (
        max(float((before[name] - after[name]).abs().max()) for name in before) < 1e-5
    )  # steps are 1e-4 long
    timings = [artefacts.read_jsonl(folder / "timings.jsonl") for folder in (one, two)]
    for name in ("generation", "rollout_tokens", "vote_tokens"):
        assert [row[name] for row in timings[0]] == [row[name] for row in timings[1]]
    sealed = [artefacts.read_json(folder / artefacts.MANIFEST)["files"] for folder in (one, two)]
    assert sealed[0].keys() == sealed[1].keys()


def checkpointed(run: Path, stage: str) -> Callable[[], bool]:
    return (stage_folder(run, stage) / "work" / "trainer" / "checkpoint-2" / "complete.json").exists
