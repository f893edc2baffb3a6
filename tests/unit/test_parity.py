"""The parity watch: silent while rollouts come from the policy, loud when they do not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests import tiny_model
from vzero.config import EngineConfig, GrpoSettings, SamplingConfig
from vzero.grpo import parity
from vzero.grpo.data import Prompt
from vzero.grpo.groups import Group, Scores
from vzero.grpo.micro_batches import MicroBatch
from vzero.grpo.train import Job, train
from vzero.images.records import ImageRecord
from vzero.prompts import solver_messages
from vzero.rollout import Request, Rollout
from vzero.rollout.transformers_engine import TransformersEngine
from vzero.runtime import artefacts
from vzero.runtime.progress import Progress


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


def gaps(folder: Path, base: Path, steps: int, capsys: pytest.CaptureFixture[str]) -> tuple[list[float], str]:
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
    )
    engine, progress = EngineConfig(batch_sequences=16, threads=1), Progress(folder / "progress.jsonl")
    train(Job("solver", 1, 0, settings, engine, base, prompts, ones, folder, folder / "work", progress))
    return [
        row["logprob_gap"] for row in artefacts.read_jsonl(folder / "metrics.jsonl")
    ], capsys.readouterr().err


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights with next to no mass on tokens that are never drawn, as a trained model has."""
    from vzero.runtime import checkpoints

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
    whole = TransformersEngine.generate
    floor = -torch.log(torch.tensor(1 - 9 / 144)).item()  # of next to uniform draws from 135 of 144 tokens

    def shifted(
        self: TransformersEngine, requests: Sequence[Request], sampling: SamplingConfig
    ) -> list[Rollout]:
        drawn = whole(self, requests, sampling)
        return [
            replace(
                one,
                completions=tuple(
                    replace(c, logprobs=tuple(v - 0.7 for v in c.logprobs)) for c in one.completions
                ),
            )
            for one in drawn
        ]

    for name in ("own", "other"):
        (tmp_path / name).mkdir()
    own, _ = gaps(tmp_path / "own", base, steps, capsys)
    assert len(own) == steps and all(gap == pytest.approx(floor, abs=0.01) for gap in own)
    monkeypatch.setattr(TransformersEngine, "generate", shifted)
    other, said = gaps(tmp_path / "other", base, steps, capsys)
    assert all(gap == pytest.approx(0.7 - floor, abs=0.01) for gap in other)
    assert "do not come from the policy" in said
