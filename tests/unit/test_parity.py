"""The parity watch: silent while rollouts come from the policy, loud when they do not."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainerCallback

from tests import tiny_model
from vzero.config import EngineConfig, GrpoSettings, SamplingConfig
from vzero.errors import RolloutError
from vzero.grpo import parity
from vzero.grpo.data import Prompt
from vzero.grpo.groups import Group, Scores
from vzero.grpo.micro_batches import MicroBatch
from vzero.grpo.train import Job, train
from vzero.images.records import ImageRecord
from vzero.prompts import solver_messages
from vzero.rollout import Request, Rollout
from vzero.rollout.protocol import Finished
from vzero.rollout.transformers_engine import TransformersEngine
from vzero.runtime import artefacts, checkpoints
from vzero.runtime.progress import Progress

pytestmark = pytest.mark.slow


def scored(engine: list[float], trainer: list[float], mask: list[int]) -> MicroBatch:
    nothing = torch.zeros(0)
    return MicroBatch(
        {},
        nothing,
        nothing,
        torch.tensor([mask]),
        nothing,
        nothing,
        engine_log_probs=torch.tensor([engine]),
        old_log_probs=torch.tensor([trainer]),
    )


def test_the_gap_is_the_mean_over_drawn_tokens_of_all_micro_batches() -> None:
    batches = [scored([-1.0, -2.0, 9.0], [-1.5, -2.0, 0.0], [1, 1, 0]), scored([-1.0], [-2.0], [1])]
    assert parity.mean_gap(batches) == pytest.approx((0.5 + 0.0 + 1.0) / 3)
    with pytest.raises(ValueError, match="without log-probabilities"):
        parity.mean_gap([replace(batches[0], old_log_probs=None)])


@pytest.mark.parametrize(("gap", "loud"), [(0.049, False), (0.051, True), (float("nan"), True)])
def test_the_alarm(gap: float, loud: bool, capsys: pytest.CaptureFixture[str]) -> None:
    parity.warn_above_alarm(gap, 7)
    assert ("optimizer step 7" in capsys.readouterr().err) == loud


def ones(groups: Sequence[Group], generation: int) -> Scores:
    return Scores([[float(i) for i in range(len(group.completions))] for group in groups], {})


def gaps(
    folder: Path, base: Path, steps: int, capsys: pytest.CaptureFixture[str], epochs: int = 1
) -> tuple[list[float], str]:
    """Of a training in `folder`, and what it said."""
    tiny_model.picture(0).save(folder / "0.png")
    record = ImageRecord("i", folder / "0.png", artefacts.sha256_file(folder / "0.png"), 42, 42)
    prompts = [
        Prompt(f"p{i}", solver_messages("pocket", "how many red ?" + " circle" * i), record) for i in range(4)
    ]
    settings = GrpoSettings(
        prompts_per_generation=4,
        prompts_per_step=4 // steps,
        group_size=2,
        micro_batch=2,
        max_completion_tokens=6,
        learning_rate=1e-6,
        epochs=epochs,
    )
    engine, progress = EngineConfig(batch_sequences=16, threads=1), Progress(folder / "progress.jsonl")
    train(Job("solver", 1, 0, settings, engine, base, prompts, ones, folder, folder / "work", progress))
    return [
        row["logprob_gap"] for row in artefacts.read_jsonl(folder / "metrics.jsonl")
    ], capsys.readouterr().err


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights with next to no mass on tokens that are never drawn, as a trained model has."""
    words = tiny_model.vocabulary()
    made = tiny_model.model(words, spread=0.05)
    with torch.no_grad():
        made.lm_head.weight[[words.index(word) for word in tiny_model.SPECIAL if word != "<eos>"]] = 0.0
    folder = tmp_path_factory.mktemp("parity") / "base"
    checkpoints.save(made, tiny_model.processor(words), folder)
    return folder


@pytest.mark.parametrize("steps", [1, 2])
def test_rollouts_of_another_distribution_are_seen_and_our_own_are_not(
    base: Path,
    tmp_path: Path,
    steps: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    drawing = TransformersEngine.stream
    floor = -torch.log(torch.tensor(1 - 9 / 144)).item()  # of next to uniform draws from 135 of 144 tokens

    def shifted(
        self: TransformersEngine, requests: Iterable[Request], sampling: SamplingConfig, finished: Finished
    ) -> None:
        def told(i: int, one: Rollout) -> None:
            drawn = [replace(c, logprobs=tuple(v - 0.25 for v in c.logprobs)) for c in one.completions]
            finished(i, replace(one, completions=tuple(drawn)))

        drawing(self, requests, sampling, told)

    for name in ("own", "other"):
        (tmp_path / name).mkdir()
    own, _ = gaps(tmp_path / "own", base, steps, capsys)
    assert len(own) == steps and all(gap == pytest.approx(floor, abs=0.01) for gap in own)
    monkeypatch.setattr(TransformersEngine, "stream", shifted)
    other, said = gaps(tmp_path / "other", base, steps, capsys)
    assert all(gap == pytest.approx(0.25 - floor, abs=0.01) for gap in other)
    assert "do not come from the policy" in said


@pytest.mark.parametrize("broken", ["other weights", "no number"])
def test_an_engine_that_draws_from_other_weights_ends_the_stage_before_a_weight_is_changed(
    base: Path,
    tmp_path: Path,
    broken: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The trainer's model is the checkpoint; the one that draws is a copy with noise, or says NaN."""
    from vzero.grpo import train as training
    from vzero.grpo.trainer import GroupTrainer

    stepped, trained, init = [], [], GroupTrainer.__init__
    noisy = checkpoints.load_model(base)
    with torch.no_grad():
        for weight in noisy.parameters():
            weight += 0.2 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))
    drawing = TransformersEngine.stream

    def nan(self: Any, requests: Any, sampling: Any, finished: Finished) -> None:
        def told(i: int, one: Rollout) -> None:
            drawn = [replace(c, logprobs=(float("nan"),) * len(c.logprobs)) for c in one.completions]
            finished(i, replace(one, completions=tuple(drawn)))

        drawing(self, requests, sampling, told)

    if broken == "no number":
        monkeypatch.setattr(TransformersEngine, "stream", nan)
    else:
        monkeypatch.setattr(
            training,
            "_policy_engine",
            lambda job, model, processor, _: TransformersEngine(noisy, processor, 16),
        )

    def watched(self: GroupTrainer, model: Any, *arguments: Any, **named: Any) -> None:
        init(self, model, *arguments, **named)
        trained.append(self.model)
        self.add_callback(Steps())

    class Steps(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            stepped.append(1)

    monkeypatch.setattr(GroupTrainer, "__init__", watched)
    with pytest.raises(RolloutError, match="no weight was changed") as error:
        gaps(tmp_path, base, 2, capsys)
    assert error.value.exit_code == 1 and not stepped and not (tmp_path / "checkpoint").exists()
    before = checkpoints.load_model(base).state_dict()
    (model,) = trained
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_an_engine_that_drifts_later_is_an_alarm_and_ends_nothing(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Weights have moved by then, so a training that was killed meanwhile must be able to go on."""
    drawing, calls = TransformersEngine.stream, []

    def drifting(self: Any, requests: Any, sampling: Any, finished: Finished) -> None:
        shift = 1.0 if calls else 0.0

        def told(i: int, one: Rollout) -> None:
            drawn = [replace(c, logprobs=tuple(p - shift for p in c.logprobs)) for c in one.completions]
            finished(i, replace(one, completions=tuple(drawn)))

        drawing(self, requests, sampling, told)
        calls.append(1)

    monkeypatch.setattr(TransformersEngine, "stream", drifting)
    (first, second), said = gaps(tmp_path, base, 1, capsys, epochs=2)
    assert first < 0.1 and second > 0.9 and "logprob" in said.replace("-", "").lower()
