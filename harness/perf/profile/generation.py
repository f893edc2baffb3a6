"""Question rollouts and votes: one engine call of the shape that a stage makes, against `generate` with n
separate prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from harness.cost.flops import Shape, Work, flops, generation_work, shape_of
from harness.perf.profile import memory
from harness.perf.profile.clock import interleave, timed
from harness.perf.profile.counts import Counts, Scope, counting
from harness.perf.profile.results import OURS, STOCK, Measured, Target
from harness.perf.profile.stock import generate_separately
from vzero.config import SamplingConfig
from vzero.rollout.protocol import Request, Rollout
from vzero.rollout.transformers_engine import TransformersEngine


@dataclass(frozen=True)
class Generation:
    """One generation phase: who is asked what, and how."""

    phase: Target
    role: str
    engine: TransformersEngine
    requests: Sequence[Request]
    sampling: SamplingConfig
    seed: int

    def ours(self) -> list[Rollout]:
        """By our engine."""
        return self.engine.generate(self.requests, self.sampling)

    def stock(self, batch: int) -> list[Rollout]:
        """By `generate`, `batch` completions together."""
        return generate_separately(self.engine, self.requests, self.sampling, batch, self.seed)


def measure(
    generation: Generation, stock_batch: int | None, repetitions: int, say: Callable[[str], None]
) -> tuple[list[Measured], list[Rollout]]:
    """The phase on one or two sides (`stock_batch` None: only ours), and our rollouts."""
    sides: dict[str, Callable[[], list[Rollout]]] = {OURS: generation.ours}
    if stock_batch is not None:
        sides[STOCK] = lambda: generation.stock(stock_batch)
    phase, role, model = generation.phase, generation.role, generation.engine.model
    shape, counted = shape_of(model), {}
    for name, side in sides.items():
        say(f"{phase}: counting ({name})")
        side()  # once for what is loaded and allocated once
        scope = Scope(phase)
        with memory.peaks(scope) as peaks, counting([(model, shape)], scope) as tally:
            rollouts = side()
        counted[name] = Drawn(generation.requests, rollouts, tally[phase], peaks.get(phase))
    times = interleave(
        [partial(_seconds, side) for side in sides.values()],
        repetitions,
        lambda repetition: say(f"{phase}: repetition {repetition} of {repetitions}"),
    )
    found = [
        counted[name].measured(phase, phase, role, name, seconds, shape)
        for name, seconds in zip(sides, times, strict=True)
    ]
    return found, counted[OURS].rollouts


def _seconds(side: Callable[[], object]) -> float:
    return timed(side)[0]


@dataclass(frozen=True)
class Drawn:
    """What an engine was asked, what it drew, and what was counted meanwhile; `peak` in MiB."""

    requests: Sequence[Request]
    rollouts: list[Rollout]
    counts: Counts
    peak: float | None

    def measured(
        self, target: Target, phase: str, role: str, side: str, seconds: Sequence[float], shape: Shape
    ) -> Measured:
        """As a phase of the profile."""
        drawn = [completion for _, completion in lengths(self.rollouts)]
        return Measured(
            target=target,
            phase=phase,
            role=role,
            side=side,
            seconds=tuple(seconds),
            prompt_tokens=sum(rollout.prompt_tokens for rollout in self.rollouts),
            completion_tokens=sum(drawn),
            counts=self.counts,
            # A completion's last token is not fed back.
            real_positions=self.counts.real + sum(drawn) - len(drawn),
            pictures=pictures(self.requests),
            flops_needed=flops(shape, self._needed()),
            flops_computed=flops(shape, self.counts.work),
            shape=shape,
            peak_mib=self.peak,
        )

    def _needed(self) -> Work:
        counts = self.counts
        prompts = {
            (request.messages, id(request.image)): rollout.prompt_tokens
            for request, rollout in zip(self.requests, self.rollouts, strict=True)
        }
        once = pictures(self.requests) / counts.images if counts.images else 0.0
        encoded = counts.patches * once, counts.vision_pairs * once
        return generation_work(prompts.values(), lengths(self.rollouts), *encoded)


def lengths(rollouts: Sequence[Rollout]) -> list[tuple[int, int]]:
    """Tokens of the prompt and of the completion, of every completion."""
    return [(one.prompt_tokens, len(drawn.token_ids)) for one in rollouts for drawn in one.completions]


def pictures(requests: Sequence[Request]) -> int:
    """Distinct ones."""
    return len({id(request.image) for request in requests if request.image is not None})
