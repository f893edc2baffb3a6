"""Several runs as one object: arms and checkpoints beside each other, the same arm's seeds pooled, published rows beside ours.

    load       run folders -> what their results.json says, item by item where it can
    build      runs -> the comparison: rows, cells, gains over a reference
    published  rows of numbers that others printed

`harness.report` renders the object; nothing here knows how it looks. A results.json is enough: neither weights nor stages are opened.
"""

from harness.comparison.build import compare
from harness.comparison.load import Loaded, load

__all__ = ["Loaded", "compare", "load"]
