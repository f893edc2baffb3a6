"""Rows that cannot be asked: named with the reason, counted, and in no rate. They never stop the others."""

from __future__ import annotations

from collections.abc import Sequence

from harness.stats import Frozen
from vzero.errors import InputError, VZeroError

MOST = 0.005  # share of a suite's rows above which its numbers are a protocol deviation
_LONGEST = 160  # characters of a reason: what is wrong with a row may quote the row


class SetAside(Frozen):
    """One row.

    Attributes:
        id: of its item, or "row N" (from 1) where it has none.
        digest: of the row as found, so that it is known again; "" where nothing could be read.
    """

    id: str
    reason: str
    digest: str = ""


def too_many(aside: int, rest: int) -> bool:
    """Whether a suite with so many rows set aside, and so many others, is another suite."""
    return aside > MOST * (aside + rest)


def nothing_left(suite: str, place: object, aside: Sequence[SetAside]) -> InputError:
    """Of a suite none of whose rows can be asked."""
    why = f": {len(aside)} set aside, {aside[0].id} because {aside[0].reason}" if aside else ""
    return InputError(f"No row of {suite} in {place} can be asked{why}; get the data again.")


def counted(aside: Sequence[SetAside]) -> str:
    """How many rows are set aside."""
    return f"{len(aside):,} row{'' if len(aside) == 1 else 's'} set aside"


def told(aside: Sequence[SetAside], shown: int = 3) -> str:
    """How many rows are set aside, and the first of them with their reasons."""
    more = f"; {len(aside) - shown:,} more" if len(aside) > shown else ""
    return f"{counted(aside)}: " + "; ".join(f"{one.id} ({one.reason})" for one in aside[:shown]) + more


def printable(text: str) -> str:
    """A text that can be written as UTF-8: halves of surrogates, left by bytes that are none, as escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


class UnusableRow(InputError):
    """A row that cannot be asked; the message is the reason."""

    def __init__(self, reason: object) -> None:
        super().__init__(" ".join(printable(str(reason)).split())[:_LONGEST])


class TooLong(VZeroError):
    """Items whose picture, question and answer exceed the model's context, found when they were asked.

    Attributes:
        items: suite, id and reason of each.
    """

    def __init__(self, items: Sequence[tuple[str, str, str]]) -> None:
        self.items = tuple(items)
        super().__init__(f"{items[0][1]} of {items[0][0]}: {items[0][2]}")


def repeated(rows: Sequence[tuple[str, str]]) -> list[str | None]:
    """Of rows given as (id, digest), why each cannot stay; None where it can.

    Of equal rows the first stays. Rows that differ under one id all go: none is more right than another.
    """
    digests: dict[str, set[str]] = {}
    for key, digest in rows:
        digests.setdefault(key, set()).add(digest)
    seen: set[str] = set()
    reasons: list[str | None] = []
    for key, _ in rows:
        again = "it repeats an earlier row" if key in seen else None
        reasons.append("other rows have its id" if len(digests[key]) > 1 else again)
        seen.add(key)
    return reasons
