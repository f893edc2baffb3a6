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

from harness.perf.flops import Shape, flops, shape_of, training_work
from harness.perf.profile import memory
from harness.perf.profile.clock import interleave, stopwatch
from harness.perf.profile.counts import Counts, Scope, counting
from harness.perf.profile.generation import drawing_work, tokens_fed
from harness.perf.profile.rows import OURS, STOCK, Measured
from harness.perf.profile.stock import replaced, stock_paths
from harness.perf.profile.workload import Recorded
from vzero.config import EngineConfig, GrpoSettings
from vzero.grpo import train as stage
from vzero.grpo.data import Prompt
from vzero.grpo.groups import Reward
from vzero.grpo.micro_batches import MicroBatch
from vzero.grpo.recorder import Phases, Recorder
from vzero.grpo.settings import Batches, plan_batches
from vzero.runtime import checkpoints
from vzero.runtime.progress import Progress

STILL = 1e-12  # times any step of Adam's, below the rounding of every weight
TRAINED = "logprobs+update"


@dataclass(frozen=True)
class Training:
    """What a role's trainer is built from; `reward` asks `votes`, where the role has votes."""

    role: str
    settings: GrpoSettings
    engine: EngineConfig
    checkpoint: Path
    prompts: Sequence[Prompt]
    reward: Reward
    votes: Recorded | None
    votes_model: tuple[Any, Shape] | None
    seed: int
    folder: Path


@dataclass
class Bench:
    """A trainer ready to run one generation batch again and again."""

    training: Training
    batches: Batches
    trainer: Any
    phases: Phases
    rollout: Recorded
    shape: Shape
    scope: Scope

    def run(self, stock: bool) -> dict[str, float]:
        """One generation batch; seconds by phase. The stock side is given our last rollouts and votes and
        draws none."""
        engines = [one for one in (self.rollout, self.training.votes) if one is not None]
        for one in engines:
            one.replay, one.seconds = stock, 0.0
        inner: Counter[str] = Counter()
        with stock_paths(self.trainer) if stock else nullcontext(), _watched(self, inner, stock):
            self.trainer.train()
        row = self.phases.row()
        voting = self.training.votes.seconds if self.training.votes and not stock else 0.0
        return {
            "rollout": row["rollout"],
            "votes": voting,
            "of which reward": row["votes"] - voting,
            "logprobs": row["logprobs"],
            "update": row["update"],
            TRAINED: row["logprobs"] + row["update"],
            **{f"of which {name}": inner[name] for name in ("images", "old", "reference")},
        }


def build(training: Training, scope: Scope) -> Bench:
    """The trainer of a stage, unchanged but for its learning rate, its length and its checkpoints."""
    settings = training.settings.model_copy(update={"learning_rate": STILL, "max_generations": 1})
    batches = plan_batches(settings, len(training.prompts))
    model = checkpoints.load_model(training.checkpoint, dtype=torch.float32, device=stage.device_name())
    processor = checkpoints.load_processor(training.checkpoint)
    phases, progress = Phases(), Progress(training.folder / "progress.jsonl")
    recorder = Recorder(training.folder, progress, phases, batches.steps_per_generation)
    job = stage.Job(
        training.role,
        1,
        training.seed,
        settings,
        training.engine,
        training.checkpoint,
        training.prompts,
        training.reward,
        training.folder,
        training.folder / "work",
        progress,
    )
    trainer = stage.build_trainer(
        job, batches, model, processor, recorder, phases
    )  # the very one the stage builds
    trainer.args.save_strategy = "no"
    rollout = Recorded(trainer.rollout.engine, scope, "rollout")
    trainer.rollout = replace(trainer.rollout, engine=rollout)
    return Bench(training, batches, trainer, phases, rollout, shape_of(model), scope)


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


def measure(
    bench: Bench, stock: bool, repetitions: int, say: Callable[[str], None]
) -> tuple[list[Measured], dict[str, Any], dict[str, dict[str, float]]]:
    """Rows of every phase, the trainer-against-rollout gap, and the median seconds of the parts named "of
    which" by side."""
    role, sides = bench.training.role, [OURS, STOCK][: 1 + stock]
    counted = {}
    gap: dict[str, Any] = {}
    for side in sides:
        say(f"grpo {role}: counting ({side})")
        bench.run(
            side == STOCK
        )  # once for what is allocated once (the optimizer's state) and must not count as anybody's peak
        with _gap(bench, gap) if side == OURS else nullcontext():
            counted[side] = _count(bench, side == STOCK)
    times = interleave(
        [lambda: bench.run(False), lambda: bench.run(True)][: len(sides)],
        repetitions,
        lambda repetition: say(f"grpo {role}: repetition {repetition} of {repetitions}"),
    )
    found, parts = [], {}
    for side, runs in zip(sides, times, strict=True):
        tally, peaks = counted[side]
        seconds = {name: [run[name] for run in runs] for name in runs[0]}
        found += _rows(bench, side, tally, peaks, seconds)
        parts[side] = {
            name.removeprefix("of which "): statistics.median(values)
            for name, values in seconds.items()
            if name.startswith("of which ")
        }
    return found, gap, parts


def _count(bench: Bench, stock: bool) -> tuple[dict[str, Counts], dict[str, float | None]]:
    models = [(bench.trainer.model, bench.shape)]
    if bench.trainer.ref_model is not None:
        models.append((bench.trainer.ref_model, bench.shape))
    if bench.training.votes_model is not None:
        models.append(bench.training.votes_model)
    with memory.peaks(bench.scope) as peaks, counting(models, bench.scope) as tally:
        bench.run(stock)
    return tally, peaks


def _rows(
    bench: Bench,
    side: str,
    tally: dict[str, Counts],
    peaks: dict[str, float | None],
    seconds: dict[str, list[float]],
) -> list[Measured]:
    found = []
    if side == OURS:
        for phase, engine in (("rollout", bench.rollout), ("votes", bench.training.votes)):
            if engine is not None and engine.rollouts:
                found.append(_drawn(bench, phase, engine, tally[phase], peaks.get(phase), seconds[phase]))
    logprobs, update = (
        _trained(bench, phase, side, tally[phase], peaks.get(phase), seconds[phase])
        for phase in ("logprobs", "update")
    )
    both = replace(
        update,
        phase=TRAINED,
        seconds=seconds[TRAINED],
        counts=Counts(
            **{name: value + getattr(update.counts, name) for name, value in vars(logprobs.counts).items()}
        ),
        real=logprobs.real + update.real,
        needed=logprobs.needed + update.needed,
        computed=logprobs.computed + update.computed,
        peak_mib=max((one.peak_mib for one in (logprobs, update) if one.peak_mib is not None), default=None),
    )
    return [*found, logprobs, update, both]


def _drawn(
    bench: Bench, phase: str, engine: Recorded, counts: Counts, peak: float | None, seconds: Sequence[float]
) -> Measured:
    pictures, sequences = _pictures(engine), _sequences(engine)
    shape = bench.training.votes_model[1] if phase == "votes" and bench.training.votes_model else bench.shape
    return Measured(
        "grpo",
        phase,
        bench.training.role,
        OURS,
        seconds,
        sum(rollout.prompt_tokens for rollout in engine.rollouts),
        sum(completion for _, completion in sequences),
        counts,
        counts.real + tokens_fed(engine.rollouts),
        pictures,
        flops(shape, drawing_work(engine.requests, engine.rollouts, counts, pictures)),
        flops(shape, counts.work),
        shape,
        peak,
    )


def _trained(
    bench: Bench, phase: str, side: str, counts: Counts, peak: float | None, seconds: Sequence[float]
) -> Measured:
    sequences, pictures, update = _sequences(bench.rollout), _pictures(bench.rollout), phase == "update"
    once = pictures / counts.images if counts.images else 0.0
    # Log-probabilities are needed of the reference, and of the old policy in all optimizer steps of the
    # generation but the first.
    passes = (
        1 if update else (bench.trainer.ref_model is not None) + 1 - 1 / bench.batches.steps_per_generation
    )
    groups = [
        (one.prompt_tokens, [len(completion.token_ids) for completion in one.completions])
        for one in bench.rollout.rollouts
    ]
    needed = training_work(groups, counts.patches * once, counts.vision_pairs * once, passes)
    recomputed = update and bool(getattr(bench.trainer.model, "is_gradient_checkpointing", False))
    return Measured(
        "grpo",
        phase,
        bench.training.role,
        side,
        seconds,
        sum(prompt for prompt, _ in sequences),
        sum(completion for _, completion in sequences),
        counts,
        counts.real,
        pictures,
        flops(bench.shape, needed, backward=update),
        flops(bench.shape, counts.work, update, recomputed),
        bench.shape,
        peak,
    )


def _sequences(engine: Recorded) -> list[tuple[int, int]]:
    return [
        (rollout.prompt_tokens, len(one.token_ids))
        for rollout in engine.rollouts
        for one in rollout.completions
    ]


def _pictures(engine: Recorded) -> int:
    return len({id(request.image) for request in engine.requests})


@contextmanager
def _gap(bench: Bench, found: dict[str, Any]) -> Iterator[None]:
    """Compare the log-probabilities that our engine drew with against the trainer's own, while one batch
    runs."""
    trainer = bench.trainer
    prepare = trainer._prepare_inputs

    def watched(batch: Any) -> Any:
        inputs = prepare(batch)
        if not found:
            found.update(logprob_gap(bench.rollout.rollouts, trainer._buffered_inputs))
        return inputs

    with replaced(trainer, {"_prepare_inputs": watched}):
        yield


def logprob_gap(rollouts: Sequence[Any], micro_batches: Sequence[MicroBatch]) -> dict[str, Any]:
    """Mean and largest |difference| a token between engine and trainer, in nats; see docs/performance.md for
    what it holds.

    The reference stands in where no old log-probabilities are computed: it holds the same weights here.
    `tokens` is 0, and the others None, where the trainer computes neither or no longer keeps sequences in the
    order of the rollouts.
    """
    drawn = iter([one for rollout in rollouts for one in rollout.completions])
    nothing = {"mean": None, "max": None, "tokens": 0}
    differences = []
    for batch in micro_batches:
        values = batch.ref_log_probs if batch.old_log_probs is None else batch.old_log_probs
        if values is None:
            return nothing
        for ids, mine in zip(batch.completion_ids.tolist(), values.tolist(), strict=True):
            one = next(drawn, None)
            if one is None or tuple(ids[: len(one.token_ids)]) != one.token_ids:
                return nothing
            differences += [abs(a - b) for a, b in zip(one.logprobs, mine, strict=False)]
    if next(drawn, None) is not None:
        return nothing
    return {"mean": sum(differences) / len(differences), "max": max(differences), "tokens": len(differences)}
