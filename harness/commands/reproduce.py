"""`vzero-harness reproduce`: the whole experiment, from unlabeled images to the result table."""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import TYPE_CHECKING

from harness.commands import options
from harness.run.signals import interruptible

if TYPE_CHECKING:
    from rich.console import Console

    from harness.report import Finished
    from vzero.config import Preset


def reproduce(
    preset: options.PresetName = "pocket",
    images: options.Images = None,
    out: options.Out = None,
    seed: options.Seed = None,
    set_: options.Set = None,
    fresh: options.Fresh = False,
    plain: options.Plain = False,
    json: options.Json = False,
    show: options.Show = False,
) -> None:
    """Run V-Zero from unlabeled images to a table of results; the same command resumes after any interruption.

    Example: vzero-harness reproduce --preset pocket --seed 1 --out runs/seed-1
    """
    with interruptible():
        resolved = options.resolve(preset, images, seed, set_)
        if show:
            _show(resolved, json)
            return
        folder, terminal = options.run_folder(out, resolved), options.console(json)
        finished = _run(resolved, folder, fresh, plain, terminal)
        if json:
            print(json_format.dumps(finished.results, indent=2))
        else:
            from harness.report import print_summary

            print_summary(folder, terminal)


def _show(resolved: Preset, json: bool) -> None:
    from harness.commands.show import as_toml

    tree = resolved.model_dump(mode="json")
    print(json_format.dumps(tree, indent=2) if json else as_toml(tree))


def _run(resolved: Preset, folder: Path, fresh: bool, plain: bool, terminal: Console) -> Finished:
    from harness.report import finish
    from harness.run import ledger
    from harness.run.directory import opened
    from harness.run.display import shown
    from harness.run.orchestrate import run_plan
    from vzero.selfplay import plan

    stages = plan(resolved)
    with opened(folder, resolved, "reproduce", fresh) as run:
        with shown(stages, terminal, plain) as display:
            run_plan(run, resolved, stages, display)
        finished = finish(folder)
        ledger.append(folder, {"event": "run-finished", "command": "reproduce"})
    return finished
