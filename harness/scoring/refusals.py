"""What MathVista's official pipeline is handed where a response holds no answer: the words its GPT-4
extractor is seen to write.

Without a choice among the options the official normaliser takes the option nearest to those words, so a
verdict needs them. In the published extractions a sentence that finds fault with the question is copied (a
plea for more information after it left out), one about what the image lacks is "N/A"; of a longer refusal its
closing words are kept ("Cannot be determined") or "N/A" stands; where the response finds that no option fits,
"None"; of options listed without a choice, the last.
"""

from __future__ import annotations

import re

from harness.scoring.cues import NO_OPTION, REFUSAL
from harness.scoring.text import sentences

_LONGEST = 300
# "Therefore, the question cannot be answered with the given information.", "The answer is: Cannot be
# determined."
_CLOSING = re.compile(
    r"\b(?:cannot|can not|can't) be (?:definitively )?(?P<verb>determined|answered)(?P<manner> (?:with|from|based on) the .{0,40})?[.]?$"
    r"|\b(?P<lack>not (?:provided|given|determinable|listed)|inconclusive)\b",
    re.IGNORECASE,
)
_FAULTS_THE_QUESTION = re.compile(r"(?:the|this) (?:question|text)\b", re.IGNORECASE)
_ASKS = re.compile(r"(?:please|could you|can you|i need|we need)\b", re.IGNORECASE)


def words_instead(text: str) -> str:
    """The extractor's words for `text`, a response without an answer; empty for an empty one, as the
    published script has it."""
    lines = list(sentences(text[:20_000]))
    if not lines:
        return ""
    if NO_OPTION.search(text):
        return "None"
    if text.startswith("("):
        return lines[-1][:_LONGEST]
    faulted = _FAULTS_THE_QUESTION.match(lines[0]) is not None
    if len(lines) == 1 and REFUSAL.search(text):
        return lines[0][:_LONGEST] if faulted else "N/A"
    if len(lines) == 1 or (len(lines) == 2 and _ASKS.match(lines[1])):
        return "N/A" if lines[0].startswith("As an") else lines[0][:_LONGEST]
    if faulted:
        return "N/A"
    closing = _CLOSING.search(lines[-1])
    return _closing_words(closing) if closing else "N/A"


def _closing_words(closing: re.Match[str]) -> str:
    if closing["lack"]:
        return closing["lack"].capitalize()
    if closing["manner"] and (
        "image" in closing["manner"] or (closing["verb"] == "answered" and " based on " in closing["manner"])
    ):
        return "N/A"
    return "Cannot be determined" if closing["manner"] else f"Cannot be {closing['verb'].lower()}"
