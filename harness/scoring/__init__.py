"""Text, gold and kind of question to a verdict: `read` an answer, `judge` it, sum up `totals`. Pure
functions.

Nothing heavy is imported before it is needed, and nothing of `harness` that stands above this room.
"""

from harness.scoring.items import DIGITS, LETTERS, Item, Reading
from harness.scoring.reading import read
from harness.scoring.verdict import Totals, Verdict, by_group, judge, totals

__all__ = ["DIGITS", "LETTERS", "Item", "Reading", "Totals", "Verdict", "by_group", "judge", "read", "totals"]
