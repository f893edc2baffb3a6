"""`vzero-harness diff`: were two evaluations asked alike, were two runs made alike?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Exit

from harness.commands import options

if TYPE_CHECKING:
    from harness.analysis.differences import Difference
    from harness.tables.table import Table

ALIKE = "They are alike in all that was compared."
PLACE = "An evaluation, a run, or an evaluate stage in one."


def diff(
    a: Annotated[Path, Argument(metavar="A", parser=options.path_option, help=PLACE)],
    b: Annotated[Path, Argument(metavar="B", parser=options.path_option, help=PLACE)],
    json: options.Json = False,
) -> None:
    """Name what differs between two evaluations or two runs, and whether it matters. No model is loaded.

    Exit code 1 when something would change what was asked or trained; 0 when they are alike.

    Example: vzero-harness diff runs/base runs/trained
    """
    with options.working("Comparing the two"):
        from harness.analysis import sides
        from harness.analysis.differences import compare
        from harness.tables import terminal

        found = compare(sides.read(a), sides.read(b))
    alike = not any(one.matters for one in found)
    if json:
        rows = [one.model_dump(mode="json") for one in found]
        options.out_json({"a": str(a), "b": str(b), "alike": alike, "differences": rows})
    elif found:
        terminal.show(_table(a, b, found), options.console(json))
    else:
        terminal.say(ALIKE, options.console(json))
    raise Exit(0 if alike else 1)


def _table(a: Path, b: Path, found: list[Difference]) -> Table:
    from harness.analysis.differences import shown
    from harness.tables.table import Cell, Table, keys, texts
    from harness.tables.text import one_line

    def row(one: Difference) -> tuple[str, str, str, Cell]:
        verdict = Cell.of(f"yes: {one.why}", tone="bad") if one.matters else Cell.of(f"no: {one.why}")
        return one.what, one_line(shown(one.a), 200), one_line(shown(one.b), 200), verdict

    groups = [[row(one) for one in found if one.matters == matters] for matters in (True, False)]
    count = sum(one.matters for one in found)
    changes = f"{count} difference{'s' if count > 1 else ''} would change what was asked or trained."
    return Table(
        f"A {a}\nB {b}",
        (*keys("what"), *texts("A", "B", "does it matter")),
        groups,
        [changes if count else ALIKE],
    )
