"""Log-probabilities, the GRPO loss and padding: forward and backward, at equal numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.case import Case
from benchmarks.shapes import POCKET, SEED, Shape, Subject, device, fit_for_cpu, head, subject
from benchmarks.workload import Answered, answered, generation_batch, lengths
from vzero.config import GrpoSettings, LaunchConfig
from vzero.grpo.micro_batches import MicroBatch
from vzero.presets import load_preset

WIDE = "a head as tall as 3B's and 1.75 times as wide takes a CPU a minute"
_SHORT, _LONG = 8, 48  # completion tokens of the two sequences that slices are given


def token_logprobs(shape: Shape, against: str) -> Case:
    """Log-probabilities of given tokens from hidden states, and the gradient of their sum: the fused head our
    trainer has from TRL.

    Args:
        shape: its head.
        against: "log_softmax" (plain PyTorch) or "selective_log_softmax" (TRL before its fused head), both
            over full logits.
    """
    from trl.trainer.utils import add_fused_lm_head, selective_log_softmax

    if against != "log_softmax":
        fit_for_cpu(shape, WIDE)
    of = head(shape)
    add_fused_lm_head(of.model)
    tokens = 1024 if shape == POCKET else 32
    generator = torch.Generator().manual_seed(SEED)
    ids = torch.randint(8, shape.vocabulary, (1, tokens + 1), generator=generator).to(device())
    hidden = torch.randn(1, tokens + 1, shape.hidden, generator=generator).to(device(), of.model.dtype)

    def ours() -> Tensor:
        return of.model(inputs_embeds=hidden, labels=ids, fused_lm_head=True).log_probs[0]

    def stock() -> Tensor:
        logits, wanted = of.model(inputs_embeds=hidden).logits[0, :-1].float(), ids[0, 1:]
        if against == "selective_log_softmax":
            return selective_log_softmax(logits, wanted)
        return logits.log_softmax(-1).gather(-1, wanted[:, None])[:, 0]

    return Case(
        lambda: _backward(of, lambda: ours().sum(), tokens),
        lambda: _backward(of, lambda: stock().sum(), tokens),
        "TRL's fused head (chunks of the vocabulary)",
        f"plain transformers: full logits, {against}",
        "token",
        {"tokens": tokens, "vocabulary": shape.vocabulary},
        difference=lambda: _apart(ours, stock),
        tolerance=1e-3 if device() == "cpu" else 5e-2,
    )


def grpo_loss(shape: Shape, folder: Path) -> Case:
    """Our trainer's loss with our settings and its gradient, against the same objective written down over
    full logits."""
    fit_for_cpu(shape, WIDE)
    of = head(shape)
    settings = load_preset("pocket").solver.grpo
    batch = generation_batch(of, answered(32) if shape == POCKET else _few(), pictures=shape == POCKET)
    near = (
        torch.randn(batch["completion_ids"].shape, generator=torch.Generator().manual_seed(SEED)).to(device())
        / 10
    )
    with torch.no_grad():
        batch["ref_per_token_logps"] = plain_logprobs(of.model, batch)[0] + near
    trainer = loss_trainer(of, settings, len(batch["prompt_ids"]), folder)
    group = settings.group_size if trainer.assembly.shares_prompts else 1
    dealt = micro_batch(batch, group)

    def ours() -> Tensor:
        return trainer.compute_loss(of.model, dealt)

    def plain() -> Tensor:
        return plain_loss(of.model, batch, settings)

    return Case(
        lambda: _backward(of, ours, int(batch["completion_mask"].sum())),
        lambda: _backward(of, plain, int(batch["completion_mask"].sum())),
        "GroupTrainer's loss (TRL's fused head)",
        "plain transformers: full logits of the completions, the same objective and entropy",
        "completion token",
        {**lengths(batch), "vocabulary": shape.vocabulary},
        [of.model],
        difference=lambda: _apart(ours, plain),
        tolerance=1e-4 if device() == "cpu" else 5e-2,
    )


def loss_trainer(of: Subject, settings: GrpoSettings, sequences: int, folder: Path) -> Any:
    """Our trainer around a subject, ready for its loss: one micro-batch of `sequences`. Its reference is what
    a batch brings."""
    from types import SimpleNamespace

    from vzero.grpo.recorder import Phases, Recorder
    from vzero.grpo.settings import plan_batches, trl_config
    from vzero.grpo.trainer import GroupTrainer, Parts
    from vzero.runtime.progress import Progress

    group = settings.group_size if sequences % settings.group_size == 0 else sequences
    prompts = sequences // group
    sizes = {
        "prompts_per_generation": prompts,
        "prompts_per_step": prompts,
        "group_size": group,
        "micro_batch": sequences,
    }
    fitted = settings.model_copy(update=sizes)
    config = trl_config(fitted, plan_batches(fitted, prompts), folder, SEED, cuda=device() == "cuda")
    phases = Phases()
    recorder = Recorder(folder, Progress(folder / "progress.jsonl"), phases, 1)
    undrawn: Any = SimpleNamespace(prompts=range(prompts), opener=None, pictures=None)
    parts = Parts(undrawn, undrawn, recorder, phases, math.inf)
    trainer = GroupTrainer(of.model, config, of.processor, parts, [], LaunchConfig())
    trainer.current_gradient_accumulation_steps = 1
    of.model.train()
    return trainer


def micro_batch(batch: dict[str, Any], group: int) -> MicroBatch:
    """A generation batch as one micro-batch of ours: a prompt and a picture for every `group` sequences."""
    prompts = {"input_ids": batch["prompt_ids"][::group], "attention_mask": batch["prompt_mask"][::group]}
    if "pixel_values" in batch:
        grids = batch["image_grid_thw"]
        patches = batch["pixel_values"].split(grids.prod(dim=1).tolist())
        prompts |= {"pixel_values": torch.cat(patches[::group]), "image_grid_thw": grids[::group]}
    return MicroBatch(
        prompts,
        torch.arange(len(batch["prompt_ids"]), device=batch["prompt_ids"].device) // group,
        batch["completion_ids"],
        batch["completion_mask"],
        batch["advantages"],
        batch["num_items_in_batch"],
        ref_log_probs=batch["ref_per_token_logps"],
    )


def plain_loss(model: Any, batch: dict[str, Any], settings: GrpoSettings) -> Tensor:
    """The objective of vzero.grpo.step over full logits, on-policy, one optimizer step a generation;
    entropy computed, not used."""
    new, scores = plain_logprobs(model, batch)
    with torch.no_grad():
        -(scores.exp() * scores).sum(-1)
    ratio = (new - new.detach()).exp()
    advantage = batch["advantages"][:, None]
    low, high = 1 - settings.clip_epsilon, 1 + settings.clip_epsilon
    surrogate = torch.min(ratio.clamp(max=settings.dual_clip) * advantage, ratio.clamp(low, high) * advantage)
    away = batch["ref_per_token_logps"] - new
    tokens = -surrogate + settings.kl_coefficient * (away.exp() - away - 1)
    return (tokens * batch["completion_mask"]).sum() / batch["num_items_in_batch"]


def plain_logprobs(model: Any, batch: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Of the completions' tokens (sequences, completion time), and of the whole vocabulary in their
    places."""
    keep = batch["completion_ids"].shape[1]
    logits = model(**_inputs(batch), logits_to_keep=keep + 1, use_cache=False).logits[:, :-1].float()
    scores = logits.log_softmax(-1)
    return scores.gather(-1, batch["completion_ids"][:, :, None])[:, :, 0], scores


def packing(shape: Shape) -> Case:
    """Log-probabilities of groups of answers and their gradient: each prompt and picture once and no padding,
    or TRL's padded batch."""
    from trl.trainer.utils import add_fused_lm_head

    from vzero.grpo import log_probs

    of = subject(shape)
    add_fused_lm_head(of.model)
    log_probs.prepare(of.model)
    groups = answered(32) if shape == POCKET else [_spread(answered(32)[0])]
    batch = generation_batch(of, groups, pictures=True)
    packed = micro_batch(batch, len(groups[0].completions))

    def ours() -> Tensor:
        return -log_probs.completion_log_probs(of.model, packed)[0].sum()

    def stock() -> Tensor:
        return _masked_sum(of.model, batch)

    tokens = int(batch["completion_mask"].sum())
    return Case(
        lambda: _backward(of, ours, tokens),
        lambda: _backward(of, stock, tokens),
        "vzero.grpo.log_probs: groups packed, prompts and pictures shared",
        "stock TRL: padded to the whole generation batch",
        "completion token",
        {**lengths(batch), "group": len(groups[0].completions)},
        [of.model],
        difference=lambda: _apart(lambda: ours() / tokens, lambda: stock() / tokens),
        tolerance=1e-4 if device() == "cpu" else 5e-2,
    )


def _few() -> list[Answered]:
    """Two questions with an answer each, one cut to 8 tokens and one drawn out to 48: the spread of lengths
    that real answers have."""
    found = []
    for group, length in zip(answered(32), (_SHORT, _LONG), strict=False):
        one = group.completions[0]
        found.append(Answered(group.request, (replace(one, token_ids=(one.token_ids * _LONG)[:length]),)))
    return found


def _spread(group: Answered) -> Answered:
    """The same question with its answers cut or drawn out to 8, 18 ... 48 tokens."""
    last = len(group.completions) - 1
    cut = (_SHORT + (_LONG - _SHORT) * i // last for i in range(last + 1))
    drawn = (
        replace(one, token_ids=(one.token_ids * _LONG)[:length])
        for one, length in zip(group.completions, cut, strict=True)
    )
    return Answered(group.request, tuple(drawn))


def _masked_sum(model: Any, batch: dict[str, Any]) -> Tensor:
    keep = batch["completion_ids"].shape[1]
    inputs = _inputs(batch)
    labels = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, -100)
    labels[:, :-keep] = -100
    scores = model(**inputs, labels=labels, fused_lm_head=True).log_probs[:, -keep:]
    return -(scores * batch["completion_mask"]).sum()


def _inputs(batch: dict[str, Any]) -> dict[str, Any]:
    inputs = {
        "input_ids": torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1),
        "attention_mask": torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1),
    }
    return inputs | {
        name: batch[name] for name in ("pixel_values", "image_grid_thw", "mm_token_type_ids") if name in batch
    }


def _backward(of: Subject, loss: Callable[[], Tensor], work: float) -> float:
    loss().backward()
    of.model.zero_grad(set_to_none=True)
    return work


def _apart(one: Callable[[], Tensor], other: Callable[[], Tensor]) -> float:
    with torch.no_grad():
        return float((one() - other()).abs().max())
