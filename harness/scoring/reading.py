"""The answer in a response: the last complete box, else an answer tag, else what the text states.

What none of these reads is unread, never guessed.
"""

from __future__ import annotations

import re

from harness.scoring import choice, free
from harness.scoring.items import Item, Reading
from harness.scoring.labels import resolve
from harness.scoring.text import answer_part, own_turn, plain, thought_ended, without_echo, without_latex
from vzero.parsing import OPTIONS, closing_brace, parse_answer

_BOX = re.compile(r"\\(?:boxed|fbox) ?\{")
_BETWEEN = re.compile(r"[ \n,;$\\()\[\].]*(?:and|&|\\text\{ and \})?[ \n,;$\\()\[\].]*")
_MOST_BOXES = 9


def read(item: Item, response: str, finish_reason: str | None = None) -> Reading:
    """What `response` answers to `item`. Total on any string, and linear in its length.

    Args:
        finish_reason: "length" where the token limit truncated the response. Then its answer counts only if
            its thinking ended before: the opening tag of thinking may have stood in the prompt.
    """
    if finish_reason == "length" and not thought_ended(response):
        return Reading(how="truncated")
    rest, thinking = answer_part(response)
    if thinking and finish_reason != "stop":
        return Reading(how="thinking")
    if not plain(rest):
        return Reading(how="empty")
    for how, mark in (("box", _boxes), ("tag", _tag)):
        inside, after = mark(rest)
        if inside and (found := _answers(item, inside, how)):
            return Reading(found, how)
        if after is not None:  # what stands before a mark is no answer: the mark was to be one
            rest = after
    if thinking:
        return Reading(how="thinking")
    text = without_echo(own_turn(plain(rest)), item.question)
    return choice.state(item, text) if item.is_choice else free.state(item, text)


def _answers(item: Item, insides: list[str], how: str) -> tuple[str, ...]:
    """What a run of boxes, or a tag, holds."""
    if not item.is_choice:
        phrase = insides[-1] if item.kind != "list" else ", ".join(insides)
        if (value := free.answer(item, phrase)) is not None:
            return (value,)
        return free.state(item, plain(phrase)).found if how == "tag" else ()
    letter = parse_answer(f"\\boxed{{{insides[-1]}}}") if item.labels == OPTIONS else None
    if letter:  # as the votes read it
        return (letter,) if item.kind == "choice" or len(insides) == 1 else _labels(item, insides, True)
    by_label = how == "tag" or item.labels != OPTIONS or item.kind == "multi"
    if labels := _labels(item, insides, by_label):
        return labels
    return choice.state(item, plain(insides[-1])).found if how == "tag" else ()


def _labels(item: Item, insides: list[str], by_label: bool) -> tuple[str, ...]:
    named = (resolve(item, plain(inside), by_label) for inside in insides)
    return choice.chosen(item, tuple(label for labels in named for label in labels))


def _boxes(text: str) -> tuple[list[str], str | None]:
    """(insides of the last run of boxes with nothing but separators between them, what follows).

    Of nested boxes the innermost of the last. An unclosed last box holds nothing, and nothing follows it.
    """
    starts = [found.span() for found in _BOX.finditer(text)][-_MOST_BOXES:]
    insides: list[str] = []
    limit = after = None
    for start, begin in reversed(starts):
        end = closing_brace(text, begin)
        if end is None and limit is None:
            return [], ""
        if end is None or (limit and (end > limit or not _BETWEEN.fullmatch(text[end + 1 : limit]))):
            break
        insides.append(text[begin:end])
        after = text[end + 1 :] if after is None else after
        limit = start
    return insides[::-1], after


def _tag(text: str) -> tuple[list[str], str | None]:
    """(inside of the last `<answer>`, up to its `</answer>` or the end; what follows)."""
    lower = text.lower() if len(text) == len(text.lower()) else text
    start = lower.rfind("<answer>")
    if start < 0:
        return [], None
    end = lower.find("</answer>", start)
    end = end if end >= 0 else len(text)
    inside = text[start + len("<answer>") : end]
    return [inside if "{" in inside else without_latex(inside)], text[end + len("</answer>") :]
