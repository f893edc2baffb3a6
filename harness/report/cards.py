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
SAFE = {ord(mark): f"\\u{ord(mark):04x}" for mark in "<>&"}  # no end of a script inside a script


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


def card(one: WrittenQuestion) -> Card:
    """What is shown of a question."""
    label = one.label
    cast = (
        Counter(UNREAD if vote is None else visible(vote, LONGEST) for vote in label.votes) if label else {}
    )
    replies = Counter(visible(reply, LONGEST) for reply in label.replies) if label else Counter[str]()
    return Card(
        id=visible(one.question_id),
        iteration=one.iteration,
        state=one.state,
        text="\n".join(question_lines(one.text)),
        votes=tuple(sorted(cast.items(), key=lambda pair: (pair[0] == UNREAD, pair[0]))),
        majority=visible(label.answer or "") if label else "",
        intuitive=visible(one.intuitive or ""),
        said=_said(one),
        verdict=one.verdict,
        truth=_truth(one),
        family=one.truth.family or "" if one.truth else "",
        confidence=label.confidence if label else None,
        picture=one.picture,
        replies=tuple(replies.most_common()),
    )


def _said(one: WrittenQuestion) -> str:
    if one.state == "invalid":
        return f"not in the required form: no question, no votes, reward {number(one.reward, 2)}"
    if one.label is None:
        return f"intuitive {visible(one.intuitive or 'none')}; no votes yet"
    c, reward = number(one.label.confidence, 2), number(one.reward, 2)
    return f"majority {visible(one.label.answer or 'none')}, c = {c}, reward {reward}"


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
    found: list[list[object]] = []
    size = spoken = 0
    for one in map(card, questions):
        fresh = sum(len(_json(text).encode()) for text, _ in one.replies if text not in texts)
        told = one.replies if spoken + fresh <= REPLIES else ()
        row = [getattr(one, name) for name in FIELDS[:-2]]
        row += [keys.get(one.picture or ""), [[texts.setdefault(text, len(texts)), n] for text, n in told]]
        size += len(_json(row).encode())
        if size > BYTES:
            break
        spoken += fresh if told else 0
        found.append(row)
    given = {
        "fields": FIELDS,
        "questions": found,
        "replies": list(texts),
        "pictures": [one.uri for one in pictures.values()],
        "small": [one.small for one in pictures.values()],
    }
    return Markup(_json(given)), len(found)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).translate(SAFE)
