"""Yes or no: the word itself, or a sentence that affirms, denies or reverses what the question asks."""

from __future__ import annotations

import re

from harness.scoring.cues import NEGATED, REFUSAL
from harness.scoring.items import Item
from harness.scoring.labels import words

_YES, _NO = ("yes", "true"), ("no", "false")
_MORE = re.compile("more|greater|larger|bigger|higher|longer|taller|wider|exceeds|above")
_LESS = re.compile("less|fewer|smaller|lower|shorter|narrower|below")
_EQUAL = re.compile("same|equals?|identical")
_LIGHT = re.compile(
    "the|an?|of|in|to|is|are|was|were|there|do|does|did|it|its|that|this|have|has|at|on|for|and|or|than|be|not|as"
    "|both|all|image|based|s?he|they|her|his|their"
)
_JUDGED = re.compile(
    r"(?i)\b(?:is|are|was|statement|would be)[ :]{1,3}(?:therefore |also |indeed |clearly )?"
    r"(true|false|correct|incorrect)\b"
)
_SAID = re.compile(r"(?i)^(?:sure[,!.] |therefore,? |so,? )?(yes|no|true|false)\b")


def is_polar(item: Item) -> bool:
    """Whether the options are yes and no, a third "cannot tell" aside."""
    return _labels(item) is not None


def said(item: Item, sentence: str) -> tuple[str] | None:
    """The label of the yes or no that `sentence` begins with, where these are the options."""
    labels, word = _labels(item), _SAID.match(sentence)
    return (labels[word[1].lower() in _NO],) if labels and word and not REFUSAL.search(sentence) else None


def meant(item: Item, sentence: str) -> tuple[str] | None:
    """The label of yes or no that `sentence` comes to; None where it is about something else."""
    labels = _labels(item)
    if labels is None or REFUSAL.search(sentence):
        return None
    if judged := _JUDGED.search(sentence):
        denied = NEGATED.search(sentence[max(0, judged.start() - 12) : judged.start()])
        return (labels[(judged[1].lower() in ("false", "incorrect")) != bool(denied)],)
    asked, told = words(item.question), words(sentence)
    own = {word for word in _own(asked) if not (_MORE.fullmatch(word) or _LESS.fullmatch(word))}
    if not own or len(own & set(told)) < len(own) / 2:
        return None
    if (agrees := _compared(asked, told)) is not None:
        return (labels[not agrees],)
    return (labels[bool(NEGATED.search(sentence)) != bool(NEGATED.search(item.question))],)


def _labels(item: Item) -> tuple[str, str] | None:
    texts = [(label, text.strip(" .").casefold()) for label, text in item.texts.items()]
    yes, no = ([label for label, text in texts if text in side] for side in (_YES, _NO))
    return (yes[0], no[0]) if len(yes) == len(no) == 1 and len(texts) <= 3 else None


def _compared(asked: tuple[str, ...], told: tuple[str, ...]) -> bool | None:
    """Whether a comparison told agrees with the one asked for; None where either is none."""
    ours, theirs = _comparison(asked), _comparison(told)
    if ours is None:
        return None
    if theirs is None:
        return False if any(map(_EQUAL.fullmatch, told)) else None
    first, second = ours[1] - ours[2], ours[2] - ours[1]
    straight = len(first & theirs[1]) + len(second & theirs[2])
    crossed = len(first & theirs[2]) + len(second & theirs[1])
    if straight == crossed:
        return None
    return (straight > crossed) == (ours[0] == theirs[0]) and "not" not in told


def _own(said: tuple[str, ...]) -> set[str]:
    return {word for word in said if not _LIGHT.fullmatch(word)}


def _comparison(said: tuple[str, ...]) -> tuple[bool, set[str], set[str]] | None:
    """(whether more, words before `than`, words after it) of the last comparison."""
    if "than" not in said:
        return None
    than = len(said) - 1 - said[::-1].index("than")
    marks = [word for word in said[:than] if _MORE.fullmatch(word) or _LESS.fullmatch(word)]
    return (bool(_MORE.fullmatch(marks[-1])), _own(said[:than]), _own(said[than + 1 :])) if marks else None
