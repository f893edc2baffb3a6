"""How a response is laid out: numbered lines, options marked at the beginning of lines, labels alone on a
line."""

from __future__ import annotations

import re

from harness.scoring import meaning
from harness.scoring.items import Item

BRACKETED = re.compile(r"\( ?([A-Ia-i1-9]) ?\)")
ALONE = re.compile(r"(?:^|\n)\W{0,4}[A-I1-9]\W{0,4}(?:\n|$)")
LINE = re.compile(r"(?:^|\n)[\"'>*# ]{0,4}(?:\(([A-Ia-i])\)|([A-Ia-i])\)|([A-I])[.:])(?= ?[^\s])")
NUMBERED = re.compile(r"(?:^|(?<=[\s,]))(?:\d{1,2}[.)]|[①-⑨]) ?")
_COUNTED = re.compile(r"(\d{1,2})[.)] ?")
ORNAMENTS = " \n#>*-~|" + "".join(
    map(chr, (*range(0x2022, 0x2024), *range(0x25A0, 0x2800), *range(0x1F300, 0x1FAFF)))
)


def unnumbered(text: str) -> str:
    """The text without the `1.` or `①` it begins with."""
    return NUMBERED.sub("", text, count=1) if len(text) > 3 else text


def lists(text: str) -> bool:
    """Whether several options are marked in the text, as in a copy of the question."""
    lines = {(found[1] or found[2] or found[3]).upper() for found in LINE.finditer(text)}
    return len(lines) > 1 or len(set(BRACKETED.findall(text))) > 1


def copies_option(item: Item, line: str) -> bool:
    """Whether a line is `B) its own text`, or `2. its own text`, as in a copy of the question."""
    if mark := LINE.match(line):
        label = (mark[1] or mark[2] or mark[3]).upper()
    elif (mark := _COUNTED.match(line)) and 1 <= int(mark[1]) <= len(item.options):
        label = item.labels[int(mark[1]) - 1]
    else:
        return False
    return label in item.labels and meaning.words(line[mark.end() :]) == list(
        meaning.option_words(meaning.text_of(item, label))
    )


def copies_options(item: Item, text: str) -> bool:
    """Whether several lines are copies of options."""
    return sum(copies_option(item, line) for line in text.split("\n")) > 1
