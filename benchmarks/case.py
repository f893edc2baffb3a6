"""One comparison: the same work done by this project and by the stock libraries."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.cost.flops import shape_of
from harness.perf.profile.counts import Counts, Scope, counting
from vzero.rollout.protocol import Rollout


class Unfit(Exception):
    """A benchmark that this machine cannot run; the message is the reason that the table gives."""


@dataclass(frozen=True)
class Case:
    """Two ways to the same end.

    Attributes:
        ours, stock: do the work once and say how much was done, in `unit`s. Seconds are compared by unit,
            since two samplers may draw completions of different lengths.
        ours_is, stock_is: which code runs, in a few words.
        unit: what is counted, singular.
        workload: sizes that the time depends on.
        models: whose forward passes are counted during the warm-up.
        difference: largest absolute difference of what the two sides compute, where they compute the same; it
            must not exceed `tolerance`.
    """

    ours: Callable[[], float]
    stock: Callable[[], float]
    ours_is: str
    stock_is: str
    unit: str
    workload: Mapping[str, Any]
    models: Sequence[Any] = ()
    difference: Callable[[], float] | None = None
    tolerance: float = 1e-4
    notes: Sequence[str] = field(default_factory=tuple)


def count(case: Case, side: Callable[[], float]) -> tuple[float, Counts]:
    """Do one side's work once: how much it was, and what the models computed for it."""
    scope = Scope("side")
    with counting([(model, shape_of(model)) for model in case.models], scope) as tally:
        work = side()
    return work, tally["side"]


def drawn_tokens(rollouts: Iterable[Rollout]) -> int:
    """Of all completions."""
    return sum(len(one.token_ids) for rollout in rollouts for one in rollout.completions)


def padding_factor(counts: Counts) -> float | None:
    """Positions computed outside of decoding for each that holds a token; None where nothing was counted."""
    return (counts.positions - counts.decode_positions) / counts.real if counts.real else None
