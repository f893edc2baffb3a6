"""Option labels in words: which labels a phrase names, and which option's text it repeats.

The article: a bare "A" or "I", or any lower-case letter, is a label only where something says so: brackets, a following `)` `.` `:`, the end
of the phrase, a list of labels, or the option's own text. "A dog" and "a dog" never vote.
"""

from __future__ import annotations

import re

from harness.scoring.cues import NOUNS
from harness.scoring.items import Item

_FILLERS = "the|is|be|clearly|definitely|likely|probably|therefore|indeed|both|only|either|simply|just|actually|most|correct|right|in|to|by"
_LEAD = re.compile(rf"[\s\"'*#>:=~,.-]{{0,40}}(?:(?:{_FILLERS})\b:? ?){{0,4}}(?:(?:{NOUNS}|number)s?\b:? ?)?", re.IGNORECASE)
_ONE = re.compile(r"[\"'\[]?(?:\( ?([A-Za-z1-9]) ?\)|\[([A-Za-z1-9])\]|([A-Za-z1-9])(?![A-Za-z0-9_%°]|\.\d|,\d|[-/+*^=(]\w|'[a-z]| ?=))[\"'\]]?")
_JOIN = re.compile(rf" ?(?:,? ?(?:and|or|&|,|/|\+|;) ?|[ \n]|和|、|与)(?:both |(?:{NOUNS})s? )?", re.IGNORECASE)
_AFTER = re.compile(r" ?(?:$|[).:;,!?\"'\]\n<]|-(?!\w)|\()|[^\x00-\x7f]")
_LISTED = re.compile(r" ?(?:,|,? and|,? or|&) ?\(?[A-Ia-i1-9]\b(?!')")
_RANGE = re.compile(r"\(?([A-I]) ?(?:-|to) ?([A-I])\)?(?![\w'])")
_WORDS = re.compile(r"[^\W_]+(?:[.,]\d+)*|[%°$€£<>=+/-]")
_OPENING = 60  # words of a response beyond the option's own that are compared


def label_set(phrase: str, item: Item) -> tuple[str, ...]:
    """The labels that `phrase` begins with, e.g. `(B) no`, `Option C.`, `A and C`, `A-D`; empty where it begins with none."""
    if item.kind == "multi-choice" and (spread := _RANGE.match(phrase.strip(" ."))):
        first, last = (item.labels.index(spread[side]) if spread[side] in item.labels else -1 for side in (1, 2))
        return item.labels[first : last + 1] if 0 <= first < last else ()
    start = _LEAD.match(phrase)
    for cursor in (start.end() if start else 0, len(phrase) - len(phrase.lstrip(" \n\"'*:=-.,"))):
        if first := _label_at(phrase, cursor, item):
            return _rest_of_list(phrase, first, item)
    return ()


def _rest_of_list(phrase: str, first: tuple[str, int], item: Item) -> tuple[str, ...]:
    found, cursor = [first[0]], first[1]
    while join := _JOIN.match(phrase, cursor):
        following = _label_at(phrase, join.end(), item)
        if following is None:
            break
        found.append(following[0])
        cursor = following[1]
    return tuple(sorted(set(found)))


def _label_at(phrase: str, cursor: int, item: Item) -> tuple[str, int] | None:
    """(label, index after) where one stands at `cursor` and is not an ordinary word."""
    match = _ONE.match(phrase, cursor)
    if match is None:
        return None
    bracketed = match[1] or match[2]
    letter = (bracketed or match[3]).upper()
    if letter not in item.labels or not (bracketed or _stands_alone(phrase, match, item, letter)):
        return None
    end = match.end()
    return letter, end + (not bracketed and phrase[end : end + 1] == ")")


def _stands_alone(phrase: str, match: re.Match[str], item: Item, letter: str) -> bool:
    """Whether a letter without brackets is a label here: upper-case ones other than A and I unless a word runs on, others by their marks."""
    written, end = match[3], match.end()
    if _AFTER.match(phrase, end) or _LISTED.match(phrase, end):
        return True
    if written.isdigit():
        return False
    text = text_of(item, letter)
    if text and len(words(text)) and starts_with(phrase[end:], text):
        return True
    return written.isupper() and written not in "AI"


def text_of(item: Item, label: str) -> str:
    """The option's text; empty where it stands in the image alone."""
    index = item.labels.index(label)
    return item.choices[index] if index < len(item.choices) else ""


def words(text: str) -> list[str]:
    """Words, numbers and signs that carry meaning, in lower case."""
    return _WORDS.findall(text.casefold())


def starts_with(text: str, option: str) -> bool:
    """Whether `text` begins with the option's words."""
    wanted = words(option)
    return bool(wanted) and words(text[: 4 * len(option) + 40])[: len(wanted)] == wanted


def by_text(phrase: str, item: Item) -> str | None:
    """The label of the one option whose text `phrase` repeats; of options inside one another the longest; None where several are named.

    A one-letter text is left out (it might be the article), and a text that is a common word (`no`, `none`) counts at the beginning alone.
    """
    said = words(phrase)
    joined = f" {' '.join(said)} "
    named = []
    for label, choice in zip(item.labels, item.choices, strict=False):
        wanted = words(choice)
        if not wanted or (len(wanted) == 1 and len(wanted[0]) == 1 and not wanted[0].isdigit()):
            continue
        text = " ".join(wanted)
        if (said[: len(wanted)] == wanted) if text in _COMMON else f" {text} " in joined:
            named.append((label, text))
    named = [one for one in named if not any(one[1] != other[1] and f" {one[1]} " in f" {other[1]} " for other in named)]
    return named[0][0] if named and len({text for _, text in named}) == 1 else None


def by_stem(phrase: str, item: Item) -> str | None:
    """The one option each of whose words, four letters or longer, begins a word of `phrase`: `flipped` names `flip`."""
    said = words(phrase)
    named = []
    for label, choice in zip(item.labels, item.choices, strict=False):
        wanted = words(choice)
        if wanted and all(len(word) > 3 and word.isalpha() and any(one.startswith(word) for one in said) for word in wanted):
            named.append(label)
    return named[0] if len(named) == 1 else None


_COMMON = frozenset({"yes", "no", "true", "false", "none", "nothing", "same", "all", "left", "right", "up", "down", "other", "neither", "both"})
