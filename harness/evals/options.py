"""Options that a question lists in its own text."""

from __future__ import annotations

import re

from harness.evals.columns import HALF_WIDTH
from harness.scoring import LETTERS

_LOWER = re.compile(r"\(([a-d])\)\s*(.*?)(?=\s*\([a-d]\)|\s*$)", re.DOTALL)
_MARK = re.compile(r"(?<![A-Za-z0-9])\(?([A-H])[).:\u3001]")


def listed(text: str) -> dict[str, str]:
    """Options listed in a text as "A. …", "A: …" or "(A) …": the last list that runs on from A; fewer than
    two are none. Full-width letters and stops are as good."""
    marks = list(_MARK.finditer(text.translate(HALF_WIDTH)))
    for start in reversed([i for i, mark in enumerate(marks) if mark[1] == "A"]):
        run = [marks[start]]
        for mark in marks[start + 1 :]:
            if mark[1] == chr(ord("A") + len(run)):
                run.append(mark)
        if len(run) > 1:
            ends = [mark.start() for mark in run[1:]] + [len(text)]
            return {
                mark[1]: text[mark.end() : end].strip(" \n;,\uff1b\uff0c")
                for mark, end in zip(run, ends, strict=True)
            }
    return {}


def lower_listed(text: str) -> dict[str, str]:
    """Options listed as "(a) … (b) …", by upper-case labels."""
    return {letter.upper(): shown.strip() for letter, shown in _LOWER.findall(text)}


def written_out(question: str) -> tuple[str, ...]:
    """Texts of the options that a question writes out as `(A) ... (B) ...` or `A) ... B) ...`; empty where
    there are none."""
    for form in ("({})", "{})"):
        texts: list[str] = []
        cursor = question.rfind(form.format("A"))
        for letter in LETTERS:
            mark = form.format(letter)
            start = question.find(mark, cursor)
            if cursor < 0 or start < 0:
                break
            if texts:
                texts[-1] = question[cursor:start].strip(" ,;\n")
            cursor = start + len(mark)
            texts.append(question[cursor:].strip(" ,;\n"))
        if len(texts) > 1:
            return tuple(texts)
    return ()
