"""The objective against a second implementation, and the policy's log-probabilities against the engine's.

The second implementation shares no code with TRL or with ours: one unpadded sequence at a time through
Hugging Face's own forward, the public code's formulas as it writes them, PyTorch's AdamW.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from safetensors.torch import load_file
from trl import GRPOTrainer
from trl.trainer.utils import nanstd

from tests import tiny_model
from vzero.config import EngineConfig, GrpoSettings, RolloutsConfig, SamplingConfig
from vzero.grpo.data import Prompt
from vzero.grpo.groups import Group, Scores
from vzero.grpo.micro_batches import MicroBatch
from vzero.grpo.step import group_advantages
from vzero.grpo.train import Job, train
from vzero.grpo.trainer import GroupTrainer
from vzero.images.records import ImageRecord, load_records, open_image
from vzero.pocket.images import write
from vzero.prompts import questioner_messages, solver_messages
from vzero.rollout.protocol import Completion, Request, Rollout
from vzero.rollout.template import conversation
from vzero.rollout.transformers_engine import TransformersEngine
from vzero.runtime import artefacts, checkpoints
from vzero.runtime.progress import Progress

pytestmark = pytest.mark.slow

QUESTION = "how many red ? A) 1 B) 2 C) 3 D) 4"


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[ImageRecord]:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("images")
    artefacts.write_jsonl(folder / "images.jsonl", write(folder, seed=5, count=8))
    return load_records(folder)


def even_tokens(completion: Completion) -> float:
    return sum(token % 2 == 0 for token in completion.token_ids) / len(completion.token_ids)


def train_on(folder: Path, base: Path, prompts: list[Prompt], settings: GrpoSettings) -> list[Group]:
    """Train; returns what was drawn, in order. The first group of a generation has rewards without any
    spread."""
    drawn: list[Group] = []

    def reward(groups: Sequence[Group], generation: int) -> Scores:
        drawn.extend(groups)
        return Scores(
            [
                [0.3 if i == 0 else even_tokens(one) for one in group.completions]
                for i, group in enumerate(groups)
            ],
            {},
        )

    engine, progress = (
        EngineConfig(batch_sequences=64, threads=1),
        Progress(folder / "work" / "progress.jsonl"),
    )
    # A model of random weights gives the tokens that the engine forbids more than a trained one does.
    rollouts = RolloutsConfig(max_logprob_gap=2.0)
    scratch = folder / "work"
    training = Job("solver", 1, 3, settings, engine, base, prompts, reward, folder, scratch, progress)
    train(replace(training, rollouts=rollouts))
    return drawn


def log_probabilities(model, processor, prompt: Prompt, completion: Completion) -> torch.Tensor:
    """(tokens,) of one completion."""
    text = processor.apply_chat_template(
        conversation(prompt.messages, with_image=True), tokenize=False, add_generation_prompt=True
    )
    inputs = processor(text=[text], images=[open_image(prompt.image)], return_tensors="pt")
    width, drawn = inputs["input_ids"].shape[1], torch.tensor([completion.token_ids])
    inputs["input_ids"] = torch.cat([inputs["input_ids"], drawn], 1)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    inputs["mm_token_type_ids"] = (inputs["input_ids"] == model.config.image_token_id).int()
    return model(**inputs).logits[0, width - 1 : -1].log_softmax(-1).gather(1, drawn[0][:, None])[:, 0]


def token_losses(
    new: torch.Tensor,
    old: torch.Tensor,
    advantage: float,
    settings: GrpoSettings,
    weight: torch.Tensor | float = 1.0,
) -> torch.Tensor:
    """Per token: clipped surrogate, dual clip where the advantage is negative, its weight, k3 against the
    initial policy (here also the old one)."""
    ratio = (new - old).exp()
    low, high = 1 - settings.clip_epsilon, 1 + settings.clip_epsilon
    loss = torch.max(-advantage * ratio, -advantage * ratio.clamp(low, high))
    if advantage < 0:
        loss = torch.min(loss, torch.tensor(-advantage * settings.dual_clip))
    return loss * weight + settings.kl_coefficient * ((old - new).exp() - (old - new) - 1)


def another_engine(
    requests: Sequence[Request], sampling: SamplingConfig, whole: Callable[..., list[Rollout]]
) -> list[Rollout]:
    """The same draws by an engine that finds a third of the tokens likelier than the policy does, and some of
    them much less likely."""
    return [
        replace(
            rollout,
            completions=tuple(
                replace(
                    one,
                    logprobs=tuple(value + (0.5, -0.2, -1.5)[i % 3] for i, value in enumerate(one.logprobs)),
                )
                for one in rollout.completions
            ),
        )
        for rollout in whole(requests, sampling)
    ]


@pytest.mark.parametrize("correction", ["none", "token_truncate"])
def test_two_optimizer_steps_by_hand(
    records: list[ImageRecord],
    tmp_path: Path,
    correction: Literal["none", "token_truncate"],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = TransformersEngine.generate
    monkeypatch.setattr(
        TransformersEngine, "generate", lambda self, *words: another_engine(*words, partial(whole, self))
    )
    settings = GrpoSettings(
        prompts_per_generation=4,
        prompts_per_step=2,
        group_size=3,
        micro_batch=3,
        learning_rate=2e-2,  # far enough in one step for the second to meet every clip
        kl_coefficient=0.05,
        dual_clip=1.5,
        max_completion_tokens=6,
        max_generations=1,
        freeze_vision=True,
        importance_correction=correction,
    )
    base = tiny_model.build(tmp_path / "base")
    prompts = [
        Prompt(record.image_id, solver_messages("pocket", QUESTION + " circle" * i), record)
        for i, record in enumerate(records[:4])
    ]
    groups = train_on(tmp_path / "stage", base, prompts, settings)
    rows = artefacts.read_jsonl(tmp_path / "stage" / "metrics.jsonl")
    assert len(groups) == 4 and len(rows) == 2

    model, processor = checkpoints.load_model(base), checkpoints.load_processor(base)
    model.model.visual.requires_grad_(False)
    weights = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
    plain = [weight for name, weight in weights if "norm" in name or name.endswith("bias")]
    decayed = [weight for name, weight in weights if not ("norm" in name or name.endswith("bias"))]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": plain, "weight_decay": 0.0}],
        lr=settings.learning_rate,
    )
    with torch.no_grad():
        old = [
            [log_probabilities(model, processor, group.prompt, one) for one in group.completions]
            for group in groups
        ]
    tokens = sum(len(one) for group in old for one in group)
    clipped, truncated = {"low": 0, "high": 0, "dual": 0}, []
    for row, at in zip(rows, (0, 2), strict=True):
        loss = torch.zeros(())
        for group, before, first in zip(groups[at : at + 2], old[at : at + 2], (at == 0, False), strict=True):
            rewards = [0.3 if first else even_tokens(one) for one in group.completions]
            for reward, one, old_one in zip(rewards, group.completions, before, strict=True):
                advantage = (reward - statistics.mean(rewards)) / (statistics.stdev(rewards) + 1e-4)
                new = log_probabilities(model, processor, group.prompt, one)
                weight = (
                    (old_one - torch.tensor(one.logprobs)).exp()
                    if correction == "token_truncate"
                    else torch.ones(len(old_one))
                )
                truncated += (weight > 2).tolist()
                loss = loss + token_losses(new, old_one, advantage, settings, weight.clamp(max=2)).sum() / (
                    tokens / 2
                )
                ratio = (new - old_one).exp()
                clipped["low"] += int((ratio < 0.8).sum()) if advantage < 0 else 0
                clipped["high"] += int((ratio > 1.2).sum()) if advantage > 0 else 0
                clipped["dual"] += int((ratio > settings.dual_clip).sum()) if advantage < 0 else 0
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_([weight for _, weight in weights], settings.max_grad_norm)
        optimizer.step()
        assert row["loss"] == pytest.approx(loss.item(), rel=1e-3, abs=1e-5)
        assert row["grad_norm"] == pytest.approx(norm.item(), rel=1e-3)
    assert all(clipped.values()), clipped  # else the second step proves nothing
    assert correction == "none" or 0 < sum(truncated) < len(truncated)
    checkpoints.save(model, processor, tmp_path / "by_hand")
    ours, theirs = (
        load_file(folder / "model.safetensors")
        for folder in (tmp_path / "stage" / "checkpoint", tmp_path / "by_hand")
    )
    assert ours.keys() == theirs.keys()
    for (
        name,
        weight,
    ) in ours.items():  # single weights with a gradient near zero may step either way; a tensor may not
        assert (weight - theirs[name]).abs().mean() < 0.01 * settings.learning_rate, name


@pytest.mark.parametrize("role", ["questioner", "solver"])
def test_engine_and_trainer_agree_on_the_shipped_policy(
    role: str, records: list[ImageRecord], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The live policy's log-probabilities, token by token, are those the ratio starts from.

    The engine never draws structural tokens, so its distribution is renormalised without them: its
    log-probabilities are higher by what little mass the policy gives those, and never lower.
    """
    batches = []
    prepare = GroupTrainer._prepare_inputs
    monkeypatch.setattr(
        GroupTrainer, "_prepare_inputs", lambda self, rows: batches.append(prepare(self, rows)) or batches[-1]
    )
    settings = GrpoSettings(
        prompts_per_generation=8,
        prompts_per_step=4,
        group_size=4,
        micro_batch=4,
        learning_rate=1e-4,
        max_completion_tokens=48,
    )
    messages = questioner_messages("pocket") if role == "questioner" else solver_messages("pocket", QUESTION)
    prompts = [Prompt(record.image_id, messages, record) for record in records]
    groups = train_on(tmp_path, checkpoints.POCKET, prompts, settings)
    assert [batch.old_log_probs is not None for batch in batches] == [
        i >= 4 for i in range(8)
    ]  # the ratio of the first step is one
    # In its first generation the policy is the reference.
    scored = [
        batch.ref_log_probs if batch.old_log_probs is None else batch.old_log_probs for batch in batches
    ]
    trainer = torch.cat(
        [values[batch.completion_mask.bool()] for values, batch in zip(scored, batches, strict=True)]
    )
    engine = torch.tensor([value for group in groups for one in group.completions for value in one.logprobs])
    assert len(engine) == len(trainer) > 32 * 8
    assert (engine - trainer).abs().mean() < 1e-4
    assert (engine - trainer).abs().max() < 5e-3
    assert (engine - trainer).min() > -2e-5
    assert engine.mean() < -0.05  # completions that were sure things would agree trivially


@pytest.mark.parametrize("loss_type", ["dapo", "bnpo"])
def test_loss_and_its_metrics_are_trls_to_the_bit(
    records: list[ImageRecord],
    tmp_path: Path,
    loss_type: Literal["dapo", "bnpo"],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """TRL's own loss, given our log-probabilities, as the oracle: where the ratio is one, and where it is
    clipped."""
    ours, seen = GroupTrainer.compute_loss, []

    def both(self: GroupTrainer, model: Any, inputs: MicroBatch, **_: Any) -> torch.Tensor:
        before = {name: len(values) for name, values in self._metrics["train"].items()}
        mine = ours(self, model, inputs)
        monkeypatch.setattr(
            self,
            "_get_per_token_logps_and_entropies",
            lambda *_, **__: (*self.log_probs(model, inputs), None),
            raising=False,
        )
        columns = {
            "prompt_ids": inputs.completion_ids,  # only joined to the completions, for the method above
            "prompt_mask": inputs.completion_mask,
            "completion_ids": inputs.completion_ids,
            "completion_mask": inputs.completion_mask,
            "advantages": inputs.advantages,
            "num_items_in_batch": inputs.generation_tokens,
            "ref_per_token_logps": inputs.ref_log_probs,
            **({} if inputs.old_log_probs is None else {"old_per_token_logps": inputs.old_log_probs}),
        }
        theirs = GRPOTrainer._compute_loss(self, model, columns)
        for name in ("kl", "entropy", "clip_ratio/region_mean"):
            mean, of_trl = self._metrics["train"][name][before.get(name, 0) :]
            assert mean == of_trl, name
            seen.append((name, mean))
        assert torch.equal(mine, theirs)
        return mine

    monkeypatch.setattr(GroupTrainer, "compute_loss", both)
    settings = GrpoSettings(
        prompts_per_generation=4,
        prompts_per_step=2,
        group_size=3,
        micro_batch=3,
        learning_rate=2e-2,
        kl_coefficient=0.05,
        dual_clip=1.5,
        max_completion_tokens=6,
        loss=loss_type,
    )
    prompts = [Prompt(record.image_id, solver_messages("pocket", QUESTION), record) for record in records[:4]]
    train_on(tmp_path / "stage", tiny_model.build(tmp_path / "base"), prompts, settings)
    assert max(value for name, value in seen if name.startswith("clip")) > 0.1
    assert max(value for name, value in seen if name == "kl") > 0.01


@pytest.mark.parametrize("size", range(2, 17))
def test_advantages_are_trls_to_the_bit(size: int) -> None:
    rewards = torch.rand(50, size, generator=torch.Generator().manual_seed(size))
    rewards[0] = 0.3  # no spread, up to the rounding of its mean
    spread = nanstd(rewards, dim=1)[:, None]
    expected = (rewards - rewards.nanmean(dim=1, keepdim=True)) / (spread + 1e-4)
    assert torch.equal(group_advantages(rewards), expected)
