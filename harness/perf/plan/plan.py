"""One plan: memory by phase, disk, steps, tokens, hours and gains of a preset on a machine, and whether it
fits."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from harness.cost.shapes import ModelSize, image_tokens, size_of
from harness.perf.hardware import CPU, Machine, card
from harness.perf.plan import gains, memory, work
from harness.perf.plan.work import Assumptions
from vzero.config import Preset
from vzero.images.records import seen_size
from vzero.presets import load_preset, preset_names

FILL = 0.95  # of a card's memory that a plan may use
# Pixels of a picture, where none are given: a telephone's, which presets shrink to a megapixel; a drawn one.
PHOTOGRAPH, DRAWN = (4032, 3024), (42, 42)
DEFAULT_GPU = "a100-80"


@dataclass(frozen=True)
class Plan:
    """Everything a reader needs before starting.

    Attributes:
        machine: one device; `gpus` of them are there on each node, 0 for the CPU.
        picture: pixels (width, height) assumed; `picture_tokens`: what the model's processor makes of them.
        trained: weights that get a gradient.
        refusals: why it cannot run, in sentences; empty if it fits. `fitting`: presets of the same model that
            would.
    """

    preset: Preset
    machine: Machine
    gpus: int
    size: ModelSize
    picture: tuple[int, int]
    picture_tokens: int
    trained: int
    phases: list[memory.Phase]
    parts: list[work.Part]
    disk: dict[str, float]
    gains: list[gains.SmallestGain]
    assumed: Assumptions
    refusals: list[str]
    fitting: list[str]

    @property
    def hours(self) -> float:
        """Sum of the parts: nothing is assumed to overlap."""
        return sum(part.hours for part in self.parts)


def make(
    preset: Preset,
    gpus: int,
    machine: Machine,
    picture: tuple[int, int] | None = None,
    seeds: int = 1,
    assumed: Assumptions | None = None,
) -> Plan:
    """Plan `preset` for nodes with `gpus` devices like `machine`.

    Raises:
        InputError: the model's config is not known, or its processor refuses such a picture.
    """
    preset, size, assumed = preset.with_thoughts(), size_of(preset.model), assumed or Assumptions()
    picture = picture or (DRAWN if preset.images.source == "pocket" else PHOTOGRAPH)
    if preset.images.shrink_megapixels is not None:
        picture = seen_size(*picture, preset.images.shrink_megapixels * 1e6)
    tokens = image_tokens(size, *picture)
    learned = memory.trained(preset, size)
    phases = memory.phases(preset, size, tokens, machine.memory)
    refusals = _refusals(preset, size, tokens, gpus, machine.memory, phases)
    return Plan(
        preset=preset,
        machine=machine,
        gpus=gpus,
        size=size,
        picture=picture,
        picture_tokens=tokens,
        trained=learned,
        phases=phases,
        parts=work.parts(preset, size, tokens, machine, assumed, gains.items(preset.evaluation)),
        disk=work.disk(preset, size, learned),
        gains=gains.resolvable(preset.evaluation, seeds),
        assumed=assumed,
        refusals=refusals,
        fitting=_fitting(preset, gpus, machine, tokens) if refusals else [],
    )


def _refusals(
    preset: Preset, size: ModelSize, tokens: int, gpus: int, card: float | None, phases: list[memory.Phase]
) -> list[str]:
    launch, found = preset.launch, []
    wanted = launch.gpus + launch.solver_gpus
    if wanted > gpus:
        split = f"{launch.gpus} to train, {launch.solver_gpus} for the Solver"
        found.append(f"It asks for {wanted} GPUs a node ({split}) and there are {gpus}.")
    if card is None:
        return found
    found += memory.small_shares(preset, size, tokens, card)
    fullest = max(phases, key=lambda phase: phase.total)
    if fullest.total > FILL * card:
        found.append(
            f"{fullest.name} needs {fullest.total / 1e9:.0f} GB; "
            f"{FILL:.0%} of a GPU here are {FILL * card / 1e9:.0f} GB."
        )
    return found


def _fitting(preset: Preset, gpus: int, machine: Machine, tokens: int) -> list[str]:
    """Shipped presets of the same model that fit on what is there."""
    found = []
    for other in map(load_preset, preset_names()):
        if other.model != preset.model or other == preset or other.launch.nodes > preset.launch.nodes:
            continue
        size = size_of(other.model)
        phases = memory.phases(other, size, tokens, machine.memory)
        if not _refusals(other, size, tokens, gpus, machine.memory, phases):
            found.append(other.name)
    return found


def choose_machine(gpus: int, kind: str | None, gigabytes: float | None) -> Machine:
    """The device to plan for: the CPU without GPUs, else a known kind (A100/A800 80 GB by default) with
    `gigabytes` in place of its memory.

    Raises:
        InputError: an unknown kind.
    """
    machine = CPU if gpus == 0 else card(kind or DEFAULT_GPU)
    if gpus == 0 or gigabytes is None:
        return machine
    return replace(machine, name=f"GPU of {gigabytes:g} GB", memory=gigabytes * 1e9)


def as_json(plan: Plan) -> dict[str, Any]:
    """The plan as plain values; bytes, tokens, hours, fractions."""
    return {
        "preset": plan.preset.name,
        "fits": not plan.refusals,
        "refusals": plan.refusals,
        "fitting": plan.fitting,
        "machine": asdict(plan.machine)
        | {"measured": sorted(plan.machine.measured), "gpus": plan.gpus, "nodes": plan.preset.launch.nodes},
        "model": {
            "name": plan.preset.model,
            "parameters": plan.size.total,
            "vision": plan.size.vision,
            "trained": plan.trained,
        },
        "picture": {"pixels": list(plan.picture), "tokens": plan.picture_tokens},
        "memory": [
            {"phase": one.name, "device": one.device, "total": one.total, "parts": one.parts}
            for one in plan.phases
        ],
        "disk": plan.disk | {"total": sum(plan.disk.values())},
        "stages": [asdict(part) for part in plan.parts],
        "hours": plan.hours,
        "gains": [asdict(gain) for gain in plan.gains],
        "assumptions": asdict(plan.assumed)
        | {"changed_items": gains.CHANGED, "seed_spread": gains.SEED_SPREAD},
    }
