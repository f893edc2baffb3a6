"""`vzero-harness export`: a trained checkpoint out of a run, with its model card."""

from __future__ import annotations

from json import dumps
from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, Option

from harness.commands import options

Role = Annotated[Literal["solver", "questioner"], Option("--role", help="Whose checkpoint.")]


def export(
    run: Annotated[Path, Argument(help="A run directory.")],
    to: Annotated[
        str, Option("--to", metavar="DIR|hub:ORG/NAME", help="A new folder, or a repository on the hub.")
    ],
    role: Role = "solver",
    iteration: Annotated[
        int | None, Option("--iteration", min=1, help="After which iteration; default: the last.")
    ] = None,
    public: Annotated[
        bool, Option("--public", help="Make a new hub repository public; default: private.")
    ] = False,
    json: options.Json = False,
) -> None:
    """Write a trained checkpoint as a plain Hugging Face folder with a model card: method, data, run,
    findings, limits.

    Example: vzero-harness export runs/seed-0 --to exported/solver
    """
    from harness.report.export import prepare, to_folder, to_hub

    found = prepare(run, role, iteration)
    if to.startswith("hub:"):
        place = to_hub(found, to.removeprefix("hub:"), public)
    else:
        to_folder(found, options.path_option(to))
        place = to
    print(
        dumps({"stage": found.made.stage.name, "to": place}) if json else f"{found.made.stage.name}: {place}"
    )
