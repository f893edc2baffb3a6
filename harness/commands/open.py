"""`vzero-harness open`: the report of a run, or the page of a grid, in the browser."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

from typer import Argument

from harness.commands import options
from vzero.errors import InputError

PAGES = ("report.html", "arms.html", "results.md")  # of a run, of a grid, of an evaluation


def open_(
    run: Annotated[Path, Argument(metavar="RUN", help="A run, a grid or an evaluation.")],
) -> None:
    """Open the report of a run, or the page of a grid, in the browser; print its path.

    Example: vzero-harness open runs/pocket
    """
    page = next((run / name for name in PAGES if (run / name).is_file()), None)
    if page is None:
        raise InputError(
            f"{run} has no report yet; finish it with the command that began it, or follow it with: "
            f"vzero-harness watch {run}"
        )
    options.say(str(page), options.console(False))
    if page.suffix == ".html" and has_browser():
        import webbrowser

        webbrowser.open(page.absolute().as_uri())


def has_browser() -> bool:
    """Whether a browser can show itself; one for terminals would take this one over."""
    if os.environ.get("BROWSER") or not sys.platform.startswith("linux"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
