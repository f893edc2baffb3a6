"""Where a response commits itself in so many marks: `\\boxed{}`, `<answer>` tags. Forward walks, linear on
any text."""

from __future__ import annotations

from vzero.parsing import closing_brace

_BOXES = ("\\boxed{", "\\fbox{", "\\boxed {")
_MOST = 9


def boxes(text: str) -> list[str]:
    """The insides of the last run of boxes: those with nothing but separators between them. Of nested ones
    the innermost of the last.

    An unclosed last box holds the text to the end of its line: an answer that was cut off after it was
    stated.
    """
    found: list[str] = []
    start = limit = max(text.rfind(mark) for mark in _BOXES)
    while start >= 0 and len(found) < _MOST:
        inside, end = _inside(text, start)
        if found and (
            end > limit or text[end:limit].strip(" \n,;$\\()[].") not in ("", "and", "&", "\\text{ and }")
        ):
            break
        found.append(inside)
        limit = start
        start = max(text.rfind(mark, 0, start) for mark in _BOXES)
    return found[::-1]


def _inside(text: str, start: int) -> tuple[str, int]:
    """(inside, index after) of the box whose command begins at `start`."""
    opening = text.find("{", start)
    closing = closing_brace(text, opening + 1)
    if closing is not None:
        return text[opening + 1 : closing], closing + 1
    line = text.find("\n", opening)
    end = len(text) if line < 0 else line
    return text[opening + 1 : end], end


def answer_tag(text: str) -> str | None:
    """The inside of the last `<answer>`, up to its `</answer>` or the end; None where there is none."""
    lower = text.lower() if len(text) == len(text.lower()) else text
    start = lower.rfind("<answer>")
    if start < 0:
        return None
    start += len("<answer>")
    end = lower.find("</answer>", start)
    return text[start:] if end < 0 else text[start:end]
