"""Questions as cards: what a page shows of each, its text made safe; and the rows of its browser as JSON."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from harness.report.pictures import Picture
from harness.report.questions import WrittenQuestion
from harness.tables.text import visible
from harness.tables.words import number

BYTES = 2_700_000  # of all rows, REPLIES of their different replies; with the pictures under 8 MB
REPLIES = 600_000
LONGEST = 400  # characters of a question or a reply
UNREAD = "?"
OPTION = re.compile(r"(?=(?<!\w)[A-D]\))")  # where an option begins
FIELDS = (
    *("id", "iteration", "state", "text", "votes", "majority", "intuitive", "said", "verdict", "truth"),
    *("family", "confidence", "picture", "replies"),
)
SAFE = {mark: f"\\u{ord(mark):04x}" for mark in "<>&"}  # no end of a script inside a script


@dataclass(frozen=True)
class Card:
    """A question as it is shown.

    Attributes:
        text: the question, each option on a line of its own; of an invalid one what was written.
        votes: (letter, how many), "?" for the unreadable ones.
        said: majority, confidence and reward in words. truth: what is known of the right answer, in words.
        replies: (text, how many) of the different ones, the most frequent first.
    """

    id: str
    iteration: int
    state: str
    text: str
    votes: tuple[tuple[str, int], ...]
    majority: str
    intuitive: str
    said: str
    verdict: str
    truth: str
    family: str
    confidence: float | None
    picture: str | None
    replies: tuple[tuple[str, int], ...]


def card(one: WrittenQuestion, replies: bool = True) -> Card:
    """What is shown of a question, with or without its replies."""
    label = one.label
    cast = Counter(
        UNREAD if vote is None else visible(vote, LONGEST) for vote in (label.votes if label else ())
    )
    written = label.replies if label and replies else ()
    different = Counter(visible(reply, LONGEST) for reply in written)
    return Card(
        id=visible(one.question_id),
        iteration=one.iteration,
        state=one.state,
        text="\n".join(question_lines(one.text)),
        votes=tuple(sorted(cast.items(), key=lambda pair: (pair[0] == UNREAD, pair[0]))),
        majority=visible(label.majority or "") if label else "",
        intuitive=visible(one.intuitive or ""),
        said=_said(one),
        verdict=one.verdict,
        truth=_truth(one),
        family=one.truth.family or "" if one.truth else "",
        confidence=label.confidence if label else None,
        picture=one.picture,
        replies=tuple(different.most_common()),
    )


def _said(one: WrittenQuestion) -> str:
    if one.state == "invalid":
        return f"not in the required form: no question, no votes, reward {number(one.reward, 2)}"
    if one.label is None:
        return f"intuitive {visible(one.intuitive or 'none')}; no votes"
    c, reward = number(one.label.confidence, 2), number(one.reward, 2)
    said = f"majority {visible(one.label.majority or 'none')}, c = {c}, reward {reward}"
    return said + (f", label {visible(other)}" if (other := one.label.other) else "")


def _truth(one: WrittenQuestion) -> str:
    """In words; empty where nothing is known."""
    if one.truth is None:
        return ""
    if not one.truth.well_posed:
        return "ill-posed"
    return f"truth {one.truth.answer}" + (f", label {one.verdict}" if one.verdict else "")


def question_lines(text: str) -> list[str]:
    """A question's stem, then each option on a line of its own."""
    return [line for part in OPTION.split(visible(text, LONGEST)) if (line := part.strip())]


def rows(questions: Sequence[WrittenQuestion], pictures: Mapping[str, Picture]) -> tuple[Markup, int]:
    """JSON for a script element, and how many questions it holds: all, or as many as `BYTES` allow."""
    keys = {name: index for index, name in enumerate(pictures)}
    texts: dict[str, int] = {}
    found: dict[int, list[object]] = {}
    size = spoken = 0
    # By picture, so that where space ends all iterations have lost the same pictures.
    for place in sorted(range(len(questions)), key=lambda place: (questions[place].picture or "", place)):
        one = card(questions[place], replies=spoken < REPLIES)
        spoken += sum(len(_json(text).encode()) for text, _ in one.replies if text not in texts)
        said = [[texts.setdefault(text, len(texts)), count] for text, count in one.replies]
        row = [*(getattr(one, name) for name in FIELDS[:-2]), keys.get(one.picture or ""), said]
        size += len(_json(row).encode())
        if size > BYTES:
            break
        found[place] = row
    given = {
        "fields": FIELDS,
        "questions": [found[place] for place in sorted(found)],
        "replies": list(texts),
        "pictures": [one.uri for one in pictures.values()],
        "small": [one.small for one in pictures.values()],
    }
    return Markup(_json(given)), len(found)


def _json(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for mark, escape in SAFE.items():
        text = text.replace(mark, escape)
    return text
