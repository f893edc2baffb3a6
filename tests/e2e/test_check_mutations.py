"""`check` catches a training that silently broke: five mutations of the real stages on the shipped model, and
the same run undisturbed.

One small run is made once (images, Questioner, questions, votes, Solver; no evaluation). A mutation redoes
the stage it touches in a copy of it, through the real trainer, with the product's code patched in this
process; `check` itself runs on the artefacts alone.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from PIL import Image

from harness.analysis.build import build
from harness.check import check, reference
from harness.check.reference import Reference
from harness.runs.sealed import read_run
from tests.action import check_step
from tests.stub_engine import StubEngine
from vzero import rewards, solver, voting
from vzero.presets import load_preset
from vzero.runtime import artefacts
from vzero.runtime.checkpoints import POCKET
from vzero.runtime.stage import run_stage
from vzero.stages import PROGRAMS

PRESET = load_preset(
    "smoke",
    [
        "images.count=40",
        "questioner.grpo.prompts_per_generation=8",
        "questioner.grpo.prompts_per_step=4",
        "questioner.grpo.micro_batch=16",
        "questioner.grpo.max_generations=2",
        "solver.grpo.prompts_per_generation=4",
        "solver.grpo.prompts_per_step=2",
        "solver.grpo.micro_batch=10",
        "solver.grpo.max_generations=1",
        "solver.keep_high=0.9",
    ],
)
ROOT = Path(__file__).resolve().parents[2]
IMAGES, QUESTIONER, WRITE, LABEL, SOLVER = (
    "00-images",
    "02-train-questioner-1",
    "03-write-questions-1",
    "04-label-1",
    "05-train-solver-1",
)
pytestmark = pytest.mark.skipif(not (POCKET / "config.json").exists(), reason="there is no pocket checkpoint")


def run(folder: Path, *stages: str) -> Path:
    for name in stages:
        run_stage(folder, name, PROGRAMS)
    return folder


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("healthy") / "run"
    artefacts.write_json(folder / "run.json", {"preset": PRESET.model_dump(mode="json")})
    return run(folder, IMAGES, QUESTIONER, WRITE, LABEL, SOLVER)


@pytest.fixture(scope="module")
def beside(healthy: Path) -> Reference:
    """The undisturbed run as the reference."""
    found = read_run(healthy)
    return reference.measure(found, build(found))


@pytest.fixture
def broken(healthy: Path, beside: Reference, tmp_path: Path) -> Callable[..., dict[str, str]]:
    """Redo `stages` in a copy, whatever is patched by then; the rules that fail, each with its sentence."""

    def redo(*stages: str) -> dict[str, str]:
        folder = tmp_path / "run"
        shutil.copytree(healthy, folder)
        for name in stages:
            shutil.rmtree(folder / "stages" / name)
        return failures(run(folder, *stages), beside)

    return redo


def failures(folder: Path, beside: Reference) -> dict[str, str]:
    """Broken rules but for completeness: nothing is evaluated here."""
    found = check(folder, beside).findings
    return {one.rule: one.message for one in found if one.passed is False and one.rule != "run-complete"}


def test_an_undisturbed_run_breaks_no_rule(healthy: Path, beside: Reference) -> None:
    assert failures(healthy, beside) == {}
    passed = {one.rule for one in check(healthy, beside).findings if one.passed}
    assert passed >= {
        "labels-are-majorities",
        "filter-keeps-the-band",
        "votes-are-what-was-said",
        "groups-are-whole",
        "advantages-follow-rewards",
        "reward-formula",
        "trained-on-its-labels",
        "weights-moved",
        "kl-bounded",
        "loss-is-the-objective",
        "kl-in-the-loss",
        "beside-reference",
    }


def test_the_command_exits_1_with_the_reason(healthy: Path, tmp_path: Path) -> None:
    """A reward changed afterwards, seal and all: what a fault in the product would have written."""
    folder = tmp_path / "run"
    shutil.copytree(healthy, folder)
    path = folder / "stages" / SOLVER / "rollouts.jsonl"
    rows = artefacts.read_jsonl(path)
    artefacts.write_jsonl(path, [{**rows[0], "reward": 1.0 - rows[0]["reward"]}, *rows[1:]])
    program = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from harness.cli import app\n"
    program += "try: app()\nfinally: assert 'torch' not in sys.modules"  # it takes ten times its seconds
    words = [sys.executable, "-c", program, "check", str(folder), "--no-reference", "--json"]
    unsealed = subprocess.run(words, capture_output=True, text=True, timeout=900)
    assert unsealed.returncode == 2 and "is not the file that was sealed" in unsealed.stderr
    manifest = artefacts.read_json(path.parent / "manifest.json")
    manifest["files"]["rollouts.jsonl"] = artefacts.sha256_file(path)
    del manifest["digest"]
    artefacts.write_json(path.parent / "manifest.json", manifest)
    done = subprocess.run(words, capture_output=True, text=True, timeout=900)
    assert done.returncode == 1 and "reward-formula" in done.stderr and "Traceback" not in done.stderr
    broken = {one["rule"] for one in json.loads(done.stdout)["findings"] if one["passed"] is False}
    assert broken == {"reward-formula", "advantages-follow-rewards", "run-complete"}
    step = check_step(tmp_path / "foreign", folder, no_reference=True)
    assert step.code == 1 and "::error title=reward-formula [05-train-solver-1]::" in step.log
    assert json.loads((step.findings / "check.json").read_text()) == json.loads(done.stdout)
    failed = ElementTree.parse(step.findings / "check.xml").findall(".//failure")
    assert {one.attrib["type"] for one in failed} == broken
    assert "| reward-formula | **failed** | 05-train-solver-1 |" in step.page


def test_a_flipped_advantage_is_caught(
    broken: Callable[..., dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from vzero.grpo import step

    correct = step.group_advantages
    monkeypatch.setattr(step, "group_advantages", lambda rewards: -correct(rewards))
    assert "instead of" in broken(QUESTIONER)["advantages-follow-rewards"]


def test_a_sign_flipped_in_the_loss_is_caught(
    broken: Callable[..., dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from vzero.grpo.trainer import GroupTrainer

    loss = GroupTrainer.compute_loss
    monkeypatch.setattr(
        GroupTrainer,
        "compute_loss",
        lambda self, model, inputs, **_: loss(self, model, replace(inputs, advantages=-inputs.advantages)),
    )
    assert "wrong sign" in broken(QUESTIONER)["loss-is-the-objective"]


def test_a_dropped_kl_is_caught(
    broken: Callable[..., dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from vzero.grpo import train

    configured = train.trl_config

    def without(*arguments: Any, **named: Any) -> Any:
        config = configured(*arguments, **named)
        config.beta = 0.0
        return config

    monkeypatch.setattr(train, "trl_config", without)
    assert "not measured" in broken(QUESTIONER)["kl-bounded"]


def test_a_vote_in_place_of_the_label_is_caught(
    broken: Callable[..., dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    count = voting.tally
    monkeypatch.setattr(
        solver.defects, "counter", lambda on: lambda votes: replace(count(votes), answer=votes[-1])
    )
    assert "labels are not" in broken(LABEL)["labels-are-majorities"]


def test_a_reward_of_single_votes_is_caught(
    broken: Callable[..., dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    count = voting.tally
    monkeypatch.setattr(rewards, "tally", lambda votes: count(votes[:1]))
    assert "rewards are not" in broken(QUESTIONER)["reward-formula"]


def test_labels_that_are_not_the_voted_ones_are_caught(
    healthy: Path, beside: Reference, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = artefacts.read_jsonl

    def swapped(path: Path) -> list[dict[str, Any]]:
        rows = read(path)
        return [{**row, "answer": row["intuitive"]} for row in rows] if path.name == "labels.jsonl" else rows

    folder = tmp_path / "run"
    shutil.copytree(healthy, folder)
    shutil.rmtree(folder / "stages" / SOLVER)
    with monkeypatch.context() as patched:  # undone before `check` reads the labels
        patched.setattr(artefacts, "read_jsonl", swapped)
        run(folder, SOLVER)
    assert "training questions are not" in failures(folder, beside)["trained-on-its-labels"]


def test_a_blind_solver_is_caught(
    broken: Callable[..., dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from vzero.rollout import engines

    opened = engines.open_engine

    class Blind(StubEngine):
        """Shows the Solver a grey picture of the same size: the prompts look as they should."""

        def __init__(self, *arguments: Any) -> None:
            self.engine = opened(*arguments)

        def generate(self, requests: Any, sampling: Any) -> Any:
            grey = [replace(one, image=Image.new("RGB", one.image.size, (128, 128, 128))) for one in requests]
            return self.engine.generate(grey, sampling)

    monkeypatch.setattr(engines, "open_engine", Blind)
    assert "votes that are right" in broken(QUESTIONER)["beside-reference"]


def test_frozen_weights_are_caught(
    broken: Callable[..., dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    from vzero.grpo import train

    configured = train.trl_config

    def still(*arguments: Any, **named: Any) -> Any:
        config = configured(*arguments, **named)
        config.learning_rate = 0.0
        return config

    monkeypatch.setattr(train, "trl_config", still)
    found = broken(QUESTIONER)
    assert "nothing was learnt" in found["weights-moved"] and "stayed 0" in found["kl-bounded"]
