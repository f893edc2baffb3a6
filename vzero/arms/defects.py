"""Faults of public code in this field, as switches: what a faulty reader or counter makes of the Solver's
replies.

Each was found in code. `vzero-harness audit` shows what it does to rewards and labels without a model; the
preset's `defects` (for the blind server, `questioner.votes_see = "nothing"`) lets it do so in a run. Commits
are of SatonoDia/V-Zero.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from vzero.parsing import parse_answer
from vzero.voting import Tally, tally

_LETTER = re.compile(r"\b([A-D])\b", re.IGNORECASE)
_TAGGED = re.compile(r"<answer>\s*([A-D])\s*</answer>", re.IGNORECASE)
_LAST_LINES = 5

Reader = Callable[[str], str | None]
Counter = Callable[[Sequence[str | None]], Tally]


def read_prose(text: str) -> str | None:
    """The boxed option, or else a lone letter a-d of the last five lines: the article "a" is a vote for A.

    Source: the fallback of question_evaluate/question_evaluator.py (`extract_answer`).
    """
    return parse_answer(text) or _lone_letter(text)


def read_tags(text: str) -> str | None:
    """The option between answer tags, or else a lone letter of the last five lines; no box is looked for.

    There the reward server and the training ask for `\\boxed{}`, the labels for answer tags: once the Solver
    has learned to box, its labels come from the fallback.
    """
    tagged = _TAGGED.search(text)
    return tagged[1].upper() if tagged else _lone_letter(text)


def _lone_letter(text: str) -> str | None:
    """The first lone letter of the last of the five last lines that has one."""
    for line in reversed(text.strip().splitlines()[-_LAST_LINES:]):
        if found := _LETTER.search(line):
            return found[1].upper()
    return None


def tally_parsed(votes: Sequence[str | None]) -> Tally:
    """A tally that knows only the votes it could read: one readable vote of ten has confidence 1."""
    return tally([vote for vote in votes if vote is not None])


@dataclass(frozen=True)
class Defect:
    """A fault that can be switched on.

    Attributes:
        name: as in the preset's `defects`.
        summary: what is wrong, in one line.
        source: where it was found.
        read: how a Solver's reply is read; None: as it should be.
        count: how votes are counted; None: as they should be.
    """

    name: str
    summary: str
    source: str
    read: Reader | None = None
    count: Counter | None = None


_ALL = (
    Defect(
        "article_votes",
        'a reply without an answer votes by a lone letter in it, so the English article "a" is a vote for A',
        "question_evaluate/question_evaluator.py at ee40c88",
        read=read_prose,
    ),
    Defect(
        "unparsed_dropped",
        "replies that cannot be read are left out of m, so one readable vote is unanimous",
        "utils/dataset_select.py at ee40c88 (its reward server and its labeller do divide by all ten)",
        count=tally_parsed,
    ),
    Defect(
        "three_prompts",
        "a Solver trained to box its answers is labelled by a reader of answer tags: boxed replies vote by a"
        " lone letter in them",
        "vllm_service_init and train_examples ask for a box, question_evaluate/question_evaluator.py for"
        " tags; at ee40c88",
        read=read_tags,
    ),
    # Neither reader nor counter: a stage of its own, vzero.arms.labelled_images.
    Defect(
        "label_selection",
        "images are chosen by true answers: those on which the base is right 10 to 90 times in 100 (labels,"
        " in a method without any)",
        "utils/dataset_select.py and the 3B script at 73d156a",
    ),
)
DEFECTS: Mapping[str, Defect] = {one.name: one for one in _ALL}


def reader(names: Sequence[str]) -> Reader:
    """How the label stage reads a reply under these defects; the last that says how decides."""
    return next((read for name in reversed(names) if (read := DEFECTS[name].read)), parse_answer)


def counter(names: Sequence[str]) -> Counter:
    """How the label stage counts votes under these defects; the last that says how decides."""
    return next((count for name in reversed(names) if (count := DEFECTS[name].count)), tally)
