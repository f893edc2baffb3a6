"""The number (or list) in a response to a question without options."""

from __future__ import annotations

import re
from collections import deque

from harness.scoring.cues import ANNOUNCED, CONCLUSION, MOST_CUES, NEGATED, REFUSAL
from harness.scoring.items import Extraction, Item
from harness.scoring.meaning import words
from harness.scoring.numerals import numbers, with_root
from harness.scoring.spans import answer_tag, boxes
from harness.scoring.text import ends, sentences, without_latex

_LIST = re.compile(r"\[ ?-?\d[^\[\]\n]{0,400}\]")
_NOTHING_LEFT = re.compile(r"\b(?:no|zero) (?:\w+ ){0,4}(?:left|remain|remaining|objects)\b", re.IGNORECASE)
_THERE_ARE_NO = re.compile(
    r"\bthere (?:are|were|is) no (?!information|way|data|image|picture|answer|figure|table|chart)",
    re.IGNORECASE,
)
_NO_VALUE = re.compile(r"\bundefined\b|does not exist|no solution|infinite", re.IGNORECASE)
_COUNTED = re.compile(r"\bhow many (?:\w{1,12} ){0,2}?(\w{4,20})", re.IGNORECASE)
_UNIT = re.compile(r"\(unit: (\w{3,20})\)", re.IGNORECASE)
_YEAR = re.compile(r"\b(?:which|what) year\b", re.IGNORECASE)
_VERBS = "is|are|be|was|were|equals?|to|about|approximately|around|by|leaves?|get|has|have|only|total of|needs?|costs?|scored?"
_BEFORE = re.compile(rf"(?:=|≈|\\approx|->|:|\b(?:{_VERBS})) ?[(£$€\"' ]{{0,3}}$", re.IGNORECASE)
_LIGHT = "the a an of in to is are was were and or for on at by with that this it as from how many much what which there be do does"
_STOP = frozenset(_LIGHT.split(" "))


def extract(item: Item, text: str, thinking: bool) -> Extraction:
    """The value that `text` (plain, own turn) answers."""
    for how, inside in (("box", " ".join(boxes(text)) or None), ("answer-tag", answer_tag(text))):
        if inside is not None and (value := _value(item, inside)) is not None:
            return _found(item, value, how)
    if thinking:
        return Extraction(how="cut off while thinking")
    text = ends(without_latex(text))
    for how, rule in (("whole", _whole), ("cue", _cued), ("conclusion", _concluded)):
        if (value := rule(item, text)) is not None:
            return _found(item, value, how)
    return Extraction(how="refused" if REFUSAL.search(text) else "nothing")


def _found(item: Item, value: str, how: str) -> Extraction:
    """`14.0` is written `14` where an integer is asked for."""
    whole, point, rest = value.partition(".")
    return Extraction(
        value=whole if item.kind == "integer" and point and not rest.strip("0") else value,
        parsed=True,
        how=how,
    )


def _value(item: Item, phrase: str) -> str | None:
    if item.kind == "list":
        return _list(phrase)
    if item.kind == "text":
        return without_latex(phrase).strip() or None
    phrase = without_latex(phrase)
    return with_root(phrase) if "√" in phrase or "π" in phrase else _pick(item, phrase)


def _list(phrase: str) -> str | None:
    found = _LIST.findall(phrase)
    values = [value for value, _, _ in numbers(found[-1] if found else phrase)]
    return f"[{', '.join(values)}]" if len(values) > 1 else None


def _whole(item: Item, text: str) -> str | None:
    found = numbers(text) if len(text) <= 40 else []
    return _value(item, text) if item.kind == "list" or len(found) == 1 else None


def _cued(item: Item, text: str) -> str | None:
    for match in reversed(deque(ANNOUNCED.finditer(text), MOST_CUES)):
        if NEGATED.search(match[0]):
            continue
        sentence = next(sentences(text[match.end() : match.end() + 300]), "")
        if not REFUSAL.search(sentence) and (value := _value(item, sentence)) is not None:
            return value
    return None


def _concluded(item: Item, text: str) -> str | None:
    """The sentence that restates the question, or concludes, and holds a number; nothing where the conclusion
    refuses."""
    lines = list(sentences(text))
    asked = {word for word in words(item.question) if word not in _STOP}
    best, score = None, -1.0
    for position, line in enumerate(lines):
        concludes = bool(CONCLUSION.search(line))
        if REFUSAL.search(line) or _NO_VALUE.search(line):
            best = None if concludes else best
            continue
        value = _value(item, line)
        if value is None:
            continue
        overlap = len(asked.intersection(words(line))) / max(1, len(asked))
        rating = overlap + 0.6 * concludes + 0.5 * (position == len(lines) - 1) + 0.2 * position / len(lines)
        if rating >= score:
            best, score = value, rating
    return best


def _pick(item: Item, sentence: str) -> str | None:
    """The number of a sentence that answers the question.

    In this order: one that counts what was asked for ("how many objects": `4 objects`), a year where a year
    was asked for, one that a verb or `=` announces, a new one; a number that the question gave only if
    nothing else is there. What follows "out of" is no answer.
    """
    found = [one for one in numbers(sentence) if not sentence[: one[1]].rstrip().lower().endswith("out of")]
    if not found:
        return "0" if _NOTHING_LEFT.search(sentence) else None
    if counted := _COUNTED.search(item.question) or _UNIT.search(item.question):
        noun = counted[1].lower()
        counts = [one for one in found if noun[:-1] in sentence[one[2] : one[2] + 24].lower()]
        if counts:
            return counts[-1][0]
        if _THERE_ARE_NO.search(sentence):
            return "0"
    if _YEAR.search(item.question) and (
        years := [one for one in found if len(one[0]) == 4 and one[0].isdigit()]
    ):
        return years[-1][0]
    given = {value for value, _, _ in numbers(item.question)}
    fresh = [one for one in found if one[0] not in given]
    announced = [one for one in fresh if _BEFORE.search(sentence[max(0, one[1] - 24) : one[1]])]
    best = announced or fresh or _given(found, sentence)
    return best[-1][0] if best else None


def _given(found: list[tuple[str, int, int]], sentence: str) -> list[tuple[str, int, int]]:
    """Numbers that the question gave may answer it where something announces one of them, and then the last
    of them does."""
    announced = any(_BEFORE.search(sentence[max(0, one[1] - 24) : one[1]]) for one in found)
    return found if announced or len(sentence) < 40 else []
