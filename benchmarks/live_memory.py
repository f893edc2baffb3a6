"""What a pass over tensors without storage (PyTorch's FakeTensor) holds, on the ways that it takes on a
GPU."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.distributed.tensor import DTensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from vzero.grpo import attention

FACTORIES = ("aten::empty", "aten::zeros", "aten::ones", "aten::full")
LARGE = 2**20  # numbers of a tensor that is made without storage, beside those that follow from such


class Live(TorchDispatchMode):
    """Runs what meets a fake tensor as fakes; bytes of their storages, `now` and at the `peak`."""

    def __init__(self) -> None:
        super().__init__()
        self.fake = FakeTensorMode(allow_non_fake_inputs=True)
        self.now, self.peak = 0, 0
        self._known: dict[int, int] = {}  # bytes by storage

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        fakes = any(isinstance(one, FakeTensor) for one in tree_iter((args, kwargs)))
        if fakes and func is torch.ops.aten.index.Tensor:  # by a mask: how many it picks must be known
            args = (args[0], [place for mask in args[1] for place in _places(mask)])
        large = func._schema.name in FACTORIES and args and torch.Size(args[0]).numel() > LARGE
        with ExitStack() as stack:
            if fakes or large:
                stack.enter_context(self.fake)
            made = func(*args, **kwargs)
        for one in tree_iter(made):
            if isinstance(one, FakeTensor | DTensor):
                self.watch(one)
        return made

    def watch(self, tensor: Tensor) -> None:
        storage = (tensor.to_local() if isinstance(tensor, DTensor) else tensor).untyped_storage()
        if storage._cdata not in self._known:
            weakref.finalize(storage, self._sized, storage._cdata, None)
        self._sized(storage._cdata, storage.nbytes())

    def _sized(self, key: int, size: int | None) -> None:
        """A storage has so many bytes now; None: it is gone."""
        self.now += (size or 0) - self._known.pop(key, 0)
        self.peak = max(self.peak, self.now)
        if size is not None:
            self._known[key] = size

    def resized(self, storage: torch.UntypedStorage, size: int) -> None:
        """In place of `UntypedStorage.resize_`, by which FSDP2 lets go of what it gathered."""
        _RESIZE(storage, size)
        if storage._cdata in self._known:
            self._sized(storage._cdata, size)

    def grown(self, start: int) -> int:
        """By how much since there were `start`."""
        return self.now - start


def _places(index: Any) -> list[Any]:
    is_mask = isinstance(index, Tensor) and index.dtype is torch.bool and not isinstance(index, FakeTensor)
    return list(index.nonzero().unbind(1)) if is_mask else [index]


class _Fused(torch.autograd.Function):
    """What a kernel of attention that never holds a whole matrix allocates."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        found, sums = torch.empty_like(query), query.new_empty(query.shape[:-1], dtype=torch.float32)
        ctx.save_for_backward(query, key, value, found, sums)
        return found

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        *inputs, _, sums = ctx.saved_tensors
        _delta = torch.empty_like(sums)
        return tuple(torch.empty_like(one) for one in inputs)


_RESIZE = torch.UntypedStorage.resize_


@contextmanager
def as_on_a_gpu() -> Iterator[None]:
    """Let the pass take the ways that it takes there."""
    nothing: dict[str, Any] = {
        name: lambda *_, **__: None for name in ("_forward_tile", "_backward_tile", "_addmm_fp32")
    }
    with (
        patch.object(attention, "reads_blocks", lambda device: True),
        patch.object(attention, "_kernel", lambda device: lambda q, k, v, **_: _Fused.apply(q, k, v)),
        patch("trl.trainer.utils._use_triton", lambda device: True),
        patch.multiple("trl.kernels.chunked_logprob", **nothing),
    ):
        yield
