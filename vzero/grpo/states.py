"""The states of a training: trained weights and AdamW's two moments of each, saved and restored, and moments
that lie in the host's memory.

What is frozen is not written. A process that holds a part of the weights (see sharding.py) writes its own
rows and reads its own, whatever number of processes wrote them: nothing is put together. Files are
KIND-RANK-of-SIZE.safetensors, their tensors named as the parameters.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.distributed.tensor import DTensor

from vzero.errors import InputError
from vzero.runtime import processes

WEIGHT = "weight"
MOMENTS = ("step", "exp_avg", "exp_avg_sq")  # what AdamW keeps of each weight


def _trained(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: one for name, one in model.named_parameters() if one.requires_grad}


def save(model: torch.nn.Module, optimizer: torch.optim.Optimizer, folder: Path) -> None:
    """Write the states of `model`, a file of each kind. All processes must come here."""
    trained, here = _trained(model), processes.world()
    split = any(isinstance(one, DTensor) for one in trained.values())
    if not split and not here.first:
        return
    part = f"{here.rank}-of-{here.size}" if split else "0-of-1"
    for kind in (WEIGHT, *MOMENTS):  # one after the other: each is copied whole to be written
        states = {
            name: value
            for name, one in trained.items()
            if (value := one.detach() if kind == WEIGHT else optimizer.state.get(one, {}).get(kind))
            is not None
        }
        rows = {name: one.to_local() if isinstance(one, DTensor) else one for name, one in states.items()}
        save_file(
            {name: one.contiguous() for name, one in rows.items()}, folder / f"{kind}-{part}.safetensors"
        )


def load_weights(model: torch.nn.Module, folder: Path) -> None:
    """Give `model` its trained weights back, every one of them.

    Raises:
        InputError: the files lack weights, or have others.
    """
    trained = _trained(model)
    with torch.no_grad():
        found = _read(folder, WEIGHT, trained)
        if found.keys() != trained.keys():
            raise InputError(f"{folder} holds other weights than this training has; start the stage anew.")
        for name, rows in found.items():
            one = trained[name]
            (one.to_local() if isinstance(one, DTensor) else one).copy_(rows)


def load_moments(model: torch.nn.Module, optimizer: torch.optim.Optimizer, folder: Path) -> None:
    """Give `optimizer` its moments back; a weight that never had a gradient has none."""
    trained = _trained(model)
    on_host = isinstance(optimizer, HostAdamW)
    counts_there = optimizer.defaults.get("fused") and not on_host  # AdamW's kernel reads the step itself
    for kind in MOMENTS:
        for name, rows in _read(folder, kind, trained).items():
            one = trained[name]
            there = counts_there if kind == "step" else not on_host
            state = rows.to(one.device) if there else rows
            optimizer.state[one][kind] = _as_split(state, one) if kind != "step" else state


def _as_split(rows: Tensor, like: Tensor) -> Tensor:
    if not isinstance(like, DTensor):
        return rows
    return DTensor.from_local(
        rows, like.device_mesh, like.placements, run_check=False, shape=like.shape, stride=like.stride()
    )


def _read(folder: Path, kind: str, trained: dict[str, Tensor]) -> dict[str, Tensor]:
    """This process's rows of each tensor of a kind, on the CPU."""
    names = sorted(folder.glob(f"{kind}-*-of-*.safetensors"), key=lambda path: int(path.name.split("-")[1]))
    here, found = processes.world(), {}
    with ExitStack() as stack:
        files = [stack.enter_context(safe_open(name, "pt")) for name in names]
        for name in files[0].keys() if files else ():
            one = trained.get(name)
            split = isinstance(one, DTensor)
            if split and len(files) == here.size:
                found[name] = files[here.rank].get_tensor(name)
                continue
            parts = [file.get_tensor(name) for file in files]
            whole = parts[0] if parts[0].ndim == 0 else torch.cat(parts)
            found[name] = _own_rows(whole, here.size, here.rank) if split and whole.ndim else whole
    return found


def _own_rows(whole: Tensor, size: int, rank: int) -> Tensor:
    """As `fully_shard` cuts them: a process may have none."""
    parts = whole.chunk(size)
    return parts[rank] if rank < len(parts) else whole[:0]


class HostAdamW(torch.optim.AdamW):
    """AdamW with its moments in the host's memory: they come to the GPU for one weight at a time, so that a
    step needs memory for the largest only. The numbers are AdamW's."""

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """One step of every weight that has a gradient."""
        groups = self.param_groups
        try:
            for group in groups:
                for one in group["params"]:
                    if one.grad is not None:
                        self.param_groups = [{**group, "params": [one]}]
                        self._visit(one)
        finally:
            self.param_groups = groups
        if torch.cuda.is_available():
            torch.cuda.synchronize()  # copies to the host are done when anybody reads them

    def _visit(self, one: Tensor) -> None:
        home = self.state[one]
        self.state[one] = {name: value.to(one.device, non_blocking=True) for name, value in home.items()}
        super().step()
        for name, value in self.state[one].items():
            if name not in home:
                home[name] = torch.empty_like(value, device="cpu", pin_memory=value.is_cuda)
            home[name].copy_(value, non_blocking=True)
        self.state[one] = home
