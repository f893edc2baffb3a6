"""`vzero-harness reproduce`: the whole experiment, from unlabeled images to the result table."""

from __future__ import annotations

import json as json_format

from harness.commands import options


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
    resolved = options.resolve(preset, images, seed, set_)
    if show:
        from harness.commands.show import as_toml

        tree = resolved.model_dump(mode="json")
        print(json_format.dumps(tree, indent=2) if json else as_toml(tree))
        return
    from harness.run import ledger
    from harness.run.directory import opened
    from harness.run.display import shown
    from harness.run.orchestrate import run_plan
    from harness.run.process import interruptible
    from vzero.selfplay import plan

    folder, console, stages = options.run_folder(out, resolved), options.console(json), plan(resolved)
    with interruptible(), opened(folder, resolved, "reproduce", fresh) as run:
        with shown(stages, console, plain) as display:
            run_plan(run, resolved, stages, display)
        from harness.report import finish, print_summary

        finished = finish(run.folder)
        ledger.append(run.folder, {"event": "run-finished", "command": "reproduce"})
    if json:
        print(json_format.dumps(finished.results, indent=2))
    else:
        print_summary(folder, console)
