"""One copy of a model split over all processes: FSDP2, torch's `fully_shard` on each layer and on the rest.

Not by accelerate's plugin, which shards on accelerators only: so the very code that runs on GPUs runs on the
CPU, in tests. Weights stay float32; on GPUs layers compute in bfloat16. Rollouts gather all weights once a
generation and put them back (`whole`), since processes decode different numbers of tokens and could not
gather layer by layer together; an engine that keeps weights of its own is handed them one by one
(`gathered`). States that are written are whole ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint import state_dict as states
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

_WHOLE = states.StateDictOptions(full_state_dict=True, cpu_offload=True)
_FROM_WHOLE = states.StateDictOptions(full_state_dict=True)


def split(model: Any) -> None:
    """Split `model`, whole in every process, in place. All processes must call it, and every forward of
    it."""
    on_gpu = next(model.parameters()).is_cuda
    policy = (
        MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
        if on_gpu
        else MixedPrecisionPolicy()
    )
    layers = frozenset(model._no_split_modules or ())
    for module in [one for one in model.modules() if type(one).__name__ in layers]:
        fully_shard(module, mp_policy=policy)
    fully_shard(model, mp_policy=policy)


def is_split(model: Any) -> bool:
    """Whether `split` was called on it."""
    return isinstance(model, FSDPModule)


@contextmanager
def whole(model: Any) -> Iterator[None]:
    """All weights in every process inside, where forwards need no other process; a model that is not split is
    left alone."""
    parts = [one for one in model.modules() if isinstance(one, FSDPModule)]
    if parts:
        model._get_fsdp_state()._lazy_init()  # by the root before anybody calls a part of it, which would take itself for the root
    for one in parts:
        one.set_reshard_after_forward(False, recurse=False)
        one.unshard()
    try:
        yield
    finally:
        for one in parts:
            one.reshard()
            one.set_reshard_after_forward(one is not model, recurse=False)


def gathered(weights: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
    """The same weights, those that are split put together as each is taken. All processes must take all, in
    one order."""
    for name, one in weights:
        yield name, one.full_tensor() if isinstance(one, DTensor) else one


def weights(model: Any) -> dict[str, Any]:
    """Every weight, whole, on the CPU, in the first process; nothing in the others. All must ask. A tensor
    with two names has its first."""
    once = {name for name, _ in model.named_parameters()}
    again = {name for name, _ in model.named_parameters(remove_duplicate=False)} - once
    return {
        name: value
        for name, value in states.get_model_state_dict(model, options=_WHOLE).items()
        if name not in again
    }


def set_weights(model: Any, found: Mapping[str, Any]) -> None:
    """Take whole weights, which every process has.

    Raises:
        RuntimeError: other names than the model's.
    """
    states.set_model_state_dict(model, dict(found), options=_FROM_WHOLE)


def moments(model: Any, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """The optimizer's state, as `weights`."""
    return states.get_optimizer_state_dict(model, optimizer, options=_WHOLE)


def set_moments(model: Any, optimizer: torch.optim.Optimizer, found: Mapping[str, Any]) -> None:
    """Take an optimizer's whole state, which every process has. A weight that never had a gradient has none
    and begins anew."""
    options = states.StateDictOptions(full_state_dict=True, strict=False)
    states.set_optimizer_state_dict(model, optimizer, dict(found), options=options)
