"""One copy of a model split over all processes: FSDP2, torch's `fully_shard` on each layer and on the rest.

Not by accelerate's plugin, which shards on accelerators only: so the very code that runs on GPUs runs on the
CPU, in tests. Weights stay float32; on GPUs layers compute in bfloat16. No process ever holds a whole copy,
unless Hugging Face's engine draws from it (`unsharded`); the checkpoint of a stage is put together for the
process that writes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint import state_dict as states
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from vzero.runtime import checkpoints

_FULL = states.StateDictOptions(full_state_dict=True, cpu_offload=True)


def load(checkpoint: Path, dtype: torch.dtype, device: str) -> Any:
    """The model of a checkpoint, split: each process reads its own rows of each weight and no others. All
    processes must call it."""
    return checkpoints.load_model(checkpoint, dtype, device, distribute=split)


def split(model: Any) -> None:
    """Split `model`, full in every process or without weights, in place. All processes must call it, and
    every forward of it."""
    policy = MixedPrecisionPolicy()
    if torch.cuda.is_available():
        policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    layers = frozenset(model._no_split_modules or ())
    for module in [one for one in model.modules() if type(one).__name__ in layers]:
        fully_shard(module, mp_policy=policy)
    fully_shard(model, mp_policy=policy)


def is_split(model: Any) -> bool:
    """Whether `split` was called on it."""
    return isinstance(model, FSDPModule)


@contextmanager
def unsharded(model: Any) -> Iterator[None]:
    """All weights in every process inside; a model that is not split is left alone.

    For rollouts: processes decode different numbers of tokens, so they could not gather layer by layer
    together.
    """
    parts = [one for one in model.modules() if isinstance(one, FSDPModule)]
    if parts:
        # Before anybody calls a part of the model: that part would take itself for the root.
        model._get_fsdp_state()._lazy_init()
    for one in parts:
        one.set_reshard_after_forward(False, recurse=False)
        one.unshard()
    try:
        yield
    finally:
        for one in parts:
            one.reshard()
            one.set_reshard_after_forward(one is not model, recurse=False)


def full_tensors(weights: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """The same weights, those that are split put together as each is taken. All processes must take all, in
    one order."""
    for name, one in weights:
        yield name, one.full_tensor() if isinstance(one, DTensor) else one


def model_state_dict(model: Any) -> dict[str, Any]:
    """Every weight, full, on the CPU, in the first process; nothing in the others. All must ask.

    A tensor with two names (a tied head) has its first, as in a checkpoint.
    """
    names = {name for name, _ in model.named_parameters()}
    tied = {name for name, _ in model.named_parameters(remove_duplicate=False)} - names
    full = states.get_model_state_dict(model, options=_FULL)
    return {name: value for name, value in full.items() if name not in tied}
