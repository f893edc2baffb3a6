"""What the functions of a reward file are given (vzero.arms.reward_file)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vzero.parsing import Question, option_texts, parse_answer

if TYPE_CHECKING:  # a table of arms needs neither
    from vzero.grpo.data import Prompt
    from vzero.images.records import ImageRecord


@dataclass(frozen=True)
class ScoredQuestion:
    """A valid question as it is paid, labelled and kept.

    Attributes:
        text: the question with its options.
        intuitive: the intuitive answer; None where the frozen model that gives it gave none.
        votes: of the frozen Solver, None for one that could not be read.
        vote_texts: the whole replies behind `votes`; empty where only the votes were written down (recycled
            questions, see vzero.arms.recycling).
        description: what the writer saw in the image; "" where it was not written down.
        image: what it is about; `vzero.images.records.open_image` opens it.
        group: the same for all questions whose rewards are compared with each other: those about one image.
        label: what the Solver would be trained on; None before there is one.
        token_entropies: in nats, of the first tokens of the frozen Solver's greedy answer, as many as
            `questioner.token_entropies` says; empty where it says none, and outside the Questioner's reward.
    """

    text: str
    intuitive: str | None
    votes: tuple[str | None, ...]
    vote_texts: tuple[str, ...] = field(default=(), repr=False)
    description: str = field(default="", repr=False)
    image: ImageRecord | None = field(default=None, repr=False)
    group: str = ""
    label: str | None = None
    token_entropies: tuple[float, ...] = ()

    @property
    def options(self) -> tuple[str, ...]:
        """The texts of A) to D); empty unless each mark stands once, in this order."""
        return tuple(part.strip() for part in option_texts(self.text) or ())


def scored_question(
    prompt: Prompt,
    question: Question,
    intuitive: str | None,
    replies: Sequence[str],
    token_entropies: tuple[float, ...] = (),
) -> ScoredQuestion:
    """A question asked about the image of `prompt`, with the frozen Solver's replies to it."""
    return ScoredQuestion(
        question.text,
        intuitive,
        tuple(map(parse_answer, replies)),
        tuple(replies),
        question.description,
        prompt.image,
        prompt.key,
        token_entropies=token_entropies,
    )


@dataclass(frozen=True)
class ScoredAnswer:
    """One of the Solver's completions as it is paid.

    Attributes:
        text: the completion.
        answer: the boxed option, "A" to "D"; None where there is none to read.
        label: the question's pseudo-label; None where the arm has none.
        votes: those behind the label, None for one that could not be read; empty where the arm draws none.
        group: the answers of all completions of this question in the step, this one among them.
        question: with its options.
        image: what it is about.
    """

    text: str
    answer: str | None
    label: str | None
    votes: tuple[str | None, ...]
    group: tuple[str | None, ...]
    question: str = ""
    image: ImageRecord | None = field(default=None, repr=False)
