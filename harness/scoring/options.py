"""Option labels in words: which labels a phrase begins with.

The article: a bare "A" or "I", or any lower-case letter, is a label only where something says so: brackets, a
following `)` `.` `:`, the end of the phrase, a list of labels, or the option's own text. "A dog" and "a dog"
never vote.
"""

from __future__ import annotations

import re

from harness.scoring.cues import NOUNS
from harness.scoring.items import Item
from harness.scoring.meaning import starts_with, text_of

_FILLERS = "the|is|be|clearly|definitely|likely|probably|therefore|indeed|both|only|either|simply|just|actually|most|correct|right|in|to|by"
_LEAD = re.compile(
    rf"[\s\"'*#>:=~,./-]{{0,40}}(?:(?:{_FILLERS})\b:? ?){{0,4}}(?:(?:{NOUNS}|number)s?\b:? ?)?", re.IGNORECASE
)
_RUNS_INTO = r"[A-Za-z0-9_%°]|\.\d|,\d|[-/+*^=(]\w|'[a-z]| ?="  # a word, a number, a formula: no label
_ONE = re.compile(
    rf"[\"'\[]?(?:\( ?([A-Za-z1-9]) ?\)|\[([A-Za-z1-9])\]|([A-Za-z1-9])(?!{_RUNS_INTO}))[\"'\]]?"
)
_JOIN = re.compile(
    rf" ?(?:,? ?(?:and|or|&|,|/|\+|;) ?|\n|和|、|与)(?:both |(?:{NOUNS})s? )?|[ \n](?=\()", re.IGNORECASE
)
_AFTER = re.compile(r" ?(?:$|[).:;,!?\"'\]\n<]|-(?!\w)|\()|[^\x00-\x7f]")
# After a capital letter that a cue led to, these go on with the sentence: "the answer is A because".
_RUNS_ON = re.compile(r" (?:because|since|as|is|are|from|would|will|has|was|which|in)\b")
_CAPITAL_A = re.compile(r"[\"'(]?A[\"')]?(?= [a-z])")
_LISTED = re.compile(r" ?(?:,|,? and|,? or|&) ?\(?[A-Ia-i1-9]\b(?!')")
_RANGE = re.compile(r"\(?([A-I]) ?(?:-|to) ?([A-I])\)?(?![\w'])")
_BRACKETED_LIST = re.compile(r"\((?=[A-Ia-i1-9] ?,)")


def label_set(phrase: str, item: Item, noun: bool = False) -> tuple[str, ...]:
    """The labels that `phrase` begins with, e.g. `(B) no`, `Option C.`, `A and C`, `A-D`; empty where it
    begins with none.

    `noun`: the word before it was "option", "figure" or the like, so that a capital A is no article.
    """
    if noun and (capital := _CAPITAL_A.match(phrase)) and "A" in item.labels:
        return _rest_of_list(phrase, ("A", capital.end()), item)
    if item.kind == "multi" and (spread := _RANGE.match(phrase.strip(" ."))):
        first, last = (
            item.labels.index(spread[side]) if spread[side] in item.labels else -1 for side in (1, 2)
        )
        return item.labels[first : last + 1] if 0 <= first < last else ()
    phrase = _BRACKETED_LIST.sub("", phrase, count=1)
    start = _LEAD.match(phrase)
    for cursor in (start.end() if start else 0, len(phrase) - len(phrase.lstrip(" \n\"'*:=-.,"))):
        if first := _label_at(phrase, cursor, item):
            return _rest_of_list(phrase, first, item)
    return ()


def _rest_of_list(phrase: str, first: tuple[str, int], item: Item) -> tuple[str, ...]:
    found, cursor = [first[0]], first[1]
    if starts_with(phrase[cursor:], text_of(item, first[0])):
        return (first[0],)  # what follows is this option's own text, whatever letters are in it
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
    """Whether a letter without brackets is a label here: A, I and lower-case ones by what follows, other
    capitals always."""
    written, end = match[3], match.end()
    if _AFTER.match(phrase, end) or _LISTED.match(phrase, end):
        return True
    if written.isdigit():
        return False
    if starts_with(phrase[end:], text_of(item, letter)):
        return True
    return written.isupper() and (
        written not in "AI" or (written == "A" and bool(_RUNS_ON.match(phrase, end)))
    )
