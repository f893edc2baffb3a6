"""Reward parsing: what a reward reads of each completion, on long hostile text, against the regular
expressions that first come to mind."""

from __future__ import annotations

import re

from benchmarks.case import Case
from vzero.parsing import has_control_tokens, parse_answer, parse_question

_QUESTION = re.compile(r"<question>(.*?)</question>", re.DOTALL)
_ANSWER = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
_LETTER = re.compile(r"[A-D]")
_BOXED = re.compile(r"\\boxed\{([^{}]*)\}")
_CONTROL = re.compile(r"<\|[^|\s<>]{1,64}\|>")


def texts(kind: str) -> list[str]:
    """A generation batch of completions: "well-formed" ones of 4,000 characters, or "hostile" ones of 20,000
    that never close."""
    if kind == "well-formed":
        prose = "the red circle is left of the square . " * 100
        question = "<question>how many ? A) 1 B) 2 C) 3 D) 4</question><answer>B</answer>"
        written = f"<description>{prose}</description>{question}"
        return [written, f"<think>{prose}</think> so \\boxed{{\\text{{B}}}}"] * 128
    return [
        "<question>" * 2000,
        "<answer>" * 2500,
        "\\boxed{" * 2800 + "A",
        "<|" * 10000,
        "<think>" + "\\boxed{A} " * 2000,
    ]


def parsing(kind: str) -> Case:
    """Questions, answers and control tokens of `texts(kind)`."""
    batch = texts(kind)
    characters = sum(map(len, batch))

    def ours() -> float:
        for text in batch:
            parse_question(text)
            parse_answer(text)
            has_control_tokens(text)
        return characters

    def naive() -> float:
        for text in batch:
            question, answer = _QUESTION.search(text), _ANSWER.search(text)
            if question and answer:
                all(mark in question[1] for mark in ("A)", "B)", "C)", "D)")) and _LETTER.search(answer[1])
            boxed = _BOXED.findall(text.rpartition("</think>")[2])
            boxed and _LETTER.search(boxed[-1])
            _CONTROL.search(text)
        return characters

    return Case(
        ours,
        naive,
        "vzero.parsing: linear, no regular expressions",
        "regular expressions with lazy groups, which read fewer answers and are quadratic at worst",
        "character",
        {"texts": len(batch), "characters": characters, "kind": kind},
        notes=("The two sides do not read the same language; only the cost of reading is compared.",),
    )
