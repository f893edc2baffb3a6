"""What the estimate assumes. Batches and votes are the public code's; lengths are guesses, and so are the
shares that `vzero-harness plan` takes too, of valid and kept questions and of a GPU's roof
(harness.perf.hardware)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from harness.perf.hardware import GPUS, KEPT, VALID

A800 = GPUS["a100-80"]


@dataclass(frozen=True)
class Lengths:
    """Log-normal lengths in tokens: `median`, `spread` (standard deviation of the logarithm), and the `cap`
    at which they are cut off."""

    median: float
    spread: float
    cap: int

    def draw(self, random: np.random.Generator, shape: int | tuple[int, ...]) -> NDArray[np.int64]:
        """Lengths of that shape, 1 to `cap`."""
        drawn = np.exp(np.log(self.median) + self.spread * random.standard_normal(shape))
        return np.clip(np.rint(drawn), 1, self.cap).astype(np.int64)

    def longer(self, factor: float) -> Lengths:
        """The same spread and cap around another median."""
        return replace(self, median=self.median * factor)


@dataclass(frozen=True)
class Role:
    """How a role is trained: completions a prompt, sequences in a micro-batch, lengths of completions."""

    group: int
    micro: int
    completion: Lengths


@dataclass(frozen=True)
class Workload:
    """One iteration.

    Attributes:
        images: unlabeled pictures, each asked about once in the Questioner's training and once after it.
        picture: image tokens of a picture; the tower sees `merge` patches for each.
        questioner_text, solver_text: prompt tokens besides picture and question.
        question: tokens of a question within the Solver's prompt.
        written: completions when the trained Questioner writes.
        vote: the frozen Solver's answers, of which there are `votes` a question.
        valid, kept: share of the Questioner's completions that are questions, and of those questions that the
            filter keeps.
        prompts, steps: a generation batch, and the optimizer steps on it.
    """

    images: int = 4000
    picture: Lengths = Lengths(500, 0.3, 1280)
    merge: int = 4
    questioner_text: int = 260
    solver_text: int = 125
    question: Lengths = Lengths(90, 0.4, 512)
    questioner: Role = Role(4, 8, Lengths(220, 0.4, 2048))
    solver: Role = Role(5, 10, Lengths(350, 0.6, 4096))
    written: Lengths = Lengths(220, 0.4, 1024)
    vote: Lengths = Lengths(350, 0.6, 2048)
    votes: int = 10
    valid: float = VALID
    kept: float = KEPT
    prompts: int = 64
    steps: int = 2
    seed: int = 0

    def longer(self, factor: float) -> Workload:
        """The same with every completion that many times as long, caps aside."""
        return replace(
            self,
            questioner=replace(self.questioner, completion=self.questioner.completion.longer(factor)),
            solver=replace(self.solver, completion=self.solver.completion.longer(factor)),
            written=self.written.longer(factor),
            vote=self.vote.longer(factor),
        )


@dataclass(frozen=True)
class Card:
    """A GPU, how much of it is put to use, and how the work is spread.

    Attributes:
        peak: bfloat16 operations a second; bandwidth: bytes a second.
        training: share of the peak that passes over whole sequences reach, prompts of drawing included.
        decoding: share of the peak or of the bandwidth, whichever is the limit, that decode steps reach.
        slots: sequences that decode together on one GPU.
        trainers, voters: GPUs that draw rollouts, and that draw for the frozen Solver.
        policy_item, frozen_item: bytes a weight of the policy (float32 masters) and of a frozen model.
    """

    name: str = A800.name
    peak: float = 1e12 * A800.tflops
    bandwidth: float = A800.bandwidth
    training: float = A800.computing
    decoding: float = A800.decoding
    slots: int = 256
    trainers: int = 4
    voters: int = 2
    policy_item: int = 4
    frozen_item: int = 2


PAPER_HOURS, PAPER_CARDS = 9, 6  # of an iteration, as the paper says


def said(work: Workload, card: Card) -> list[str]:
    """Every assumption in words."""
    return [
        f"{work.images:,} pictures of {_lengths(work.picture)} image tokens, {work.merge} patches each.",
        f"Prompts have {work.questioner_text} tokens more for the Questioner, {work.solver_text} and a question of "
        f"{_lengths(work.question)} for the Solver.",
        f"Completions: Questioner {_lengths(work.questioner.completion)}, Solver {_lengths(work.solver.completion)}, votes "
        f"{_lengths(work.vote)} tokens; log-normal, seed {work.seed}.",
        f"{work.prompts} prompts a generation batch in {work.steps} optimizer steps; groups of {work.questioner.group} and "
        f"{work.solver.group}, micro-batches of {work.questioner.micro} and {work.solver.micro} sequences; {work.votes} votes a question "
        f"(the public code's).",
        f"{work.valid:.0%} of the Questioner's completions are valid; the filter keeps {work.kept:.0%} of the questions.",
        "Everything is trained, the vision tower too; a policy update under gradient checkpointing is four forward passes.",
        f"{card.name}: {card.peak / 1e12:.0f} TFLOP/s bfloat16, {card.bandwidth / 1e9:,.0f} GB/s. Training passes and prompts reach "
        f"{card.training:.0%} of the peak; decode steps {card.decoding:.0%} of the peak or of the bandwidth, whichever takes longer.",
        f"{card.slots} sequences decode together on a GPU; ours fills a free slot at once. Rollouts are spread over "
        f"{card.trainers} GPUs, votes, writing and labels over {card.voters}.",
        f"A decode step reads each weight as {card.policy_item} bytes (policy) or {card.frozen_item} (frozen).",
        "GPU-hours are those of GPUs at work: no waiting for one another, no loading, no Python between kernels, no optimizer step.",
    ]


def _lengths(one: Lengths) -> str:
    return f"{one.median:g} (median; spread {one.spread:g}, at most {one.cap:,})"
