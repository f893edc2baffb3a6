"""`vzero-harness plan`: what a run will take, before it starts."""

from __future__ import annotations

import re
from typing import Annotated

from typer import Exit, Option

from harness.commands import options
from vzero.errors import InputError


def plan(
    preset: options.PresetName = "pocket",
    gpus: Annotated[
        int | None, Option("--gpus", min=0, help="GPUs of a node; default: what the preset asks for.")
    ] = None,
    gpu: Annotated[
        str | None, Option("--gpu", help="Their kind, such as a100-80 (default), h100-80 or rtx-4090-24.")
    ] = None,
    gpu_memory: Annotated[
        float | None, Option("--gpu-memory", min=1, max=100_000, help="GB of one, in place of the kind's.")
    ] = None,
    picture: Annotated[
        str | None, Option("--picture", metavar="WxH", help="Size of a picture in pixels; default 4032x3024.")
    ] = None,
    completion: Annotated[
        int, Option("--completion", min=1, help="Mean tokens of a completion, where that many are allowed.")
    ] = 400,
    every: Annotated[
        bool, Option("--all", help="Every shipped preset of a real model on such GPUs, a line each.")
    ] = False,
    seeds: Annotated[int, Option("--seeds", min=1, help="Training seeds you mean to run.")] = 3,
    set_: options.Set = None,
    json: options.Json = False,
) -> None:
    """Compute memory by phase, disk, steps, tokens, hours and the smallest detectable gain. Exit code 1 if it
    does not fit.

    Example: vzero-harness plan --preset qwen2.5-vl-7b --gpus 8 --gpu h100-80

    Example: vzero-harness plan --all --gpu rtx-4090-24
    """
    from vzero.presets import load_preset, preset_names

    if every:
        names = [name for name in preset_names() if load_preset(name).launch.gpus]
        return _all(names, gpus, gpu, gpu_memory, completion, json)
    wanted = load_preset(preset, set_ or [])
    there = wanted.launch.gpus + wanted.launch.solver_gpus if gpus is None else gpus
    with options.working("Computing the plan"):
        from harness.perf.plan import plan as planning
        from harness.perf.plan import render
        from harness.perf.plan.work import Assumptions

        machine = planning.choose_machine(there if wanted.launch.gpus else 0, gpu, gpu_memory)
        pixels, assumed = _pixels(picture), Assumptions(completion_tokens=completion)
        made = planning.make(wanted, there, machine, pixels, seeds, assumed)
    if json:
        options.out_json(planning.as_json(made))
    else:
        render.show(made, options.console(json))
    raise Exit(1 if made.refusals else 0)


def _all(
    names: list[str], gpus: int | None, gpu: str | None, gpu_memory: float | None, completion: int, json: bool
) -> None:
    from harness.tables import terminal
    from vzero.presets import load_preset

    plans = []
    with options.working("Computing the plans"):
        from harness.perf.plan import plan as planning
        from harness.perf.plan import render
        from harness.perf.plan.work import Assumptions

        for wanted in map(load_preset, names):
            there = wanted.launch.gpus + wanted.launch.solver_gpus if gpus is None else gpus
            machine = planning.choose_machine(max(1, there), gpu, gpu_memory)
            assumed = Assumptions(completion_tokens=completion)
            plans.append(planning.make(wanted, there, machine, assumed=assumed))
    if json:
        options.out_json([planning.as_json(one) for one in plans])
    else:
        terminal.show(render.overview(plans), options.console(json))


def _pixels(text: str | None) -> tuple[int, int] | None:
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text.strip().lower())
    if match is None or "0" in match.groups():
        raise InputError(f"--picture takes pixels as WxH, e.g. 1024x768; got {text!r}.")
    return int(match[1]), int(match[2])
