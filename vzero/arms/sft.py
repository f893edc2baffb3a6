"""Fine-tuning the Solver on its own votes: does reinforcement learning add anything to imitating the
majority?

Each kept question is trained on in the order and in the optimizer steps that GRPO would take
(vzero.grpo.data), with at most `group_size` of the votes for its majority as targets. The loss is the mean
negative log-likelihood of their tokens, end of turn included, over an optimizer step. Learning rate, weight
decay (of the same weights) and gradient norm are those of `solver.grpo`; there is no KL term. Known as
self-training or rejection fine-tuning on the majority (LMSI, arXiv 2210.11610).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from vzero.errors import VZeroError
from vzero.grpo import adapters, resume, states
from vzero.grpo.data import training_order
from vzero.grpo.frozen import freeze_vision, spare_frozen_parts
from vzero.grpo.settings import Batches, plan_batches
from vzero.grpo.train import full_disk_as_oserror
from vzero.images.records import ImageRecord, open_image, records_by_id
from vzero.prompts import solver_messages
from vzero.rollout import template, thinking
from vzero.rollout.protocol import Message
from vzero.runtime import artefacts, checkpoints
from vzero.runtime.seeding import derive
from vzero.runtime.stage import StageContext


@dataclass(frozen=True)
class Example:
    """One question with the replies to imitate."""

    messages: tuple[Message, ...]
    image: ImageRecord
    replies: tuple[str, ...]


def examples(
    labels: Sequence[Mapping[str, Any]],
    votes: Sequence[Mapping[str, Any]],
    records: Mapping[str, ImageRecord],
    prompt_format: str,
    most: int,
) -> list[Example]:
    """The kept questions of `labels`, each with its first `most` finished votes for its label."""
    replies = chosen_votes(labels, votes, most)
    return [
        Example(
            solver_messages(prompt_format, row["text"]),
            records[row["image_id"]],
            tuple(vote["text"] for vote in found),
        )
        for row in labels
        if (found := replies.get(row["question_id"]))
    ]


def chosen_votes(
    labels: Sequence[Mapping[str, Any]], votes: Sequence[Mapping[str, Any]], most: int
) -> dict[str, list[Mapping[str, Any]]]:
    """By kept question the votes that are imitated: the first `most` finished ones for its label."""
    label = {row["question_id"]: row["answer"] for row in labels if row["kept"]}
    found: dict[str, list[Mapping[str, Any]]] = {name: [] for name in label}
    for vote in votes:
        name = vote["question_id"]
        wanted = name in label and vote["answer"] == label[name] and vote["finish_reason"] == "stop"
        if wanted and len(found[name]) < most:
            found[name].append(vote)
    return found


@dataclass(frozen=True)
class TrainState:
    """What is trained, with what."""

    model: Any
    processor: Any
    optimizer: torch.optim.Optimizer

    @property
    def parameters(self) -> list[Tensor]:
        """Those that are trained, in the model's order."""
        return [one for one in self.model.parameters() if one.requires_grad]


def run_training(ctx: StageContext) -> dict[str, Any]:
    """Train, resumable after a kill; writes `checkpoint/` (unchanged without examples), `metrics.jsonl`."""
    preset, settings = ctx.preset, ctx.preset.solver.grpo
    given = examples(
        artefacts.read_rows(ctx.inputs["labels"] / "labels.jsonl"),
        artefacts.read_rows(ctx.inputs["votes"] / "votes.jsonl"),
        records_by_id(ctx.inputs["images"]),
        preset.prompt_format,
        settings.group_size,
    )
    batches = plan_batches(settings, len(given))
    order = training_order(len(given), batches, derive(preset.seed, "solver", ctx.stage.iteration, "order"))
    resumed, start = resume.last_whole(ctx.work / "sft", [ctx.folder / "metrics.jsonl"]) or (None, 0)
    resume.rewind(resumed, [ctx.folder / "metrics.jsonl"])
    state = _prepare(ctx, resumed)
    _train(ctx, state, [given[index] for index in order], batches, start)
    with full_disk_as_oserror(ctx.folder):
        model = state.model
        if preset.lora is not None:
            adapters.save(model, preset.lora, ctx.folder / "adapter")
            model = adapters.merged(model, ctx.inputs["solver"])
        checkpoints.save(model, state.processor, ctx.folder / "checkpoint")
    return {
        "prompts": len(given),
        "prompts_used": batches.prompts_used,
        "generations": batches.generations,
        "steps": batches.steps,
        "imitated": sum(len(given[index].replies) for index in order),
    }


def _prepare(ctx: StageContext, resumed: Path | None) -> TrainState:
    """The Solver and its optimizer, as they were at `resumed` or as the stage found them."""
    settings, device = ctx.preset.solver.grpo, "cuda" if torch.cuda.is_available() else "cpu"
    model = _model(ctx, device)
    spare_frozen_parts(model)
    if device == "cuda":
        model.gradient_checkpointing_enable()
        model.train()  # an evaluating model keeps every activation
    groups = _parameter_groups(model, settings.weight_decay)
    kind = states.HostAdamW if ctx.preset.launch.optimizer_states == "host" else torch.optim.AdamW
    optimizer = kind(groups, lr=settings.learning_rate, fused=device == "cuda")
    if resumed is not None:
        states.load_weights(model, resumed)
        states.load_moments(model, optimizer, resumed)
    processor = thinking.load_processor(ctx.inputs["solver"], ctx.preset.engine.thinking)
    return TrainState(model, processor, optimizer)


def _parameter_groups(model: torch.nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """The trained parameters as GRPO's optimizer has them: no decay of biases and norms."""
    from transformers import Trainer

    # The Trainer's own rule, which uses nothing of a Trainer: both objectives decay the very same weights.
    decayed = frozenset(Trainer.get_decay_parameter_names(None, model))
    trained = [(name, value) for name, value in model.named_parameters() if value.requires_grad]
    return [
        {"params": [value for name, value in trained if name in decayed], "weight_decay": weight_decay},
        {"params": [value for name, value in trained if name not in decayed], "weight_decay": 0.0},
    ]


def _model(ctx: StageContext, device: str) -> Any:
    """The weights that are trained get gradients, and no others."""
    preset = ctx.preset
    if preset.lora is None:
        model = checkpoints.load_model(ctx.inputs["solver"], torch.float32, device)
        if preset.solver.grpo.freeze_vision:
            freeze_vision(model)
        return model
    seed = derive(preset.seed, "solver", ctx.stage.iteration, "adapters")
    return adapters.wrap(adapters.load_frozen(ctx.inputs["solver"], device), preset.lora, seed)


def _train(
    ctx: StageContext, state: TrainState, order: Sequence[Example], batches: Batches, start: int
) -> None:
    """The optimizer steps from `start` on, each over the next examples of `order`."""
    settings, metrics = ctx.preset.solver.grpo, ctx.folder / "metrics.jsonl"
    timer = resume.Timer(ctx.preset.launch.checkpoint_minutes)
    for step in range(start, batches.steps):
        chosen = order[step * batches.prompts_per_step : (step + 1) * batches.prompts_per_step]
        loss = _gradient(state.model, state.processor, chosen, settings.micro_batch)
        norm = float(torch.nn.utils.clip_grad_norm_(state.parameters, settings.max_grad_norm))
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise VZeroError(
                f"Fine-tuning diverged at step {step + 1}; lower the learning rate"
                " (--set solver.grpo.learning_rate)."
            )
        state.optimizer.step()
        state.optimizer.zero_grad(set_to_none=True)
        generation = step // batches.steps_per_generation + 1
        row = {"step": step + 1, "generation": generation, "loss": loss, "grad_norm": norm}
        artefacts.append_jsonl(metrics, row)
        ctx.progress.update(step + 1, batches.steps, "steps", {"loss": loss})
        rest = (step + 1) % batches.steps_per_generation
        if rest == 0 and step + 1 < batches.steps and timer.due():
            _save(ctx.work / "sft", step + 1, state, metrics)


def _gradient(model: Any, processor: Any, chosen: Sequence[Example], micro_batch: int) -> float:
    """Add the gradient of one optimizer step; its loss in nats, the mean over the replies' tokens."""
    pairs = [(example, reply) for example in chosen for reply in example.replies]
    encoded = _tokens(processor, [reply for _, reply in pairs])
    count, total, cuda = sum(map(len, encoded)), 0.0, model.device.type == "cuda"
    for begin in range(0, len(pairs), micro_batch):
        part = slice(begin, begin + micro_batch)
        ids, mask = _right_padded(encoded[part], processor.tokenizer.pad_token_id, model.device)
        inputs = _prompts(processor, [example for example, _ in pairs[part]], model.device)
        with torch.autocast(model.device.type, torch.bfloat16, enabled=cuda):
            loss = _negative_log_likelihood(model, inputs, ids, mask) / count
        torch.autograd.backward(loss)
        total += float(loss.detach())
    return total


def _negative_log_likelihood(model: Any, prompts: Mapping[str, Tensor], ids: Tensor, mask: Tensor) -> Tensor:
    """Sum over `ids` (sequences, time) where `mask` is 1, each token given the prompt and those before it."""
    width = ids.shape[1]
    joined = {"input_ids": ids, "attention_mask": mask, "mm_token_type_ids": torch.zeros_like(ids)}
    inputs = {
        name: torch.cat([value, joined[name]], 1) if name in joined else value
        for name, value in prompts.items()
    }
    logits = model(**inputs, use_cache=False, logits_to_keep=width + 1).logits[:, :-1].float()
    losses = torch.nn.functional.cross_entropy(logits.transpose(1, 2), ids, reduction="none")
    return (losses * mask).sum()


def _prompts(processor: Any, chosen: Sequence[Example], device: torch.device) -> dict[str, Tensor]:
    """What the model takes, prompts padded on the left as `checkpoints.load_processor` sets it."""
    texts = [
        processor.apply_chat_template(
            template.conversation(example.messages, with_image=True),
            tokenize=False,
            add_generation_prompt=True,
        )
        for example in chosen
    ]
    opened = {example.image.image_id: open_image(example.image) for example in chosen}
    images = [[opened[example.image.image_id]] for example in chosen]
    return dict(processor(text=texts, images=images, padding=True, return_tensors="pt").to(device))


def _tokens(processor: Any, replies: Sequence[str]) -> list[list[int]]:
    """Ids of each reply with its end of turn. A token's name spelled out in a reply stays letters: as an id
    it might end the turn early."""
    tokenizer, end = processor.tokenizer, template.end_of_turn(processor)
    ends = [tokenizer.eos_token_id if end is None else end]
    ids = tokenizer(list(replies), add_special_tokens=False, split_special_tokens=True)["input_ids"]
    return [[*one, *ends] for one in ids]


def _right_padded(rows: Sequence[list[int]], pad: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """(ids, mask), both (rows, longest row) int64."""
    ids = pad_sequence([torch.tensor(row) for row in rows], batch_first=True, padding_value=pad)
    mask = pad_sequence([torch.ones(len(row), dtype=torch.int64) for row in rows], batch_first=True)
    return ids.to(device), mask.to(device)


def _save(output: Path, step: int, state: TrainState, metrics: Path) -> None:
    """A point to resume from, beside the one before."""
    folder = output / f"checkpoint-{step}"
    resume.keep_newest(output)
    with full_disk_as_oserror(output), artefacts.atomic_folder(folder) as staging:
        states.save(state.model, state.optimizer, staging)
        resume.mark(staging, [metrics])
