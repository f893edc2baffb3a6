"""`vzero-harness train`: the self-play loop without the held-out evaluation."""

from __future__ import annotations

from harness.commands import options
from harness.commands.running import Runner
from harness.runs.signals import interruptible


def train(
    preset: options.PresetName = "pocket",
    images: options.Images = None,
    out: options.Out = None,
    seed: options.Seed = None,
    set_: options.Set = None,
    solver_url: options.SolverUrl = None,
    fresh: options.Fresh = False,
    trust_code: options.TrustCode = False,
    plain: options.Plain = False,
    track: options.Track = "none",
    json: options.Json = False,
    cluster: options.Cluster = None,
) -> None:
    """Train both roles and stop: all stages but those that measure. `reproduce` with the same options adds
    these later.

    Example: vzero-harness train --preset pocket --images photos --out runs/photos
    """
    from harness.doctor.capabilities import require
    from harness.tables import terminal as shown
    from vzero.runtime.stage import stage_folder
    from vzero.selfplay import training

    with interruptible():
        resolved = options.resolve(preset, images, seed, set_, solver_url, cluster)
        options.refuse_code(preset, resolved, set_, trust_code)
        require(resolved, evaluates=False)
        folder, terminal, stages = (
            options.run_folder(out, resolved),
            options.console(json),
            training(resolved),
        )
        with Runner("train", terminal, plain, fresh, track=track).finished(resolved, folder, stages):
            made = {
                f"{stage.kind.removeprefix('train-')}-{stage.iteration}": stage_folder(folder, stage.name)
                / "checkpoint"
                for stage in stages
                if stage.kind in ("train-questioner", "train-solver")
            }
        if json:
            checkpoints = {name: str(path) for name, path in made.items()}
            options.out_json({"run": str(folder), "checkpoints": checkpoints})
            return
        for name, path in made.items():
            options.say(f"{name}: {path}", terminal)
        given = {"--images": images, "--out": out, "--seed": seed}
        same = [word for name, value in given.items() if value is not None for word in (name, str(value))]
        settings = [word for one in set_ or () for word in ("--set", one)]
        shown.show_next([["reproduce", "--preset", preset, *same, *settings]], terminal)
