"""Published numbers as data: what others report, where, on what, and how sure we are of it. See `schema` for
the fields.

`numbers()` are scores and gains as published, in percent and points; `claims()` are what a run of ours can be
judged against. A number that could not be found is an entry without a value and with the reason, never a
guess.
"""

from __future__ import annotations

from functools import cache
from importlib import resources

from harness.claims.schema import Book, Claim, GainClaim, Number, OrderClaim, Source

__all__ = ["Book", "Claim", "GainClaim", "Number", "OrderClaim", "Source", "claims", "load", "numbers"]

FILES = ("vzero.json", "baselines.json", "base.json", "claims.json")


@cache
def load() -> Book:
    """All files as one validated book: ids are unique, every source is there.

    Raises:
        pydantic.ValidationError: a file breaks the schema.
    """
    folder = resources.files(__package__)
    parts = [Book.model_validate_json((folder / name).read_text(encoding="utf-8")) for name in FILES]
    return Book.model_validate(
        {field: [one for part in parts for one in getattr(part, field)] for field in Book.model_fields}
    ).checked()


def numbers(
    method: str | None = None, model: str | None = None, suite: str | None = None, *, published: bool = True
) -> list[Number]:
    """Entries of this method, model and suite; without `published` also those whose value is missing."""
    return [
        one
        for one in load().numbers
        if method in (None, one.method)
        and model in (None, one.model)
        and suite in (None, one.suite)
        and (one.value is not None or not published)
    ]


def claims() -> list[Claim]:
    """What can be judged, in the order of the file."""
    return load().claims
