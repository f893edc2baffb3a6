"""What a preset asks of a machine."""

from __future__ import annotations

from dataclasses import dataclass

from vzero.config import Preset

GIB = 2**30


@dataclass(frozen=True)
class Needs:
    """What a preset asks of a machine. The sizes here are the least of any run; `plan` computes larger ones.

    Attributes:
        gpus: on one machine; `gpu_memory`: bytes of each, 0 where none is computed.
        disk: bytes that the run writes; `download`: bytes of a model that is fetched first.
        memory: bytes of the largest process, and the libraries of the others.
        model: "pocket" is part of the package.
        vllm: the settings that ask for vLLM.
    """

    gpus: int = 0
    gpu_memory: int = 0
    disk: int = 1 * GIB
    download: int = 0
    memory: int = 4 * GIB
    model: str = "pocket"
    vllm: tuple[str, ...] = ()


def needs_of(preset: Preset) -> Needs:
    """What `preset` says by itself, without a plan."""
    engines = {"engine.name": preset.engine.name, "rollouts.engine": preset.rollouts.engine}
    return Needs(
        gpus=preset.launch.gpus + preset.launch.solver_gpus,
        model=preset.model,
        vllm=tuple(f"{key}={name}" for key, name in engines.items() if name != "transformers"),
    )
