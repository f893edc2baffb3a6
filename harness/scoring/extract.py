"""The answer in a response: `extract(item, response)`.

Rules in the order of how plainly they commit the writer; the first that finds an answer decides. Each has its
name in `Extraction.how`; docs/scoring.md lists them.
"""

from __future__ import annotations

import re
from dataclasses import replace

from harness.scoring import choice, free
from harness.scoring.cues import ANNOUNCED, CONCLUSION
from harness.scoring.items import LETTERS, Extraction, Item
from harness.scoring.numerals import numbers
from harness.scoring.refusals import words_instead
from harness.scoring.text import answer_part, ends, last_turn, own_turn, plain, sentences, without_echo

_SOLUTION = re.compile(r"(?:^|\n)(?:solution|answer|ai|assistant):", re.IGNORECASE)
_SAID = re.compile(r"\b(?:is|are|was|were|be|has|have|had|equals?|of) |[=:] ?(?=[^=:]{1,80}$)")
_ONE = r"-?\d{1,20}(?:[.,/]\d{1,20}){0,4}"
_NUMBERS = re.compile(rf"[$£€]?{_ONE}(?:(?:,| and|, and) ?{_ONE}){{0,5}}(?! ?[-+*^=(]|[\w.]*\w)")
_FORMULA = re.compile(r"\d ?[-+*/^=(]|\d[a-z]\b")

__all__ = ["Extraction", "extract"]


def extract(item: Item, response: str) -> Extraction:
    """What the response answers. Total: never raises, linear in the length of the response."""
    rest, thinking = answer_part(response)
    whole = plain(rest)
    text = without_echo(own_turn(whole), item.question)
    if not text:
        return Extraction(how="empty")
    found = choice.extract(item, text, thinking) if item.is_choice else free.extract(item, text, thinking)
    if item.rule == "mathvista" and (following := last_turn(whole)):
        return replace(found, text=_of_another_question(item, ends(following)))
    return found if found.parsed else replace(found, text=words_instead(text))


def _of_another_question(item: Item, text: str) -> str:
    """The answer to the question that the model asked itself: the published extractor read to the end, and
    took this one.

    Where neither a label nor a number answers it, the words in which it concludes.
    """
    question, answer = _asked_and_answered(text)
    asked = replace(item, question=question, options=(), labels=LETTERS[:6], kind="choice")
    if (found := choice.extract(asked, answer, False)).parsed:
        return found.labels[0]
    if words := _concluding_words(answer):
        return words
    number = free.extract(replace(asked, labels=(), kind="integer"), answer, False)
    return number.value if number.value is not None else (list(sentences(answer))[-1:] or ["N/A"])[0]


def _concluding_words(answer: str) -> str:
    """`24` of "Therefore, a cube has 24 edges.", `1 and 4` of "So the solutions are 1 and 4."; nothing where
    no sentence concludes."""
    lines = list(sentences(answer))
    concluding = [
        place for place, line in enumerate(lines) if CONCLUSION.search(line) or ANNOUNCED.search(line)
    ]
    if not concluding:
        return ""
    last = len(lines) - 1 if lines[-1].endswith(".") else concluding[-1]
    line = (
        f"{lines[last]} {lines[last + 1]}"
        if lines[last].endswith(":") and last + 1 < len(lines)
        else lines[last]
    )
    said = _SAID.split(line)[-1].strip(" .:")
    if listed := _NUMBERS.match(said):
        return re.sub(r",? and ?", ", ", listed[0])
    counted = numbers(said)
    return counted[0][0] if len(counted) == 1 and not _FORMULA.search(said) else said


def _asked_and_answered(turn: str) -> tuple[str, str]:
    """A turn that the model wrote itself, parted at "Solution:" or "Answer:", else after its first line."""
    solution = _SOLUTION.search(turn)
    if solution:
        return turn[: solution.start()], turn[solution.end() :].strip()
    question, _, answer = turn.partition("\n")
    return question, answer.strip()
