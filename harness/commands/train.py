"""`vzero-harness train`: the self-play loop without the held-out evaluation."""

from __future__ import annotations

import json as json_format
from pathlib import Path
from typing import TYPE_CHECKING

from harness.commands import options
from harness.runs.signals import interruptible

if TYPE_CHECKING:
    from rich.console import Console

    from vzero.config import Preset


def train(
    preset: options.PresetName = "pocket",
    images: options.Images = None,
    out: options.Out = None,
    seed: options.Seed = None,
    set_: options.Set = None,
    solver_url: options.SolverUrl = None,
    fresh: options.Fresh = False,
    plain: options.Plain = False,
    json: options.Json = False,
    node_rank: options.NodeRank = None,
) -> None:
    """Train both roles and stop: all stages but those that measure. `reproduce` with the same options adds
    these later.

    Example: vzero-harness train --preset pocket --images photos --out runs/photos
    """
    from harness.doctor.capabilities import require

    with interruptible():
        resolved = options.resolve(preset, images, seed, set_, solver_url)
        require(resolved, evaluates=False)
        if (rank := options.other_node(node_rank, resolved)) is not None:
            options.take_part(rank, resolved, out, json)
            return
        folder, terminal = options.run_folder(out, resolved), options.console(json)
        made = _run(resolved, folder, fresh, plain, terminal)
        if json:
            print(json_format.dumps({"run": str(folder), "checkpoints": made}, indent=2))
            return
        for name, path in made.items():
            terminal.print(f"{name}: {path}", markup=False, highlight=False, soft_wrap=True)


def _run(resolved: Preset, folder: Path, fresh: bool, plain: bool, terminal: Console) -> dict[str, str]:
    from harness.runs import ledger
    from harness.runs.directory import opened
    from harness.runs.display import shown
    from harness.runs.orchestrate import run_plan
    from vzero.runtime.stage import stage_folder
    from vzero.selfplay import training

    stages = training(resolved)
    with opened(folder, resolved, "train", fresh) as run:
        with shown(stages, terminal, plain) as display:
            run_plan(run, resolved, stages, display)
        ledger.append(folder, {"event": "run-finished", "command": "train"})
    return {
        f"{stage.kind.removeprefix('train-')}-{stage.iteration}": str(
            stage_folder(folder, stage.name) / "checkpoint"
        )
        for stage in stages
        if stage.kind in ("train-questioner", "train-solver")
    }
