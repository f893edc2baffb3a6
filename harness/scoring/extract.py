"""The answer in a response: `extract(item, response)`.

Rules in the order of how plainly they commit the writer; the first that finds an answer decides. Each has its name in `Extraction.how`;
docs/scoring.md lists them.
"""

from __future__ import annotations

from dataclasses import replace

from harness.scoring import choice, free
from harness.scoring.items import LETTERS, Extraction, Item
from harness.scoring.refusals import words_instead
from harness.scoring.text import answer_part, last_turn, own_turn, plain, without_echo

__all__ = ["Extraction", "extract"]


def extract(item: Item, response: str) -> Extraction:
    """What the response answers. Total: never raises, linear in the length of the response."""
    rest, thinking = answer_part(response)
    whole = plain(rest)
    text = without_echo(own_turn(whole), item.question)
    if not text:
        return Extraction(how="empty")
    found = choice.extract(item, text, thinking) if item.is_choice else free.extract(item, text, thinking)
    if item.rule == "nearest" and (following := last_turn(whole)):
        return replace(found, text=_of_another_question(item, following))
    return found if found.parsed else replace(found, text=words_instead(text))


def _of_another_question(item: Item, text: str) -> str:
    """The answer to the question that the model asked itself: the published extractor read to the end, and took this one."""
    asked = replace(item, question="", choices=(), labels=LETTERS[:6], kind="choice")
    if (found := choice.extract(asked, text, False)).parsed:
        return found.labels[0]
    number = free.extract(replace(asked, labels=(), kind="integer"), text, False)
    return number.value if number.value is not None else "N/A"
