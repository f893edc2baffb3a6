"""A plan's memory of an update against every byte that the product's own forward and backward pass holds.

A small Qwen2.5-VL is differentiated under bfloat16 autocast with gradient checkpointing, as on a GPU, while a
dispatch mode adds up the storages that are alive. Sums of matrix products are left out (a CPU takes minutes
for them in bfloat16), their outputs are not.
"""

from __future__ import annotations

import copy
import json
import weakref
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map

from benchmarks import live_memory, plan_memory
from harness.cost import shapes
from harness.perf.plan import memory
from vzero.grpo import log_probs
from vzero.grpo.frozen import spare_frozen_parts
from vzero.grpo.micro_batches import MicroBatch
from vzero.presets import load_preset
from vzero.runtime import compat

pytestmark = pytest.mark.slow

PRODUCTS = ("aten::mm", "aten::addmm", "aten::bmm", "aten::convolution", "aten::_scaled_dot_product")


class Live(TorchDispatchMode):
    """Bytes of the storages made since, now and at most."""

    def __init__(self) -> None:
        super().__init__()
        self.now, self.peak = 0, 0
        self._known: set[int] = set()

    def watch(self, tensor: torch.Tensor) -> None:
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

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func._schema.name.startswith(PRODUCTS):
            if "out" in kwargs:
                return kwargs["out"].zero_()
            shapes_only = tree_map(lambda one: one.to("meta") if isinstance(one, torch.Tensor) else one, args)
            made = func(*shapes_only, **kwargs)
            made = tree_map(
                lambda one: torch.zeros(one.shape, dtype=one.dtype) if isinstance(one, torch.Tensor) else one,
                made,
            )
        else:
            made = func(*args, **kwargs)
        for one in tree_iter(made):
            if isinstance(one, torch.Tensor):
                self.watch(one)
        return made


def tree(layers: int, words: int, tied: bool, depth: int = 10) -> shapes.Tree:
    found = copy.deepcopy(shapes.published("Qwen/Qwen2.5-VL-3B-Instruct"))
    text, vision = found["text_config"], found["vision_config"]
    text |= {"num_hidden_layers": layers, "hidden_size": 256, "intermediate_size": 1376, "vocab_size": words}
    text |= {"num_attention_heads": 2, "num_key_value_heads": 1, "bos_token_id": 1, "eos_token_id": 2}
    vision |= {"depth": depth, "hidden_size": 320, "num_heads": 4, "intermediate_size": 856}
    vision |= {"out_hidden_size": 256, "fullatt_block_indexes": [depth - 1]}
    kinds = ("image", "video", "vision_start", "vision_end")
    text["tie_word_embeddings"] = tied
    return found | {f"{kind}_token_id": 5 + i for i, kind in enumerate(kinds)} | {"tie_word_embeddings": tied}


def micro_batch(grid: tuple[int, int], length: int) -> MicroBatch:
    """Two groups of four completions of `length` tokens, each behind a picture and 60 tokens."""
    grids = torch.tensor([[1, *grid]] * 2)
    picture = grid[0] * grid[1] // 4
    ids = torch.full((2, 60 + picture), 20)
    ids[:, 10 : 10 + picture] = 5
    return MicroBatch(
        prompts={
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
            "pixel_values": torch.zeros(2 * grid[0] * grid[1], 3 * 2 * 14 * 14),
            "image_grid_thw": grids,
        },
        prompt_of=torch.arange(2).repeat_interleave(4),
        completion_ids=torch.full((8, length), 30),
        completion_mask=torch.ones(8, length, dtype=torch.int64),
        advantages=torch.ones(8),
        generation_tokens=torch.tensor(8.0 * length),
    )


@cache
def held(layers: int, words: int, tied: bool, grid: tuple[int, int], length: int, frozen: bool) -> int:
    """Bytes at the fullest moment of the second micro-batch of a step, when gradients are there, above the
    weights."""
    config, batch = shapes._without_storage(tree(layers, words, tied), "small")[0], micro_batch(grid, length)
    from transformers import AutoModelForImageTextToText
    from trl.trainer.utils import add_fused_lm_head

    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config, dtype=torch.float32).train()
    model.to_empty(device="cpu")
    model.tie_weights()
    for one in (*model.parameters(), *model.buffers()):
        one.data.zero_()
    model.model.visual.requires_grad_(not frozen)
    add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    assert log_probs.prepare(model)
    spare_frozen_parts(model)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    live = Live()
    with live:
        for one in model.parameters():
            live.watch(one)
        weights = live.now
        for _ in range(2):
            live.peak = live.now
            with torch.autocast("cpu", torch.bfloat16):
                values, _ = log_probs.completion_log_probs(model, batch)
            values.sum().backward()
            del values
    return live.peak - weights


@pytest.mark.parametrize(
    ("layers", "words", "tied", "grid", "length", "frozen"),
    [
        (12, 520, True, (8, 12), 60, False),  # fullest at the end of the forward pass
        (4, 520, True, (8, 12), 300, False),  # in the backward pass
        (4, 520, True, (24, 24), 60, False),  # pictures
        (4, 520, True, (24, 24), 60, True),
        (4, 8192, True, (8, 12), 60, False),  # vocabulary
        (4, 4096, False, (8, 12), 60, False),
    ],
)
def test_memory_of_an_update_is_what_the_pass_holds(
    layers: int,
    words: int,
    tied: bool,
    grid: tuple[int, int],
    length: int,
    frozen: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compat.install()
    # On a CPU TRL's head has no kernel that folds a tile in place: small ones keep its copies from counting.
    monkeypatch.setattr("trl.trainer.utils._CHUNKED_LOGPROB_CHUNK_SIZE", 64)
    monkeypatch.setattr(memory, "HEAD_TILE", (4096, 64))
    images = shapes._image_processor({"image_processor_type": "Qwen2VLImageProcessor"})
    size = shapes._build(tree(layers, words, tied), images, "small")
    scored, patches = 8 * length, 2 * grid[0] * grid[1]
    micro = memory.MicroBatchSize(2 * (60 + patches // 8) + scored, scored, patches)
    changes = {f"{role}.grpo.freeze_vision": frozen for role in ("questioner", "solver")}
    preset = load_preset("qwen2.5-vl-3b-1gpu", changes=changes)
    planned = memory.of_update(preset, size, "questioner", micro, card=80e9)
    lasting = ("weights", "optimizer", "reference")  # not in this process
    expected = sum(value for name, value in planned.items() if name not in lasting)
    found = held(layers, words, tied, grid, length, frozen)
    assert found == pytest.approx(expected, rel=0.1), planned


def test_tensors_without_storage_hold_what_real_ones_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """What `benchmarks.plan_memory` counts at the shapes of 3B and 7B, here at small ones."""
    compat.install()
    monkeypatch.setattr("trl.trainer.utils._CHUNKED_LOGPROB_CHUNK_SIZE", 64)
    config, model = shapes._without_storage(tree(4, 520, True), "small")
    batch, numbers = micro_batch((24, 24), 60), sum(one.numel() for one in model.parameters())
    found = plan_memory.counted(plan_memory.Case(config, False, batch))
    assert found["weights"] == pytest.approx(4 * numbers, rel=1e-3)
    assert found["optimizer"] == pytest.approx(8 * numbers, rel=1e-3)
    real = held(4, 520, True, (24, 24), 60, False) + batch.prompts["pixel_values"].nbytes
    assert found["gradients"] + found["activations"] == pytest.approx(real, rel=0.06)


@pytest.mark.parametrize("preset", ["qwen2.5-vl-3b-lora-1gpu", "qwen2.5-vl-7b-4gpu"])
def test_adapters_and_split_weights_hold_what_is_planned(
    preset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Adapters on a frozen model of half precision; weights split over four processes, gathered layer by
    layer."""
    compat.install()
    monkeypatch.setattr("trl.trainer.utils._CHUNKED_LOGPROB_CHUNK_SIZE", 64)
    monkeypatch.setattr(memory, "HEAD_TILE", (4096, 64))
    monkeypatch.setattr(live_memory, "LARGE", 2**14)
    given, processes = load_preset(preset), 1 if "lora" in preset else 4
    small = tree(2, 520, True, depth=3)  # a fake of each tensor takes its time
    config, model = shapes._without_storage(small, "small")
    images = shapes._image_processor({"image_processor_type": "Qwen2VLImageProcessor"})
    size = shapes._build(small, images, "small")
    case = plan_memory.Case(config, False, micro_batch((24, 24), 60), given.lora, processes)
    found = plan_memory.counted(case)
    numbers = sum(one.numel() for one in model.parameters())
    learned = numbers if given.lora is None else given.lora.rank * size.adapters
    whole = 2 * numbers + 4 * learned if given.lora else 4 * numbers
    assert found["weights"] == pytest.approx(whole / processes, rel=1e-3)
    assert found["gradients"] == pytest.approx(4 * learned / processes, rel=1e-3)
    assert found["optimizer"] == pytest.approx(8 * learned / processes, rel=1e-3)
    micro = memory.MicroBatchSize(2 * (60 + 2 * 24 * 24 // 8) + 480, 480, 2 * 24 * 24)
    planned = plan_memory.planned(given, size, "solver", micro)
    assert sum(found.values()) == pytest.approx(sum(planned.values()), rel=0.1), planned


@pytest.mark.parametrize("name", plan_memory.rows())
def test_the_plan_of_a_large_model_is_what_was_counted(name: str) -> None:
    """At the shapes of 3B and 7B, which takes minutes: `python -m benchmarks.plan_memory results/plan`."""
    path = Path(__file__).resolve().parents[2] / "results" / "plan" / plan_memory.FILE
    counted = json.loads(path.read_text("utf-8"))["counted"][name]
    planned = plan_memory.rows()[name].planned()
    for kind in ("weights", "gradients", "optimizer", "reference"):
        assert counted[kind] == pytest.approx(planned[kind], rel=0.01), kind
    assert counted["activations"] == pytest.approx(planned["activations"], rel=0.08)
    assert sum(counted.values()) == pytest.approx(sum(planned.values()), rel=0.03)
