"""`vzero-harness new-arm`: two files to start an idea from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from typer import Argument, Option

from harness.commands import options


def new_arm(
    name: Annotated[str, Argument(help="Of the arm and its files: small letters, digits, hyphens.")],
    to: Annotated[
        Path | None,
        Option("--to", parser=options.path_option, metavar="DIR", help="Folder of the files; default: here."),
    ] = None,
) -> None:
    """Write NAME.toml and NAME.py: an arm with its reward file, V-Zero until you change it.

    Example: vzero-harness new-arm my-idea
    """
    from vzero.arms import TAKEN
    from vzero.arms.own import write_new

    arm, reward = write_new(name, to or Path(), TAKEN)
    options.out(f"""{reward} and {arm}: as they stand, V-Zero. Change them, then
  vzero-harness audit --arm v-zero,{arm}
  vzero-harness reproduce --preset smoke --arms v-zero,{arm} --out runs/{name}-smoke
  vzero-harness reproduce --arms v-zero,{arm} --seeds 3 --out runs/{name}
  vzero-harness table runs/{name} --against v-zero""")
