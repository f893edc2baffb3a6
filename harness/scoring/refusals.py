"""What MathVista's official pipeline is handed where a response holds no answer: the words its GPT-4 extractor is seen to write.

Without a choice among the options the official normaliser takes the option nearest to those words, so a verdict needs them. In the published
extractions a single sentence is copied (a plea for more information after it left out); of a longer refusal its closing words are kept ("Cannot
be determined") or "N/A" stands; where the response finds that no option fits, "None".
"""

from __future__ import annotations

import re

from harness.scoring.cues import NO_OPTION
from harness.scoring.text import sentences

_LONGEST = 300
_MANNER = r"(?: (?:with|from) the (?:given|provided) information)?"
_CLOSING = re.compile(rf"\b(?P<said>(?:cannot|can not|can't) be (?:definitively )?(?:determined|answered)){_MANNER}[.]?$|\bnot (?P<lack>provided|given|determinable)\b")
_ASKS = re.compile(r"(?:please|could you|can you|i need|we need)\b", re.IGNORECASE)


def words_instead(text: str) -> str:
    """The extractor's words for `text`, a response without an answer."""
    lines = list(sentences(text[:20_000]))
    if not lines:
        return ""
    if NO_OPTION.search(text):
        return "None"
    if len(lines) == 1 or (len(lines) == 2 and _ASKS.match(lines[1])):
        return "N/A" if lines[0].startswith("As an") else lines[0][:_LONGEST]
    if closing := _CLOSING.search(lines[-1]):
        return f"{(closing['said'] or 'not ' + closing['lack']).capitalize()}".replace("definitively ", "")
    return "N/A"
