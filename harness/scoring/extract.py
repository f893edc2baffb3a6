"""The answer in a response: `extract(item, response)`. First draft of the rules behind a settled interface."""

from __future__ import annotations

import re

from harness.scoring.items import Extraction, Item

__all__ = ["Extraction", "extract"]

_CUE = re.compile(r"(?:answer|option|choice)(?: is|:)? ?\(?([A-I1-9])\b(?!')")
_BRACKETED = re.compile(r"\(([A-I])\)")
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


def extract(item: Item, response: str) -> Extraction:
    """What the response answers. Total: never raises, linear in the length of the response."""
    text = response.rpartition("</think>")[2].strip()
    box = text.rpartition("\\boxed{")[2].partition("}")[0].strip() if "\\boxed{" in text else None
    if item.is_choice:
        named = box if box is not None else text
        if named.strip("().").upper() in item.labels:
            return Extraction((named.strip("().").upper(),), parsed=True, how="box" if box is not None else "whole")
        found = [letter for letter in _CUE.findall(text) or _BRACKETED.findall(text) if letter in item.labels]
        return Extraction((found[-1],), parsed=True, how="cue") if found else Extraction()
    numbers = _NUMBER.findall(box if box is not None else text)
    if numbers:
        return Extraction(value=numbers[-1].replace(",", ""), parsed=True, how="number")
    return Extraction()
