"""Memory of training by phase at the shapes of Qwen2.5-VL-3B and 7B, counted beside what `plan` says:
`python -m benchmarks.plan_memory results/plan [ROW ...]` writes memory.json and memory.md. A part of a
row's name counts that row alone; the others keep what was counted.

The product's own forward pass, backward pass, optimizer and reference run on tensors without storage
(PyTorch's FakeTensor), under bfloat16 autocast with gradient checkpointing, on the longest micro-batch of a
preset; a dispatch mode adds up the storages that are alive. Nothing is computed and no weight is needed. Of
several processes that split the weights (FSDP2) it is the first; the others are PyTorch's fake process group.
FlexAttention stands as what its kernel reads, writes and keeps; kernels of TRL's head that work in place take
nothing. Fragmentation, CUDA's context and kernels' scratch are not counted: `plan` has an allowance for them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, distributed
from torch.testing._internal.distributed.fake_pg import FakeStore
from transformers import AutoModelForImageTextToText
from trl.trainer.utils import add_fused_lm_head

from benchmarks.live_memory import Live, as_on_a_gpu
from harness.cost import shapes
from harness.perf.plan import memory
from vzero.config import LoraConfig, Preset
from vzero.grpo import adapters, frozen, log_probs, sharding
from vzero.grpo.micro_batches import MicroBatch
from vzero.presets import load_preset
from vzero.runtime import artefacts, checkpoints, compat, windows

GRID = 62, 82  # patches of a picture of one megapixel
CARD = 141e9
FILE = "memory.json"
CASES = (
    ("qwen2.5-vl-3b-1gpu", None),
    ("qwen2.5-vl-3b-1gpu", "Qwen/Qwen2.5-VL-7B-Instruct"),
    ("qwen2.5-vl-3b", None),
    ("qwen2.5-vl-7b-4gpu", None),
    ("qwen2.5-vl-3b-lora-1gpu", None),
    ("qwen2.5-vl-7b-lora-1gpu", None),
)


@dataclass(frozen=True)
class Case:
    """A policy, one of its micro-batches, and what is trained of it: adapters or all, split over so many
    processes."""

    config: Any
    freeze_vision: bool
    batch: MicroBatch
    lora: LoraConfig | None = None
    processes: int = 1


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
    resized = patch.object(torch.UntypedStorage, "resize_", lambda storage, size: live.resized(storage, size))
    with as_on_a_gpu(), _group(case.processes), resized, live:
        model = _model(case, live)
        options = {"use_reentrant": False}
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=options)
        found, start = {"weights": live.now}, live.now
        above = [_pass(model, case.batch, live) for _ in range(2)][-1]
        found["gradients"], start = live.grown(start), live.now
        trained = [one for one in model.parameters() if one.requires_grad]
        optimizer = torch.optim.AdamW(trained, fused=True)
        optimizer.step()
        found["optimizer"] = live.grown(start)
    found["reference"] = 0 if case.lora else _reference(case)
    return {**found, "activations": above}


def _reference(case: Case) -> int:
    """Bytes of one process; beside the count, since fakes cannot change their type."""
    split = case.processes > 1
    with torch.device("meta"):
        dtype = torch.bfloat16 if split else torch.float32
        reference = AutoModelForImageTextToText.from_config(case.config, dtype=dtype)
    whole = reference if split else checkpoints.rounded_as_autocast(reference)
    return sum(one.nbytes for one in (*whole.parameters(), *whole.buffers())) // case.processes


@contextmanager
def _group(processes: int) -> Iterator[None]:
    if processes == 1:
        yield
        return
    distributed.init_process_group("fake", store=FakeStore(), rank=0, world_size=processes)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def _model(case: Case, live: Live) -> Any:
    """As a training sets it up on a GPU."""
    dtype = torch.float32 if case.lora is None else torch.bfloat16
    with torch.device("meta") if case.lora else live.fake:  # PEFT changes types, which fakes cannot
        model = AutoModelForImageTextToText.from_config(case.config, dtype=dtype).train()
        add_fused_lm_head(model, outputs=("log_probs", "entropy"))
        assert log_probs.prepare(model)
        windows.group(model)
        if case.freeze_vision:
            frozen.freeze_vision(model)
        frozen.spare_frozen_parts(model)
        if case.lora:
            model = adapters.wrap(model, case.lora, seed=0)
    if case.lora:
        with live.fake:
            _materialize(model)
    if case.processes > 1:
        with patch("torch.cuda.is_available", lambda: True):  # its layers compute in bfloat16 there
            sharding.split(model)
    _watch(model, live)
    return model


def _materialize(model: Any) -> None:
    """Fakes in place of meta tensors, tied ones once."""
    made: dict[Tensor, torch.nn.Parameter] = {}
    for module in model.modules():
        for name, one in module._parameters.items():
            if one is not None and one not in made:
                made[one] = torch.nn.Parameter(torch.empty(one.shape, dtype=one.dtype), one.requires_grad)
            module._parameters[name] = None if one is None else made[one]
        for name, one in module._buffers.items():
            module._buffers[name] = None if one is None else torch.empty(one.shape, dtype=one.dtype)


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


@dataclass(frozen=True)
class Row:
    """What is counted of a preset's Solver on its longest micro-batch, which is longer than the
    Questioner's."""

    preset: Preset
    model: str

    @property
    def name(self) -> str:
        """Names the row in the file: what is trained of which model, and by how many processes."""
        split = f", split over {self.processes}" if self.processes > 1 else ""
        of = "adapters" if self.preset.lora else "every weight"
        return f"{self.model.split('/')[-1]}, {of}{split}"

    @property
    def processes(self) -> int:
        launch = self.preset.launch
        return launch.gpus * launch.nodes if launch.strategy == "fsdp2" else 1

    @property
    def micro(self) -> memory.MicroBatchSize:
        prompt = memory.longest_prompt(self.preset, "solver", GRID[0] * GRID[1] // 4)
        return memory.longest_micro_batch(self.preset.solver.grpo, prompt, GRID[0] * GRID[1])

    def counted(self) -> dict[str, int]:
        """Minutes of one core."""
        grpo = self.preset.solver.grpo
        config, _ = shapes._without_storage(shapes.published(self.model), self.model)
        groups = max(1, grpo.micro_batch // grpo.group_size)
        prompt = (self.micro.tokens - self.micro.scored) // groups
        shape = groups, grpo.micro_batch // groups, prompt, grpo.max_completion_tokens
        batch = micro_batch(*shape, GRID, config.image_token_id)
        return counted(Case(config, grpo.freeze_vision, batch, self.preset.lora, self.processes))

    def planned(self) -> dict[str, float]:
        """By today's plan."""
        return planned(self.preset, shapes.size_of(self.model), "solver", self.micro)


def rows() -> dict[str, Row]:
    """Every case by its name."""
    presets = [(load_preset(name), model) for name, model in CASES]
    found = [Row(preset, model or preset.model) for preset, model in presets]
    return {one.name: one for one in found}


def table(counts: dict[str, dict[str, int]]) -> str:
    """What was counted beside today's plan, as Markdown."""
    kinds = list(next(iter(counts.values())))
    lines = [
        "# Memory of training, counted on tensors without storage (and planned), GB\n",
        f"| | tokens | {' | '.join(kinds)} | all | counted / planned |",
        f"| :-- |{' --: |' * (len(kinds) + 3)}",
    ]
    for name, row in ((name, row) for name, row in rows().items() if name in counts):
        sides = counts[name], row.planned()
        cells = [f"{sides[0][kind] / 1e9:.2f} ({sides[1][kind] / 1e9:.2f})" for kind in kinds]
        total = [sum(side.values()) for side in sides]
        cells += [f"{total[0] / 1e9:.2f} ({total[1] / 1e9:.2f})", f"{total[0] / total[1]:.3f}"]
        lines.append(f"| {name} | {row.micro.tokens:,} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main(folder: Path, wanted: Sequence[str]) -> None:
    """Count the `wanted` rows (all, where none is named; "" for none), keep the others, and write."""
    compat.install()
    counts: dict[str, dict[str, int]] = {}
    if (folder / FILE).exists():
        counts = artefacts.read_json(folder / FILE)["counted"]
    for name, row in rows().items():
        if not wanted or any(word and word in name for word in wanted):
            counts[name] = row.counted()
            print(name, counts[name], flush=True)
        artefacts.write_json(folder / FILE, {"torch": torch.__version__, "counted": counts})
    artefacts.write_text(folder / "memory.md", table(counts))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
