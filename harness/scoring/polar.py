"""Yes or no without the word: an answer that restates the question, denies it, or compares the other way
round."""

from __future__ import annotations

import re

from harness.scoring.cues import NEGATED, REFUSAL
from harness.scoring.items import Item
from harness.scoring.meaning import words

_YES, _NO = ("yes", "true"), ("no", "false")
_MORE = frozenset(
    {"more", "greater", "larger", "bigger", "higher", "longer", "taller", "wider", "exceeds", "above"}
)
_LESS = frozenset({"less", "fewer", "smaller", "lower", "shorter", "narrower", "below"})
_EQUAL = frozenset({"same", "equal", "equals", "identical"})
_ARTICLES = "the a an of in to is are was were there do does did it its that this have has at on for and or than be not as both all image based"
_LIGHT = frozenset(_ARTICLES.split(" "))
_VERB = "is|are|was|statement|answer is|would be"
_ADVERB = "therefore |also |indeed |clearly "
_JUDGED = re.compile(
    rf"\b(?:{_VERB})[ :]{{1,3}}(?:{_ADVERB})?(true|false|correct|incorrect)\b", re.IGNORECASE
)
_SAID = re.compile(r"^(?:sure[,!.] )?(yes|no|true|false)\b", re.IGNORECASE)
_ENOUGH = 0.5  # share of the question's own words that make a sentence its restatement


def polar(sentence: str, item: Item) -> str | None:
    """The label of yes or no that `sentence` comes to; None where the options are others or the sentence is
    about something else."""
    labels = _labels(item)
    if labels is None or REFUSAL.search(sentence):
        return None
    if said := _SAID.match(sentence):
        return labels[said[1].lower() in _NO]
    if judged := _JUDGED.search(sentence):
        return labels[
            (judged[1].lower() in ("false", "incorrect"))
            != bool(NEGATED.search(sentence[max(0, judged.start() - 12) : judged.start()]))
        ]
    asked, told = words(item.question), words(sentence)
    own = set(asked) - _LIGHT - _MORE - _LESS
    if not own or len(own & set(told)) < _ENOUGH * len(own):
        return None
    if (order := _compared(asked, told)) is not None:
        return labels[not order]
    denied = bool(NEGATED.search(sentence)) != bool(NEGATED.search(item.question))
    return labels[denied]


def _labels(item: Item) -> tuple[str, str] | None:
    """(label of yes, label of no) where the options are just these two, a third "cannot tell" aside."""
    texts = [choice.strip(" .").casefold() for choice in item.options]
    yes = [label for label, text in zip(item.labels, texts, strict=False) if text in _YES]
    no = [label for label, text in zip(item.labels, texts, strict=False) if text in _NO]
    return (yes[0], no[0]) if len(yes) == len(no) == 1 and len(texts) <= 3 else None


def _compared(asked: list[str], told: list[str]) -> bool | None:
    """Whether a comparison told agrees with the one asked for; None where either is none."""
    ours, theirs = _comparison(asked), _comparison(told)
    if ours is None:
        return None
    if theirs is None:
        return False if _EQUAL.intersection(told) else None
    first, second = ours[1] - ours[2], ours[2] - ours[1]
    straight = len(first & theirs[1]) + len(second & theirs[2])
    crossed = len(first & theirs[2]) + len(second & theirs[1])
    if straight == crossed:
        return None
    return (straight > crossed) == (ours[0] == theirs[0]) and "not" not in told


def _comparison(said: list[str]) -> tuple[bool, set[str], set[str]] | None:
    """(whether more, words before `than`, words after it) of the last comparison."""
    if "than" not in said:
        return None
    than = len(said) - 1 - said[::-1].index("than")
    marks = [word for word in said[:than] if word in _MORE or word in _LESS]
    if not marks:
        return None
    return marks[-1] in _MORE, set(said[:than]) - _LIGHT, set(said[than + 1 :]) - _LIGHT
