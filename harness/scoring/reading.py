"""The answer in a response."""

from harness.scoring.extract import extract
from harness.scoring.items import Item, Reading


def read(item: Item, text: str, finish_reason: str | None = None) -> Reading:
    """What `text` answers to `item`; never a guess, total on any string.

    Args:
        finish_reason: "length" where the token limit truncated the text.
    """
    found = extract(item, text)
    return Reading(tuple(found.answer), found.how, found.text)
