"""What MathVista's official pipeline is handed where a response holds no answer: the words its GPT-4 extractor is seen to write.

Without a choice among the options the official normaliser takes the option nearest to those words, so a verdict needs them. In the published
extractions a short statement that information is lacking is copied; after anything longer stands "N/A"; where the response finds that no option
fits, "None".
"""

from __future__ import annotations

from harness.scoring.cues import LACKING, NO_OPTION
from harness.scoring.text import sentences

_LONGEST = 300


def words_instead(text: str) -> str:
    """The extractor's words for `text`, a response without an answer."""
    lines = list(sentences(text[:20_000]))
    if not lines:
        return ""
    if NO_OPTION.search(text):
        return "None"
    if len(lines) == 1 or (len(lines) == 2 and LACKING.search(lines[0])):
        return "N/A" if lines[0].startswith("As an") else lines[0][:_LONGEST]
    return "N/A"
