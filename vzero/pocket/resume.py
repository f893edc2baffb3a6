"""How far a pretraining came, so that the same command goes on after an interruption.

Every `EVERY` steps each process writes where its random streams are, then the first one writes weights and
AdamW's moments. A step counts once all of that is there; every file has the hash of what it holds, of which
part of which pretraining, in its name.
"""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from safetensors.torch import load as from_bytes
from safetensors.torch import save as as_bytes
from torch import Tensor, nn

from vzero.runtime import artefacts, owned

EVERY = 50  # steps
_MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # what AdamW keeps of each weight


@dataclass(frozen=True)
class Training:
    """What changes as one process pretrains: weights and moments, which all share, and its random streams."""

    parameters: Sequence[nn.Parameter]
    optimizer: torch.optim.Optimizer
    scenes: random.Random
    pixels: np.random.Generator


def save(folder: Path, step: int, rank: int, training: Training) -> None:
    """Keep the state after `step` steps in place of the one before. All processes must come here."""
    streams = {"scenes": training.scenes.getstate(), "pixels": training.pixels.bit_generator.state}
    _write(folder, step, f"streams-{rank}", json.dumps(streams).encode())
    if dist.is_initialized():
        dist.barrier()
    if rank == 0:
        _write(folder, step, "weights", as_bytes(_tensors(training)))
        for path in folder.iterdir():
            if path.name.split(".")[0] != str(step):
                owned.remove(path)


def load(folder: Path, rank: int, processes: int, training: Training) -> int:
    """Bring `training` to the newest whole state in `folder`; how many steps that is, 0 if there is none."""
    names = {path.name.split(".")[0] for path in folder.iterdir()}
    for step in sorted((int(name) for name in names if name.isdecimal()), reverse=True):
        weights = _read(folder, step, "weights")
        streams = [_read(folder, step, f"streams-{each}") for each in range(processes)]
        if weights is not None and None not in streams:
            _restore(training, from_bytes(weights), json.loads(streams[rank] or b""))
            return step
    return 0


def _tensors(training: Training) -> dict[str, Tensor]:
    found = {f"weight.{number}": one.detach() for number, one in enumerate(training.parameters)}
    for number, one in enumerate(training.parameters):
        moments = training.optimizer.state.get(one, {})
        found |= {f"{kind}.{number}": moments[kind] for kind in _MOMENTS if kind in moments}
    return {name: one.contiguous() for name, one in found.items()}


def _restore(training: Training, tensors: dict[str, Tensor], streams: dict[str, Any]) -> None:
    with torch.no_grad():
        for number, one in enumerate(training.parameters):
            one.copy_(tensors[f"weight.{number}"])
            for kind in _MOMENTS:
                if f"{kind}.{number}" in tensors:
                    training.optimizer.state[one][kind] = tensors[f"{kind}.{number}"]
    version, numbers, gauss = streams["scenes"]
    training.scenes.setstate((version, tuple(numbers), gauss))
    training.pixels.bit_generator.state = streams["pixels"]


def _write(folder: Path, step: int, part: str, data: bytes) -> None:
    artefacts.write_bytes(folder / f"{step}.{part}.{_hash(folder, step, part, data)}", data)


def _read(folder: Path, step: int, part: str) -> bytes | None:
    """None where it is not there as it was written."""
    for path in folder.glob(f"{step}.{part}.*"):
        data = owned.read_bytes(path)
        if path.suffix == f".{_hash(folder, step, part, data)}":
            return data
    return None


def _hash(folder: Path, step: int, part: str, data: bytes) -> str:
    """The folder's name is that of the pretraining."""
    found = hashlib.sha256(f"{folder.name}/{step}.{part}/".encode())
    found.update(data)
    return found.hexdigest()
