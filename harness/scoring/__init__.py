"""Text, gold and kind of question to a verdict: `read` an answer, `judge` it, sum up `totals`."""

from harness.scoring.items import DIGITS, LETTERS, Item, Reading
from harness.scoring.lenses import ScoredResponse, Totals, by_group, judge, totals
from harness.scoring.reading import read

__all__ = [
    "DIGITS",
    "LETTERS",
    "Item",
    "Reading",
    "ScoredResponse",
    "Totals",
    "by_group",
    "judge",
    "read",
    "totals",
]
