"""Memory of training by phase at the shapes of Qwen2.5-VL-3B and 7B, counted beside what `plan` says:
`python -m benchmarks.plan_memory FOLDER` writes memory.json and memory.md.

The product's own forward pass, backward pass, optimizer and reference run on tensors without storage
(PyTorch's FakeTensor), under bfloat16 autocast with gradient checkpointing, on the longest micro-batch of a
preset; a dispatch mode adds up the storages that are alive. Nothing is computed and no weight is needed.
FlexAttention stands as what its kernel reads, writes and keeps; kernels of TRL's head that work in place take
nothing. Fragmentation, CUDA's context and kernels' scratch are not counted: `plan` has an allowance for them.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from transformers import AutoModelForImageTextToText
from trl.trainer.utils import add_fused_lm_head

from harness.cost import shapes
from harness.perf.plan import memory
from vzero.config import Preset
from vzero.grpo import attention, frozen, log_probs
from vzero.grpo.micro_batches import MicroBatch
from vzero.presets import load_preset
from vzero.runtime import artefacts, checkpoints, compat, windows

GRID = 62, 82  # patches of a picture of one megapixel
FACTORIES = ("aten::empty", "aten::zeros", "aten::ones", "aten::full")
CARD = 141e9
CASES = (  # one process and every weight: FSDP2 needs several, and PEFT cannot wrap fakes
    ("qwen2.5-vl-3b-1gpu", None),
    ("qwen2.5-vl-3b-1gpu", "Qwen/Qwen2.5-VL-7B-Instruct"),
)


class Live(TorchDispatchMode):
    """Runs what meets a fake tensor as fakes; bytes of their storages, `now` and at the `peak`."""

    def __init__(self) -> None:
        super().__init__()
        self.fake = FakeTensorMode(allow_non_fake_inputs=True)
        self.now, self.peak = 0, 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        fakes = any(isinstance(one, FakeTensor) for one in tree_iter((args, kwargs)))
        if fakes and func is torch.ops.aten.index.Tensor:  # by a mask: how many it picks must be known
            args = (args[0], [place for mask in args[1] for place in _places(mask)])
        large = func._schema.name in FACTORIES and args and torch.Size(args[0]).numel() > 2**20
        with ExitStack() as stack:
            if fakes or large:
                stack.enter_context(self.fake)
            made = func(*args, **kwargs)
        for one in tree_iter(made):
            if isinstance(one, FakeTensor):
                self.watch(one)
        return made

    def watch(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key not in self._known:
            self._known.add(key)
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._freed, key, size)

    def _freed(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size

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


@dataclass(frozen=True)
class Case:
    """A policy of which every weight is trained, and one of its micro-batches."""

    config: Any
    freeze_vision: bool
    batch: MicroBatch


def micro_batch(
    groups: int, size: int, prompt: int, length: int, grid: tuple[int, int], image: int
) -> MicroBatch:
    """`groups` of `size` completions of `length` tokens behind `prompt` tokens, a picture among them."""
    patches = grid[0] * grid[1]
    ids = torch.full((groups, prompt), 20)
    ids[:, 10 : 10 + patches // 4] = image
    sequences = groups * size
    return MicroBatch(
        prompts={
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            "pixel_values": torch.zeros(groups * patches, 3 * 2 * 14 * 14),
            "image_grid_thw": torch.tensor([[1, *grid]] * groups),
        },
        prompt_of=torch.arange(groups).repeat_interleave(size),
        completion_ids=torch.full((sequences, length), 30),
        completion_mask=torch.ones(sequences, length, dtype=torch.int64),
        advantages=torch.ones(sequences),
        generation_tokens=torch.tensor(sequences * length),
    )


def counted(case: Case) -> dict[str, int]:
    """Bytes of the states, and of the fullest moment of a step's second micro-batch beyond them."""
    live = Live()
    with as_on_a_gpu(), live:
        model = _model(case.config, live)
        add_fused_lm_head(model, outputs=("log_probs", "entropy"))
        assert log_probs.prepare(model)
        windows.group(model)
        if case.freeze_vision:
            frozen.freeze_vision(model)
        frozen.spare_frozen_parts(model)
        options = {"use_reentrant": False}
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=options)
        found, start = {"weights": live.now}, live.now
        above = [_pass(model, case.batch, live) for _ in range(2)][-1]
        found["gradients"], start = live.grown(start), live.now
        trained = [one for one in model.parameters() if one.requires_grad]
        optimizer = torch.optim.AdamW(trained, fused=True)
        optimizer.step()
        found["optimizer"] = live.grown(start)
    with torch.device("meta"):  # beside the count: fakes cannot change their type
        reference = AutoModelForImageTextToText.from_config(case.config, dtype=torch.float32)
    whole = checkpoints.rounded_as_autocast(reference)
    found["reference"] = sum(one.nbytes for one in (*whole.parameters(), *whole.buffers()))
    return {**found, "activations": above}


def _model(config: Any, live: Live) -> Any:
    with live.fake:
        model = AutoModelForImageTextToText.from_config(config, dtype=torch.float32).train()
    _watch(model, live)
    return model


def _watch(model: Any, live: Live) -> None:
    for one in (*model.parameters(), *model.buffers()):
        live.watch(one)


def _pass(model: Any, batch: MicroBatch, live: Live) -> int:
    """One micro-batch forward and backward; how far memory rises, its pixels counted."""
    start = live.peak = live.now
    pixels = torch.zeros(batch.prompts["pixel_values"].shape)
    given = replace(batch, prompts={**batch.prompts, "pixel_values": pixels})
    with torch.autocast("cpu", torch.bfloat16):
        values, _ = log_probs.completion_log_probs(model, given)
    values.sum().backward()
    return live.peak - start


def planned(
    preset: Preset, size: shapes.ModelSize, role: str, micro: memory.MicroBatchSize
) -> dict[str, float]:
    """The plan's bytes under the names of `counted`."""
    states = ("weights", "gradients", "optimizer", "reference")
    found = memory.of_update(preset, size, role, micro, CARD)
    rest = sum(value for name, value in found.items() if name not in states)
    return {name: found[name] for name in states} | {"activations": rest}


def rows() -> Iterator[dict[str, Any]]:
    """Every case with the Solver's longest micro-batch, which is longer than the Questioner's."""
    compat.install()
    for name, model in CASES:
        preset = load_preset(name)
        model = model or preset.model
        size, grpo = shapes.size_of(model), preset.solver.grpo
        config, _ = shapes._without_storage(shapes.published(model), name)
        prompt = memory.longest_prompt(preset, "solver", GRID[0] * GRID[1] // 4)
        micro = memory.longest_micro_batch(grpo, prompt, GRID[0] * GRID[1])
        groups = max(1, grpo.micro_batch // grpo.group_size)
        shape = groups, grpo.micro_batch // groups, prompt, grpo.max_completion_tokens
        batch = micro_batch(*shape, GRID, config.image_token_id)
        found = counted(Case(config, grpo.freeze_vision, batch))
        expected = planned(preset, size, "solver", micro)
        yield {
            "model": model.split("/")[-1],
            "training": "every weight",
            "tokens": micro.tokens,
            "counted": found,
            "planned": expected,
            "ratio": sum(found.values()) / sum(expected.values()),
        }


def main(folder: Path) -> None:
    """Count, and write."""
    found = []
    for row in rows():
        print(row, flush=True)
        found.append(row)
    kinds = list(found[0]["counted"])
    lines = [
        f"| | | tokens | {' | '.join(kinds)} | all | counted / planned |",
        f"| :-- | :-- |{' --: |' * 8}",
    ]
    for row in found:
        cells = [f"{row['counted'][kind] / 1e9:.2f} ({row['planned'][kind] / 1e9:.2f})" for kind in kinds]
        total = [sum(row[side].values()) / 1e9 for side in ("counted", "planned")]
        cells += [f"{total[0]:.2f} ({total[1]:.2f})", f"{row['ratio']:.3f}"]
        lines.append(f"| {row['model']} | {row['training']} | {row['tokens']:,} | {' | '.join(cells)} |")
    head = "# Memory of training, counted on tensors without storage (and planned), GB\n"
    folder.mkdir(parents=True, exist_ok=True)
    artefacts.write_json(folder / "memory.json", {"torch": torch.__version__, "rows": found})
    artefacts.write_text(folder / "memory.md", "\n".join([head, *lines]) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
