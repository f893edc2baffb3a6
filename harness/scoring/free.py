"""The value that a response states: by its final-answer sentence, or by being nothing but a value."""

from __future__ import annotations

import re

from harness.scoring import cues
from harness.scoring.choice import conditional, restates, statements, stems
from harness.scoring.items import Item, Reading
from harness.scoring.text import plain, without_latex
from harness.scoring.values import WORDS, decimal_text, numbers, out_of, rescaled, squeezed, trimmed, value

_LIST = re.compile(r"\[ ?-?\d[^\[\]\n]{0,400}\]")
_NO_VALUE = re.compile(r"(?i)\bundefined\b|does not exist|no (?:real )?solution|infinite|no integer")
_COUNTED = re.compile(r"(?i)\bhow many ((?:\w{1,12} ){0,2}?\w{4,20})")
_NONE_LEFT = re.compile(
    r"(?i)\b(?:no|zero) (?:\w+ ){0,4}(?:left|remain|remaining|objects)\b|\bthere (?:are|is) no\b"
)
_OF_TOTAL = re.compile(
    rf"(?i)(?:\d|\b(?:{'|'.join(WORDS)}),?) (?:\w{{1,12}} )?(?:out )?of (?:the |all |which )*$"
)
_VARIABLE = re.compile(
    r"(?!(?:[kcmdµ]?m|[kKm]?g|in|ft|s|h|st|nd|rd|th)\b)[A-Za-z^_(√π]|:\d"
    r"|(?i: (?:hundred|thousand|[mbtr]{1,2}illion|dozen|squared|cubed)\b"
    r"| (?:over|times|plus|minus|divided by) -?(?:\d|[a-z]\b))"
)
_OPERAND = re.compile(r"\d(?::| (?:over|times|plus|minus|divided by) )$")
_BOUND = re.compile(
    r"(?i)(?:\b(?:more|less|fewer|greater|larger|smaller|higher|lower|bigger|other) than|\bat (?:least|most)"
    r"|\b(?:above|below|under|up to|exceed(?:s|ing)?|none of)|(?<!\d )\bover|[<>≤≥±]) ?$"
)
_OR = re.compile(r"\d[^\d,.]{0,12}\bor\b[^\d]{0,12}\d")
_VERBS = (
    "is|are|be|was|were|equals?|to|about|approximately|around|by|leaves?|get|has|have|only|total of|costs?|or"
)
_BEFORE = re.compile(rf"(?i)(?:=|≈|->|:|\b(?:{_VERBS})) ?[(£$€\"' ]{{0,3}}$")
_REJECTED = re.compile(r"(?i),? (?:but |and )?(?:not|rather than|instead of) [^,.;]{0,60}")
_FORMULA = re.compile(r"[-+*/\u00d7^=]|\\[a-z]")


def state(item: Item, text: str) -> Reading:
    """What `text`, free of boxes and tags, states."""
    bare = "\n" not in text and (item.kind != "list" or not re.search("[A-Za-z]", text))
    if item.kind != "text" and bare and (found := answer(item, text)) is not None:
        return Reading((found,), "whole")
    lines = statements(text)
    for line in reversed(lines[-cues.MOST_CUES :]):
        if cued := _cued(line):
            if cues.REFUSAL.search(line):
                return Reading(how="refused")
            if conditional(item, line) or cues.NEGATED.match(cued):
                return Reading()
            found = _in_phrase(item, cued)
            return Reading() if found is None else Reading((found,), "sentence")
    for line in reversed(lines[-cues.MOST_CUES :]):
        if _closes(item, line, lines):
            if cues.REFUSAL.search(line) or _NO_VALUE.search(line) or conditional(item, line):
                break
            if (found := _in_phrase(item, line)) is not None:
                return Reading((found,), "sentence")
    return Reading(how="refused" if any(map(cues.REFUSAL.search, lines)) else "nothing")


def answer(item: Item, phrase: str) -> str | None:
    """The value that a phrase is, as the kind of question wants it: in a box, a tag, or after a cue."""
    if item.kind == "list":
        lists = _LIST.findall(phrase)
        values = [one for one, _, _ in numbers(without_latex(lists[-1] if lists else phrase))]
        return f"[{', '.join(values)}]" if len(values) > 1 or (lists and values) else None
    if item.kind == "text":
        stripped = plain(phrase).strip(" .:\"'")
        return stripped if stripped and len(stripped) <= 200 else None
    found = value(phrase.removesuffix(item.unit).rstrip() if item.unit else phrase)
    if found is not None and item.unit:
        found = rescaled(found, phrase, item.unit)
    if found is None or (item.kind == "integer" and not decimal_text(found)):
        return None
    return _as_kind(item, found, "%" in phrase)


def _as_kind(item: Item, found: str, percent: bool) -> str:
    """`14.0` is the integer `14`; a share keeps its percent sign, which may mean a fraction."""
    whole, _, rest = found.partition(".")
    if item.kind == "integer":
        return found if rest.strip("0") else whole
    return f"{found}%" if percent and item.kind == "float" else found


def _cued(line: str) -> str | None:
    """What follows the last cue of a sentence: "the answer is", "Answer:", "Wait, it is"."""
    for match in reversed(list(cues.ANNOUNCED.finditer(line))):
        if not cues.NEGATED.search(match[0]) and not match[0].lower().startswith(("option", "choice")):
            return line[match.end() :].strip() or None
    return line if cues.CORRECTION.match(line) else None


def _closes(item: Item, line: str, lines: list[str]) -> bool:
    """Whether a sentence concludes, is the only one, ends on the value computed before, or restates."""
    if len(lines) == 1 or cues.CONCLUSION.search(line):
        return True
    found = {one for one, _, _ in numbers(without_latex(line))}
    if line is lines[-1] and len(found) == 1 and found == {value(lines[-2].rpartition("=")[2])}:
        return True
    return restates(item, line)


def _in_phrase(item: Item, phrase: str) -> str | None:
    """The one value that a phrase or sentence states."""
    if item.kind == "text":
        return _in_words(item, phrase)
    if (found := answer(item, trimmed(phrase))) is not None or item.kind == "list":
        return found
    phrase = _REJECTED.sub(" ", phrase)
    if conclusions := list(cues.CONCLUSION.finditer(phrase)):
        phrase = phrase[conclusions[-1].start() :]
    if cues.UNDECIDED.match(phrase.lstrip()):
        return None
    for part in reversed(re.split(r"=|≈|\bis\b|\bare\b", phrase)):  # a formula: "the area is 8-6\pi"
        if _FORMULA.search(part):
            if (found := answer(item, trimmed(part, ",;"))) is not None:
                return found
            break
    bare = without_latex(phrase)
    outside = re.sub(r"\([^()]*\)", " ", bare)  # "7 years (1927 - 1920)"
    picked = _picked(item, outside if numbers(outside) else bare)
    return None if picked is None else _as_kind(item, *picked)


def _picked(item: Item, sentence: str) -> tuple[str, bool] | None:
    """(number, whether a percentage) of a sentence.

    The one that counts what was asked for, or the last that a verb or `=` leads to, or the only one; numbers
    that the question gave come last.
    """
    if (share := out_of(sentence)) and item.kind == "float":
        return share, False
    every = [one for one in numbers(sentence) if _is_number(item, sentence, one[1], one[2])]
    if len({one for one, _, _ in every}) > 1 and _OR.search(sentence):
        return None
    found = [one for one in every if not _OF_TOTAL.search(sentence[: one[1]])]
    if not found:
        return ("0", False) if _NONE_LEFT.search(sentence) and item.kind == "integer" else None
    if counted := _COUNTED.search(item.question):
        nouns = stems(counted[1])
        counts = [one for one in found if nouns & stems(sentence[one[2] : one[2] + 24])]
        if len(counts) == 1:
            return counts[0][0], False
    given = {one for one, _, _ in numbers(without_latex(plain(item.question)))}
    fresh = [one for one in found if one[0] not in given] or found
    led = [one for one in fresh if _BEFORE.search(sentence[max(0, one[1] - 24) : one[1]])]
    best = led or (fresh if len({one[0] for one in fresh}) == 1 or every != found else [])
    return (best[-1][0], sentence[best[-1][2] : best[-1][2] + 2].strip()[:1] == "%") if best else None


def _is_number(item: Item, sentence: str, start: int, end: int) -> bool:
    """Whether a number stands for itself: not `12n`, `12:1`, "more than 12", "12 thousand"."""
    word = sentence[start:end].lower()
    if word == "one" and not _BEFORE.search(sentence[:start]):  # "the smallest one"
        return False
    unit = re.match(r" ?([A-Za-z]+)", sentence[end:])
    if item.unit and unit and rescaled("1", unit[1], item.unit) != "1":
        return False
    before = sentence[max(0, start - 24) : start]
    return not (_VARIABLE.match(sentence, end) or _BOUND.search(before) or _OPERAND.search(before))


def _in_words(item: Item, phrase: str) -> str | None:
    """What follows the last verb of a sentence, or the sentence itself."""
    if cues.REFUSAL.search(phrase):
        return None
    last = after_verb(phrase)
    return answer(item, last) if squeezed(last) else None


def after_verb(text: str) -> str:
    """What follows the last "is" or "are"; the whole where there is none."""
    return re.split(r"\b(?:is|are|was|were) ", text)[-1]
