"""What a training stage writes down: numbers that depend on the run alone, and seconds that depend on the
machine, apart."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from vzero.errors import VZeroError
from vzero.grpo import parity
from vzero.grpo.group_sharding import GroupSharding
from vzero.runtime import artefacts, processes
from vzero.runtime.progress import Progress

ROLLOUTS = "rollouts.jsonl"
STEP_KEYS = {
    "loss": "loss",
    "kl": "kl",
    "grad_norm": "grad_norm",
    "clip_ratio": "clip_ratio/region_mean",
    "entropy": "entropy",
}
GENERATION_KEYS = {
    "reward": "reward",
    "reward_std": "reward_std",
    "completion_tokens": "completions/mean_length",
    "truncated": "completions/clipped_ratio",
    "unanimous": "frac_reward_zero_std",
    "logprob_gap": parity.METRIC,
}


@dataclass
class Phases:
    """Seconds and tokens of one generation batch by phase."""

    seconds: Counter[str] = field(default_factory=Counter)
    tokens: Counter[str] = field(default_factory=Counter)

    @contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Add the time spent inside to phase `name`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] += time.perf_counter() - start

    @property
    def tokens_per_second(self) -> float:
        """Tokens drawn (rollouts and votes) by second of drawing; 0 before the first."""
        drawing = self.seconds["rollout"] + self.seconds["votes"]
        return sum(self.tokens.values()) / drawing if drawing else 0.0

    def row(self) -> dict[str, float]:
        """Disjoint phases: rollout, votes, logprobs (the old policy's and the reference's), update (forward,
        backward, optimizer)."""
        seconds = self.seconds
        phases = {
            "rollout": seconds["rollout"],
            "votes": seconds["votes"],
            "logprobs": seconds["experience"] - seconds["rollout"] - seconds["votes"],
            "update": seconds["step"] - seconds["experience"],
            "total": seconds["step"],
        }
        return {
            **{name: round(value, 4) for name, value in phases.items()},
            "rollout_tokens": self.tokens["rollout"],
            "vote_tokens": self.tokens["votes"],
        }


class Recorder(TrainerCallback):
    """Appends one row to `metrics.jsonl` an optimizer step, one to `timings.jsonl` a generation, one to
    `rollouts.jsonl` a completion, and tells the watcher. Of several processes the first writes: everybody's
    completions, and its own seconds, waiting for others included."""

    def __init__(self, folder: Path, progress: Progress, phases: Phases, steps_per_generation: int) -> None:
        self._deal = GroupSharding(steps_per_generation, processes.world())
        self.metrics, self.timings, self.rollouts = (
            folder / "metrics.jsonl",
            folder / artefacts.TIMINGS,
            folder / ROLLOUTS,
        )
        self.progress, self.phases, self.per_generation = progress, phases, steps_per_generation
        self._step_started = 0.0
        self._of_generation: dict[str, float | None] = {}
        self.scores: Mapping[
            str, float | None
        ] = {}  # what the reward said about the current generation, beyond the reward
        self.drawn: list[
            dict[str, Any]
        ] = []  # rows of the current generation's completions, without their advantages

    def rewind(self, step: int) -> None:
        """Forget what was written after optimizer step `step`, which training resumes from."""
        if not self._deal.world.first:
            return
        generation = step // self.per_generation
        for path, limit, key in (
            (self.metrics, step, "step"),
            (self.timings, generation, "generation"),
            (self.rollouts, generation, "generation"),
        ):
            rows = artefacts.read_jsonl(path) if path.exists() else []
            artefacts.write_jsonl(path, [row for row in rows if row[key] <= limit])

    def record_rollouts(self, advantages: Sequence[float]) -> None:
        """Write the completions of the current generation, each with the advantage that weighs its tokens in
        the loss, and count their tokens. All processes must come here, each with its own.

        Raises:
            VZeroError: not one advantage a completion, or a reward or advantage that is no number.
        """
        if len(advantages) != len(self.drawn):
            raise VZeroError(
                f"{len(advantages)} advantages for {len(self.drawn)} completions; the trainer's batch is no longer in order."
            )
        if not all(map(math.isfinite, [*advantages, *(row["reward"] for row in self.drawn)])):
            raise VZeroError(
                "Training diverged: a reward or an advantage is not a finite number; look at the reward function."
            )
        rows = self._deal.whole(
            [{**row, "advantage": value} for row, value in zip(self.drawn, advantages, strict=True)]
        )
        self.phases.tokens["rollout"] = sum(row["tokens"] for row in rows)
        self.phases.tokens["votes"] = sum(processes.all_gather_object(self.phases.tokens["votes"]))
        if self._deal.world.first:
            artefacts.append_jsonl(self.rollouts, *rows)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """Before the first micro-batch of an optimizer step is generated or fetched."""
        if state.global_step % self.per_generation == 0:
            self.phases.seconds.clear()
            self.phases.tokens.clear()
        self._step_started = time.perf_counter()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: object
    ) -> None:
        """After the optimizer has stepped."""
        self.phases.seconds["step"] += time.perf_counter() - self._step_started
        if state.global_step % self.per_generation == 0 and self._deal.world.first:
            artefacts.append_jsonl(
                self.timings, {"generation": state.global_step // self.per_generation, **self.phases.row()}
            )

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **_: object,
    ) -> None:
        """TRL reports the numbers of a generation at its first optimizer step only; rows of its other steps
        repeat them."""
        if not logs or "loss" not in logs:
            return
        if "reward" in logs:
            self._of_generation = {name: logs.get(key) for name, key in GENERATION_KEYS.items()} | dict(
                self.scores
            )
        row = {
            "step": state.global_step,
            "generation": (state.global_step - 1) // self.per_generation + 1,
            **{name: logs.get(key) for name, key in STEP_KEYS.items()},
            **self._of_generation,
        }
        broken = [
            name for name, value in row.items() if isinstance(value, float) and not math.isfinite(value)
        ]
        if broken:
            raise VZeroError(
                f"Training diverged at optimizer step {state.global_step}: {', '.join(broken)} is not a finite number; "
                "lower the learning rate (--set *.grpo.learning_rate) or the gradient norm limit."
            )
        if not self._deal.world.first:
            return
        artefacts.append_jsonl(self.metrics, row)
        self.progress.update(
            state.global_step,
            state.max_steps,
            "steps",
            {"reward": row.get("reward") or 0.0, "tokens_per_second": self.phases.tokens_per_second},
        )
