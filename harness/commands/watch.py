"""`vzero-harness watch`: a page that follows a run while it goes on, on this machine alone."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from harness.commands import options
from harness.runs.signals import interruptible
from vzero.errors import VZeroError

LOOK = 1.0  # seconds
Port = Annotated[int, Option("--port", min=0, max=65535, help="On 127.0.0.1; default: a free one.")]


def watch(
    run: Annotated[Path, Argument(metavar="RUN", help="A run that goes on, or will be resumed.")],
    port: Port = 0,
) -> None:
    """Follow a run on a page of this machine: progress, curves, questions with votes, alarms. It ends with
    the run, and outlives an interruption of it. Ctrl-C ends the page alone.

    Example: vzero-harness watch runs/pocket
    """
    from harness.watch.server import serving

    terminal = options.console(False)
    with interruptible(), serving(run, port) as (page, address):
        options.say(f"{run} is shown at {address} until it ends.", terminal)
        told = ""
        while (view := page.view()).state in ("running", "interrupted"):
            if view.state != told and "interrupted" in (told, view.state):
                options.say(view.status, terminal)
            told = view.state
            time.sleep(LOOK)
    if view.state == "failed":
        raise VZeroError(f"The run {view.status}")
    options.say(f"The run is finished; see it with: vzero-harness open {run}", terminal)
