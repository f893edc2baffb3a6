"""One GRPO generation batch of one role, by the trainer that the stages build, against TRL's own forward
paths on the same rollouts.

The learning rate is so small that no weight changes, so every repetition does the same work on the same
rollouts.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from harness.cost.flops import Shape, flops, shape_of, training_work
from harness.cost.meter import scoring_passes
from harness.perf.profile import memory
from harness.perf.profile.clock import interleave, stopwatch
from harness.perf.profile.counts import Counts, Scope, Tally, counting
from harness.perf.profile.generation import Drawn, lengths, pictures
from harness.perf.profile.logprobs import logprob_gap
from harness.perf.profile.results import OURS, STOCK, LogprobGap, Measured
from harness.perf.profile.stock import replaced, stock_paths
from harness.perf.profile.workload import Recorded
from vzero.config import EngineConfig, GrpoSettings, LoraConfig
from vzero.grpo import adapters
from vzero.grpo import train as stage
from vzero.grpo.data import Prompt
from vzero.grpo.groups import Reward
from vzero.grpo.recorder import Phases, Recorder
from vzero.grpo.settings import Batches, plan_batches
from vzero.grpo.train import device_name
from vzero.rollout import thinking
from vzero.runtime import checkpoints
from vzero.runtime.progress import Progress

STILL = 1e-12  # times any step of Adam's, below the rounding of every weight
TRAINED = "logprobs+update"
WITHIN = ("reward", "images", "old", "reference")  # timed by themselves, see docs/performance.md


@dataclass(frozen=True)
class Training:
    """What a role's trainer is built from; `reward` asks `votes`, where the role has votes; `lora`: adapters
    to train in place of the weights."""

    role: str
    settings: GrpoSettings
    engine: EngineConfig
    checkpoint: Path
    prompts: Sequence[Prompt]
    reward: Reward
    seed: int
    folder: Path
    scope: Scope
    votes: Recorded | None = None
    lora: LoraConfig | None = None


@dataclass
class Bench:
    """A trainer ready to run one generation batch again and again."""

    training: Training
    batches: Batches
    trainer: Any
    phases: Phases
    rollout: Recorded
    shape: Shape

    @property
    def scope(self) -> Scope:
        return self.training.scope

    def run(self, stock: bool) -> dict[str, float]:
        """One generation batch; seconds by phase, and of what is timed within them. The stock side is given
        our last rollouts and votes and draws none."""
        votes = self.training.votes
        for one in (self.rollout, votes):
            if one is not None:
                one.replay, one.seconds = stock, 0.0
        inner: Counter[str] = Counter()
        with stock_paths(self.trainer) if stock else nullcontext(), _watched(self, inner, stock):
            self.trainer.train()
        row = self.phases.row()
        voting = votes.seconds if votes is not None and not stock else 0.0
        return {
            "rollout": row["rollout"],
            "votes": voting,
            "logprobs": row["logprobs"],
            "update": row["update"],
            TRAINED: row["logprobs"] + row["update"],
            "reward": row["votes"] - voting,
            **{name: inner[name] for name in WITHIN[1:]},
        }


def build(training: Training) -> Bench:
    """The trainer of a stage, unchanged but for its learning rate, its length and its checkpoints."""
    settings = training.settings.model_copy(update={"learning_rate": STILL, "max_generations": 1})
    batches = plan_batches(settings, len(training.prompts))
    if training.lora is None:
        model = checkpoints.load_model(training.checkpoint, dtype=torch.float32, device=device_name())
    else:
        model = adapters.load_frozen(training.checkpoint, device_name())
    processor = thinking.load_processor(training.checkpoint, training.engine.thinking)
    phases, progress = Phases(), Progress(training.folder / "progress.jsonl")
    recorder = Recorder(training.folder, progress, phases, batches.steps_per_generation)
    job = stage.Job(
        role=training.role,
        iteration=1,
        seed=training.seed,
        settings=settings,
        engine=training.engine,
        checkpoint=training.checkpoint,
        prompts=training.prompts,
        reward=training.reward,
        folder=training.folder,
        work=training.folder / "work",
        progress=progress,
        lora=training.lora,
    )
    # The very one that the stage builds.
    trainer: Any = stage.build_trainer(job, batches, model, processor, recorder, phases)
    trainer.args.save_strategy = "no"
    rollout = Recorded(trainer.rollout.engine, training.scope, "rollout")
    trainer.rollout = replace(trainer.rollout, engine=rollout)
    shape = replace(shape_of(model), text_trained=training.lora is None)
    return Bench(training, batches, trainer, phases, rollout, shape)


@contextmanager
def _watched(bench: Bench, inner: Counter[str], stock: bool) -> Iterator[None]:
    """Tell phases apart, time the passes within them, and time what TRL's own `_prepare_inputs` would not."""
    trainer, scope, phases = bench.trainer, bench.scope, bench.phases
    scores = "_get_per_token_logps_and_entropies" if stock else "log_probs"
    prepare, score = trainer._prepare_inputs, getattr(trainer, scores)
    process = trainer.processing_class.image_processor.preprocess

    def preparing(batch: Any) -> Any:
        with scope.inside("logprobs"), phases.measure("experience") if stock else nullcontext():
            return prepare(batch)

    def scoring(model: Any, *args: Any, **named: Any) -> Any:
        if torch.is_grad_enabled():
            return score(model, *args, **named)
        name = "reference" if model is trainer.ref_model else "old"
        with stopwatch(lambda seconds: inner.update({name: seconds})):
            return score(model, *args, **named)

    def processing(*args: Any, **named: Any) -> Any:
        with stopwatch(lambda seconds: inner.update({"images": seconds})):
            return process(*args, **named)

    with (
        replaced(trainer, {"_prepare_inputs": preparing, scores: scoring}),
        replaced(trainer.processing_class.image_processor, {"preprocess": processing}),
        scope.inside("update"),
    ):
        yield


Parts = dict[str, dict[str, float]]  # seconds by side and name of WITHIN


def measure(
    bench: Bench, stock: bool, repetitions: int, say: Callable[[str], None]
) -> tuple[list[Measured], LogprobGap, Parts]:
    """Rows of every phase, the trainer-against-rollout gap, and medians of what is timed within."""
    role, sides = bench.training.role, [OURS, STOCK][: 1 + stock]
    counted: dict[str, tuple[Tally, memory.Peaks]] = {}
    gap = LogprobGap()
    for side in sides:
        say(f"grpo {role}: counting ({side})")
        # Once for what is allocated once (the optimizer's state) and must not count as anybody's peak.
        bench.run(side == STOCK)
        counted[side] = _count(bench, side == STOCK)
        if side == OURS:
            gap = logprob_gap(bench.rollout.rollouts, bench.trainer._batches)
    times = interleave(
        [lambda: bench.run(False), lambda: bench.run(True)][: len(sides)],
        repetitions,
        lambda repetition: say(f"grpo {role}: repetition {repetition} of {repetitions}"),
    )
    found, parts = [], {}
    for side, runs in zip(sides, times, strict=True):
        seconds = {name: [run[name] for run in runs] for name in runs[0]}
        found += _phases(bench, side, *counted[side], seconds)
        parts[side] = {name: statistics.median(seconds[name]) for name in WITHIN}
    return found, gap, parts


def _count(bench: Bench, stock: bool) -> tuple[Tally, memory.Peaks]:
    votes, models = bench.training.votes, [(bench.trainer.model, bench.shape)]
    for frozen in (bench.trainer.ref_model, votes.engine.model if votes is not None else None):
        if frozen is not None:
            models.append((frozen, shape_of(frozen)))
    with memory.peaks(bench.scope) as peaks, counting(models, bench.scope) as tally:
        bench.run(stock)
    return tally, peaks


def _phases(
    bench: Bench, side: str, tally: Tally, peaks: memory.Peaks, seconds: dict[str, list[float]]
) -> list[Measured]:
    found, role = [], bench.training.role
    if side == OURS:
        for one in (bench.rollout, bench.training.votes):
            if one is not None and one.rollouts:
                drawn = Drawn(one.requests, list(one.rollouts), tally[one.phase], peaks.get(one.phase))
                shape = shape_of(one.engine.model)
                found.append(drawn.measured("grpo", one.phase, role, OURS, seconds[one.phase], shape))
    logprobs, update = (
        _trained(bench, phase, side, tally[phase], peaks.get(phase), seconds[phase])
        for phase in ("logprobs", "update")
    )
    known = [one.peak_mib for one in (logprobs, update) if one.peak_mib is not None]
    sums = {
        "phase": TRAINED,
        "seconds": tuple(seconds[TRAINED]),
        "counts": logprobs.counts + update.counts,
        "real_positions": logprobs.real_positions + update.real_positions,
        "flops_needed": logprobs.flops_needed + update.flops_needed,
        "flops_computed": logprobs.flops_computed + update.flops_computed,
        "peak_mib": max(known, default=None),
    }
    return [*found, logprobs, update, update.model_copy(update=sums)]


def _trained(
    bench: Bench, phase: str, side: str, counts: Counts, peak: float | None, seconds: Sequence[float]
) -> Measured:
    rollouts, distinct, update = bench.rollout.rollouts, pictures(bench.rollout.requests), phase == "update"
    once = distinct / counts.images if counts.images else 0.0
    scored = scoring_passes(bench.training.settings, bench.batches.steps_per_generation)
    groups = [
        (rollout.prompt_tokens, [len(one.token_ids) for one in rollout.completions]) for rollout in rollouts
    ]
    encoded = counts.patches * once, counts.vision_pairs * once
    needed = training_work(groups, *encoded, 1 if update else scored)
    recomputed = update and bool(getattr(bench.trainer.model, "is_gradient_checkpointing", False))
    return Measured(
        target="grpo",
        phase=phase,
        role=bench.training.role,
        side=side,
        seconds=tuple(seconds),
        prompt_tokens=sum(prompt for prompt, _ in lengths(rollouts)),
        completion_tokens=sum(completion for _, completion in lengths(rollouts)),
        counts=counts,
        real_positions=counts.real,
        pictures=distinct,
        flops_needed=flops(bench.shape, needed, backward=update),
        flops_computed=flops(bench.shape, counts.work, update, recomputed),
        shape=bench.shape,
        peak_mib=peak,
    )
