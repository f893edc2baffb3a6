"""The phases of one iteration over simulated lengths: operations and GPU-seconds of stock libraries and of
ours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from harness.perf.profile.cost.assumptions import Card, Role, Workload
from harness.perf.profile.cost.drawing import Drawing, separate, shared
from harness.perf.profile.cost.training import ALONE, OURS, STOCK, Group, passes
from harness.perf.profile.flops import Shape, flops

T = TypeVar("T")
WAYS = {"stock": STOCK, "ours": OURS, **ALONE}


@dataclass
class Spent:
    """Operations, and seconds of one GPU, summed over those at work."""

    flops: float = 0.0
    seconds: float = 0.0

    def add(self, flops: float, seconds: float) -> None:
        """More of both."""
        self.flops += flops
        self.seconds += seconds


@dataclass
class Phase:
    """One phase on both sides."""

    stock: Spent = field(default_factory=Spent)
    ours: Spent = field(default_factory=Spent)


@dataclass
class Estimate:
    """`phases` by name in order; `levers`: operations of log-probabilities and update of both roles, by
    way."""

    phases: dict[str, Phase] = field(default_factory=dict)
    levers: dict[str, float] = field(default_factory=lambda: dict.fromkeys(WAYS, 0.0))

    def phase(self, name: str) -> Phase:
        """That phase, made if it is new."""
        return self.phases.setdefault(name, Phase())

    def total(self, side: str) -> Spent:
        """All phases of one side."""
        spent = [getattr(one, side) for one in self.phases.values()]
        return Spent(sum(one.flops for one in spent), sum(one.seconds for one in spent))


def estimate(shape: Shape, work: Workload, card: Card) -> Estimate:
    """One iteration: train the Questioner, write, label, train the Solver. Incomplete generation batches are
    left out.

    Args:
        shape: of the model both roles start from; its bytes of keys and values are read as they are, its
            weights as `card` says.
    """
    random, found = np.random.default_rng(work.seed), Estimate()
    spend = _Spend(found, shape, work, card)
    pictures = [int(one) for one in work.picture.draw(random, work.images)]
    for some in _whole_batches(pictures, work.prompts):
        asked = [
            _group(
                work.questioner_text + one,
                one,
                work.questioner.completion.draw(random, work.questioner.group),
                work,
            )
            for one in some
        ]
        spend.drawing("Questioner: rollouts", [[one] for one in asked], card.policy_item, card.trainers)
        spend.drawing(
            "Questioner: votes",
            _votes(some, work.questioner.group, work, random),
            card.frozen_item,
            card.voters,
        )
        spend.training("Questioner", asked, work.questioner)
    written = [
        [_group(work.questioner_text + one, one, work.written.draw(random, 1), work)] for one in pictures
    ]
    spend.drawing("Questions written", written, card.frozen_item, card.voters)
    labelled = _votes(pictures, 1, work, random)
    spend.drawing("Votes for labels", labelled, card.frozen_item, card.voters)
    questions = [one for of_picture in labelled for one in of_picture]
    kept = [
        one for one, lucky in zip(questions, random.random(len(questions)) < work.kept, strict=True) if lucky
    ]
    for some in _whole_batches(kept, work.prompts):
        asked = [
            replace(one, completions=_tokens(work.solver.completion.draw(random, work.solver.group)))
            for one in some
        ]
        spend.drawing("Solver: rollouts", [[one] for one in asked], card.policy_item, card.trainers)
        spend.training("Solver", asked, work.solver)
    return found


def _whole_batches(items: Sequence[T], size: int) -> list[Sequence[T]]:
    return [items[start : start + size] for start in range(0, len(items) - size + 1, size)]


def _group(prompt: int, picture: int, completions: NDArray[np.int64], work: Workload) -> Group:
    return Group(prompt, work.merge * picture, _tokens(completions))


def _tokens(drawn: NDArray[np.int64]) -> tuple[int, ...]:
    return tuple(int(one) for one in drawn)


def _votes(
    pictures: Sequence[int], questions: int, work: Workload, random: np.random.Generator
) -> list[list[Group]]:
    """For each picture the votes on its valid questions."""
    found = []
    for one in pictures:
        valid = int((random.random(questions) < work.valid).sum())
        lengths = work.question.draw(random, valid)
        found.append(
            [
                _group(work.solver_text + int(n) + one, one, work.vote.draw(random, work.votes), work)
                for n in lengths
            ]
        )
    return found


@dataclass(frozen=True)
class _Spend:
    """Adds phases up."""

    found: Estimate
    shape: Shape
    work: Workload
    card: Card

    def drawing(self, phase: str, asked: Sequence[Sequence[Group]], item: int, cards: int) -> None:
        """One call of an engine; requests by picture, and all about a picture on the same GPU."""
        for index in range(cards):
            mine = [requests for requests in asked[index::cards] if requests]
            requests = [one for of_picture in mine for one in of_picture]
            ours = shared(
                requests, [of_picture[0].patches for of_picture in mine], self.card.slots, self.shape
            )
            stock = separate(requests, self.card.slots, self.shape)
            row = self.found.phase(phase)
            row.ours.add(*drawing_cost(ours, self.shape, self.card, item))
            row.stock.add(*drawing_cost(stock, self.shape, self.card, item))

    def training(self, role: str, batch: Sequence[Group], settings: Role) -> None:
        """Log-probabilities and update of one generation batch, every way."""
        rate = self.card.peak * self.card.training
        for name, way in WAYS.items():
            logprobs, update = passes(batch, settings.micro, self.work.steps, way, self.shape)
            spent = {
                "log-probabilities": flops(self.shape, logprobs),
                "update": flops(self.shape, update, True, recomputed=True),
            }
            self.found.levers[name] += sum(spent.values())
            if name in ("stock", "ours"):
                for part, operations in spent.items():
                    getattr(self.found.phase(f"{role}: {part}"), name).add(operations, operations / rate)


def drawing_cost(drawing: Drawing, shape: Shape, card: Card, item: int) -> tuple[float, float]:
    """Operations and GPU-seconds: prompts at the training rate, decode steps by what limits them, arithmetic
    or memory."""
    prompts, decoding = flops(shape, drawing.prompts), flops(shape, drawing.decoding)
    moved = (
        drawing.steps * (shape.text_weights + shape.head_weights) * item + drawing.kv_tokens * shape.kv_bytes
    )
    limit = max(decoding / card.peak, moved / card.bandwidth)
    return prompts + decoding, prompts / (card.peak * card.training) + limit / card.decoding
