"""Two verdicts on one extraction: by the suite's published rule, and strictly.

Published rules, written anew from their sources:
- "nearest" (MathVista, github.com/lupantech/MathVista, evaluation/calculate_score.py): what names no option
  becomes the nearest one by Levenshtein distance, the first on ties, so that even an empty answer names the
  shortest option; an integer must be written as one (so the published verdicts were made; the script as it
  stands today truncates `14.6` to 14), a float is rounded to the item's precision; a list is compared as
  text.
- "set" (LogicVista, github.com/Yijia-Xiao/LogicVista, eval/extract_accuracy.py): sorted lower-case labels are
  equal, duplicates and all.
- "value": the values are equal.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

from harness.scoring.items import Extraction, Item

_BRACKETED = re.compile(r"\(([a-zA-Z])\)")


def official(item: Item, extraction: Extraction) -> bool:
    """The suite's published scoring of what was extracted. False where the item has no gold."""
    if not item.gold:
        return False
    if item.rule == "mathvista":
        given = extraction.text or ", ".join(extraction.labels) or extraction.value or ""
        return published(item, given)
    return strict(item, extraction)


def strict(item: Item, extraction: Extraction) -> bool:
    """Unparsed is wrong; the label set must equal the gold set, a number the gold number, a float after
    rounding to the precision."""
    if not item.gold or not extraction.parsed:
        return False
    if item.kind == "choice":  # several gold labels are equal options: any of them is right
        return len(extraction.labels) == 1 and extraction.labels[0] in item.gold
    if item.kind == "multi":
        return set(extraction.labels) == set(item.gold)
    if extraction.value is None:
        return False
    if item.kind in ("integer", "float"):
        return _same_number(extraction.value, item.gold[0], item.precision)
    return _squeezed(extraction.value) == _squeezed(item.gold[0])


def published(item: Item, extraction: str | None) -> bool:
    """The MathVista verdict on an extraction made elsewhere, given as the text the extractor wrote."""
    if extraction is None:
        return False
    prediction = normalise(item, extraction)
    if item.is_choice:
        return prediction in [item.options[item.labels.index(label)] for label in item.gold]
    return prediction == item.gold[0]


def normalise(item: Item, extraction: str) -> str | None:
    """MathVista's normalised prediction: an option's text, a number as text, or None where it is no
    number."""
    if item.is_choice:
        return _option(item, extraction.strip())
    try:
        if item.kind == "integer":
            return str(int(extraction))
        if item.kind == "float":
            return str(round(float(extraction), item.precision or 0))
    except (ValueError, OverflowError):
        return None
    return extraction


def _option(item: Item, extraction: str) -> str:
    letter = _BRACKETED.search(extraction)
    if letter:
        extraction = letter.group(1).upper()
    if extraction in item.labels:
        return item.options[item.labels.index(extraction)]
    from Levenshtein import distance

    return min(item.options, key=lambda choice: distance(extraction, choice))


def _same_number(value: str, gold: str, precision: int | None) -> bool:
    try:
        ours, theirs = Decimal(value), Decimal(gold)
    except InvalidOperation:
        return False
    if precision is None:
        return ours == theirs
    return round(float(ours), precision) == round(float(theirs), precision)


def _squeezed(text: str) -> str:
    return "".join(text.split()).casefold()
