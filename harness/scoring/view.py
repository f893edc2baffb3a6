"""A score as a table in the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.scoring.score import Score, over_all
from harness.scoring.total import Totals, by_group

if TYPE_CHECKING:
    from rich.console import Console

NOTHING = "-"


def show(scored: Score, console: Console) -> None:
    """Both lenses overall and by the suite's own groups; what was not answered or cannot be scored; what the
    columns mean."""
    from rich.text import Text

    found = scored.total
    answered, expected = len(scored.verdicts), len(scored.verdicts) + len(scored.unanswered)
    console.print(_table(scored, found))
    for sentence, style in _sentences(scored, found, answered, expected):
        console.print(Text(sentence, style=style), soft_wrap=not console.is_terminal)


def _table(scored: Score, found: Totals):  # type: ignore[no-untyped-def]
    from rich import box
    from rich.table import Table
    from rich.text import Text

    title = Text(f"{scored.suite.title}, %", style="bold")
    table = Table(
        title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0)
    )
    table.add_column(scored.suite.table, no_wrap=True)
    for column in ("n", "official", "verified", "parsed", "verified\nif read"):
        table.add_column(column, justify="right", no_wrap=True)
    groups = by_group(scored.verdicts).get(scored.suite.table, {})
    for value, one in groups.items():
        table.add_row(Text(value), *_cells(one), end_section=value == list(groups)[-1])
    table.add_row(Text("all", style="bold"), *_cells(found))
    return table


def _cells(one: Totals) -> list[str]:
    rates = (one.official, one.verified, one.parsed, one.verified_given_parsed)
    return [f"{one.n:,}", *(NOTHING if rate is None else f"{100 * rate:.1f}" for rate in rates)]


def _sentences(scored: Score, found: Totals, answered: int, expected: int) -> list[tuple[str, str]]:
    said = []
    if scored.unanswered:
        first = ", ".join(scored.unanswered[:3]) + (", ..." if len(scored.unanswered) > 3 else "")
        said.append((f"incomplete: {answered:,} of {expected:,} answered; not scored: {first}", "yellow"))
    if found.without_gold and found.verified is not None:
        official, verified = over_all(scored, found.official), over_all(scored, found.verified)
        said.append(
            (
                f"{found.n:,} of the {answered:,} answered rows have a gold answer. With the others counted as wrong (n = {answered:,}): "
                f"official {100 * (official or 0):.1f} %, verified {100 * (verified or 0):.1f} %.",
                "",
            )
        )
    said.append(
        (
            "official: the suite's published scoring. verified: an answer that cannot be read is wrong, label sets and numbers must be "
            "equal. if read: among the answers that could be read.",
            "dim",
        )
    )
    return said
