"""What a training stage writes down: numbers that depend on the run alone, and seconds that depend on the
machine, apart."""

from __future__ import annotations

import math
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerState

from vzero.errors import VZeroError
from vzero.grpo import parity, resume
from vzero.grpo.group_sharding import GroupSharding
from vzero.grpo.groups import Group, Scores
from vzero.runtime import artefacts, processes
from vzero.runtime.progress import Progress

ROLLOUTS = "rollouts.jsonl"
# Columns of metrics.jsonl by TRL's names: of each optimizer step, and of a generation batch.
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

    seconds: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
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
        tokens = {"rollout_tokens": self.tokens["rollout"], "vote_tokens": self.tokens["votes"]}
        return {**{name: round(value, 4) for name, value in phases.items()}, **tokens}


class Recorder(TrainerCallback):
    """Appends a row to `metrics.jsonl` for each optimizer step, to `timings.jsonl` for each generation, to
    `rollouts.jsonl` for each completion, and tells the watcher. Of several processes the first writes:
    everybody's completions, and its own seconds, waiting for others included."""

    def __init__(self, folder: Path, progress: Progress, phases: Phases, steps_per_generation: int) -> None:
        self.metrics = folder / "metrics.jsonl"
        self.timings = folder / artefacts.TIMINGS
        self.rollouts = folder / ROLLOUTS
        self.progress, self.phases, self.per_generation = progress, phases, steps_per_generation
        self._sharding = GroupSharding(steps_per_generation, processes.world())
        self._writes = self._sharding.world.first
        self._step_started = 0.0
        self._of_generation: Mapping[str, float | None] = {}
        self._scores: Mapping[str, float | None] = {}  # the reward's own metrics of this generation

    @property
    def rows(self) -> tuple[Path, ...]:
        """The files that are appended to."""
        return self.metrics, self.timings, self.rollouts

    def rewind(self, checkpoint: Path | None) -> None:
        """Forget what was written after the checkpoint that training resumes from."""
        if self._writes:
            resume.rewind(checkpoint, self.rows)

    def record(
        self, groups: Sequence[Group], scores: Scores, advantages: Sequence[Sequence[float]], generation: int
    ) -> None:
        """Write the completions of a generation batch, and count its tokens. All processes must come here,
        each with its own.

        Args:
            advantages: of each group's completions, as they weigh their tokens in the loss.
            generation: from 0; rows count from 1, as in metrics.jsonl.

        Raises:
            VZeroError: a reward or advantage that is no number.
        """
        rows = [
            {**row, "advantage": value}
            for row, value in zip(
                rollout_rows(groups, scores, generation + 1),
                (a for of in advantages for a in of),
                strict=True,
            )
        ]
        if not all(math.isfinite(row[name]) for row in rows for name in ("reward", "advantage")):
            raise VZeroError(
                "Training diverged: a reward or an advantage is not a finite number; look at the reward."
            )
        everyone = self._sharding.all_gather(rows)
        self.phases.tokens["rollout"] = sum(row["tokens"] for row in everyone)
        self.phases.tokens["votes"] = sum(processes.all_gather_object(scores.vote_tokens))
        unfinished = [not row["text"] for row in everyone if "thought" in row]
        share = {"unfinished_thoughts": sum(unfinished) / len(everyone)} if unfinished else {}
        self._scores = {**scores.metrics, **share}
        if self._writes:
            artefacts.append_jsonl(self.rollouts, *everyone)

    def on_train_begin(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        """When all is loaded: the rate of the steps is counted from here."""
        if self._writes:
            self.progress.update(state.global_step, state.max_steps, "steps")

    def on_step_begin(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        """Before the first micro-batch of an optimizer step is generated or fetched."""
        if state.global_step % self.per_generation == 0:
            self.phases.seconds.clear()
            self.phases.tokens.clear()
        self._step_started = time.perf_counter()

    def on_step_end(self, args: Any, state: TrainerState, control: Any, **_: Any) -> None:
        """After the optimizer has stepped."""
        self.phases.seconds["step"] += time.perf_counter() - self._step_started
        generation, rest = divmod(state.global_step, self.per_generation)
        if rest == 0 and self._writes:
            artefacts.append_jsonl(self.timings, {"generation": generation, **self.phases.row()})

    def on_log(
        self, args: Any, state: TrainerState, control: Any, logs: dict[str, Any] | None = None, **_: Any
    ) -> None:
        """The numbers of a generation are reported at its first optimizer step only; rows of its other steps
        repeat them."""
        if not logs or "loss" not in logs:  # Hugging Face's summary at the end
            return
        if "reward" in logs:
            of_trl = {name: logs.get(key) for name, key in GENERATION_KEYS.items()}
            self._of_generation = {**of_trl, **self._scores}
        row = {
            "step": state.global_step,
            "generation": (state.global_step - 1) // self.per_generation + 1,
            **{name: logs.get(key) for name, key in STEP_KEYS.items()},
            **self._of_generation,
        }
        _refuse_divergence(row)
        if not self._writes:
            return
        artefacts.append_jsonl(self.metrics, row)
        speed = {"reward": row.get("reward") or 0.0, "tokens_per_second": self.phases.tokens_per_second}
        self.progress.update(state.global_step, state.max_steps, "steps", speed)


def _refuse_divergence(row: Mapping[str, Any]) -> None:
    broken = [name for name, value in row.items() if isinstance(value, float) and not math.isfinite(value)]
    if broken:
        raise VZeroError(
            f"Training diverged at optimizer step {row['step']}: {', '.join(broken)} is not a finite number; "
            "lower the learning rate (--set *.grpo.learning_rate) or the gradient norm limit."
        )


def rollout_rows(groups: Sequence[Group], scores: Scores, generation: int) -> list[dict[str, Any]]:
    """What was drawn and what it earned, one row a completion in order.

    Raises:
        ValueError: the reward scored another number of completions.
    """
    return [
        {
            "generation": generation,
            "prompt": group.prompt.key,
            "index": i,
            "tokens": len(one.token_ids),
            "finish_reason": one.finish_reason,
            "text": one.text,
            **({"thought": one.thought} if one.thought else {}),
            "label": group.prompt.label,
            **(scores.reward_inputs[g][i] if scores.reward_inputs is not None else {}),
            "reward": reward,
        }
        for g, (group, rewards) in enumerate(zip(groups, scores.rewards, strict=True))
        for i, (one, reward) in enumerate(zip(group.completions, rewards, strict=True))
    ]
