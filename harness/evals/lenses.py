"""Answers judged, and what several answers to one item come to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean

from harness import scoring
from harness.evals.catalogue import Suite
from harness.scoring import Item, Reading, ScoredResponse, read
from vzero.prompts import parse_answer
from vzero.voting import tally

Extractor = Callable[[Item, str, str | None], Reading]
METRICS = ("verified", "parsed", "majority", "any_correct")


def judge(
    suite: Suite, item: Item, text: str, finish_reason: str | None = None, extractor: Extractor = read
) -> ScoredResponse:
    """The verified lens on one answer. `parse_answer` alone reads answers to a drawn suite: it is what counts
    the votes in training."""
    if not suite.drawn:
        return scoring.judge(item, extractor(item, text, finish_reason))
    letter = parse_answer(text)
    return scoring.judge(item, Reading((letter,), "box") if letter else Reading())


def named(one: ScoredResponse) -> str | None:
    """The answer as it votes; None where none could be read."""
    return ", ".join(one.reading.found) or None


def majority(judged: Sequence[ScoredResponse]) -> ScoredResponse | None:
    """A response with the most frequent answer: ties go to the answer seen first, unread ones do not vote."""
    names = [named(one) for one in judged]
    chosen = tally(names).answer
    return None if chosen is None else judged[names.index(chosen)]


def metrics(judged: Sequence[ScoredResponse]) -> dict[str, float]:
    """One item's `METRICS` over its answers; official verdicts are made later, of greedy answers alone."""
    chosen = majority(judged)
    return {
        "verified": fmean(one.verified for one in judged),
        "parsed": fmean(bool(one.reading.found) for one in judged),
        "majority": float(chosen is not None and chosen.verified),
        "any_correct": float(any(one.verified for one in judged)),
    }
