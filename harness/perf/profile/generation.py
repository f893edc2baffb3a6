"""Question rollouts and votes: one engine call of the shape that a stage makes, against `generate` with n
separate prompts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from harness.perf.flops import Shape, Work, flops, generation_work
from harness.perf.profile import memory
from harness.perf.profile.clock import interleave, now
from harness.perf.profile.counts import Counts, Scope, counting
from harness.perf.profile.rows import OURS, STOCK, Measured
from harness.perf.profile.stock import generate_separately
from vzero.config import SamplingConfig
from vzero.rollout.protocol import Request, Rollout


@dataclass(frozen=True)
class Drawing:
    """One generation phase: who is asked what, and how."""

    phase: str
    role: str
    engine: Any
    model: Any
    processor: Any
    shape: Shape
    requests: Sequence[Request]
    sampling: SamplingConfig
    seed: int

    def ours(self) -> list[Rollout]:
        """By our engine."""
        return self.engine.generate(self.requests, self.sampling)

    def stock(self, batch: int) -> list[Rollout]:
        """By `generate`."""
        return generate_separately(
            self.model,
            self.processor,
            self.requests,
            self.sampling,
            batch,
            sorted(self.engine.forbidden),
            self.seed,
        )


def measure(
    drawing: Drawing, stock_batch: int | None, repetitions: int, say: Callable[[str], None]
) -> tuple[list[Measured], list[Rollout]]:
    """The phase on one or two sides (`stock_batch` None: only ours), and our rollouts."""
    sides: dict[str, Callable[[], list[Rollout]]] = {OURS: drawing.ours}
    if stock_batch is not None:
        sides[STOCK] = lambda: drawing.stock(stock_batch)
    counted = {}
    for name, side in sides.items():
        say(f"{drawing.phase}: counting ({name})")
        side()  # once for what is loaded and allocated once
        counted[name] = _count(drawing, side)
    times = interleave(
        [_timed(side) for side in sides.values()],
        repetitions,
        lambda repetition: say(f"{drawing.phase}: repetition {repetition} of {repetitions}"),
    )
    found = [
        _measured(drawing, name, *counted[name], seconds) for name, seconds in zip(sides, times, strict=True)
    ]
    return found, counted[OURS][0]


def _timed(side: Callable[[], list[Rollout]]) -> Callable[[], float]:
    def call() -> float:
        start = now()
        side()
        return now() - start

    return call


def _count(drawing: Drawing, side: Callable[[], list[Rollout]]) -> tuple[list[Rollout], Counts, float | None]:
    scope = Scope("draw")
    with memory.peaks(scope) as peaks, counting([(drawing.model, drawing.shape)], scope) as tally:
        rollouts = side()
    return rollouts, tally["draw"], peaks.get("draw")


def _measured(
    drawing: Drawing,
    side: str,
    rollouts: Sequence[Rollout],
    counts: Counts,
    peak: float | None,
    seconds: Sequence[float],
) -> Measured:
    pictures = len({id(request.image) for request in drawing.requests if request.image is not None})
    needed = flops(drawing.shape, drawing_work(drawing.requests, rollouts, counts, pictures))
    return Measured(
        drawing.phase,
        drawing.phase,
        drawing.role,
        side,
        seconds,
        prompt_tokens=sum(rollout.prompt_tokens for rollout in rollouts),
        completion_tokens=sum(len(one.token_ids) for rollout in rollouts for one in rollout.completions),
        counts=counts,
        real=counts.real + tokens_fed(rollouts),
        pictures=pictures,
        needed=needed,
        computed=flops(drawing.shape, counts.work),
        shape=drawing.shape,
        peak_mib=peak,
    )


def drawing_work(
    requests: Sequence[Request], rollouts: Sequence[Rollout], counts: Counts, pictures: int
) -> Work:
    """The work that one engine call needed."""
    sequences = [
        (rollout.prompt_tokens, len(one.token_ids)) for rollout in rollouts for one in rollout.completions
    ]
    prompts = {
        (request.messages, id(request.image)): rollout.prompt_tokens
        for request, rollout in zip(requests, rollouts, strict=True)
    }
    once = pictures / counts.images if counts.images else 0.0
    return generation_work(prompts.values(), sequences, counts.patches * once, counts.vision_pairs * once)


def tokens_fed(rollouts: Sequence[Rollout]) -> int:
    """Drawn tokens that go back into the model: all but the last of each completion."""
    return sum(len(one.token_ids) - 1 for rollout in rollouts for one in rollout.completions)
