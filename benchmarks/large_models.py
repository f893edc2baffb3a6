"""What training a large model costs besides its matrix products, before and after, counted and measured on a
CPU: `python -m benchmarks.large_models FOLDER` writes counts.json and counts.md.

*Before* is what Hugging Face, TRL or an earlier version of this project does; both are done in one process.
"""

from __future__ import annotations

import json
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from PIL import Image
from torch import distributed
from torch.overrides import TorchFunctionMode
from torch.testing._internal.distributed.fake_pg import FakeStore
from transformers import Qwen2VLImageProcessor
from transformers.models.qwen2_5_vl import modeling_qwen2_5_vl as qwen

from harness.perf import hardware
from harness.perf.plan import plan
from vzero.grpo import packing, sharding
from vzero.presets import load_preset
from vzero.rollout.pictures import Pictures
from vzero.runtime import artefacts, checkpoints, windows

PIXELS = (1154, 866)  # one megapixel
PICTURES = 8  # processed here; a generation batch has 64
RANKS = 4
RUNS = ("qwen2.5-vl-3b-1gpu", "h200-141"), ("qwen2.5-vl-7b", "h100-80")
Row = dict[str, float | str]


def attention_of_the_tower() -> Row:
    """Calls of PyTorch's attention for one picture: the published depth, narrow layers."""
    counts = []
    for grouped in (False, True):
        sizes = {"hidden_size": 32, "num_heads": 2, "intermediate_size": 32, "out_hidden_size": 32}
        config = qwen.Qwen2_5_VLVisionConfig(depth=32, fullatt_block_indexes=[7, 15, 23, 31], **sizes)
        make = qwen.Qwen2_5_VisionTransformerPretrainedModel._from_config
        tower = make(config, attn_implementation="sdpa")
        assert not grouped or windows.group(tower)
        with torch.no_grad(), _Calls(torch.nn.functional.scaled_dot_product_attention) as calls:
            tower(torch.zeros(62 * 82, 1176), torch.tensor([[1, 62, 82]]))
        counts.append(calls.count)
    return _row("attention calls, vision tower, a picture", "calls", *counts)


class _Calls(TorchFunctionMode):
    def __init__(self, function: Callable[..., torch.Tensor]) -> None:
        super().__init__()
        self.function, self.count = function, 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.count += func is self.function
        return func(*args, **(kwargs or {}))


def mask_of_a_micro_batch() -> Row:
    """Two prompts of 1,400 tokens with five completions of 4,096 each, the Solver's longest."""
    lengths = torch.tensor([1400] * 2), torch.tensor([4096] * 10), torch.arange(2).repeat_interleave(5)
    dense, blocks = packing._layout(*lengths), packing.block_mask(*lengths)
    kept = [one for one in vars(blocks).values() if isinstance(one, torch.Tensor)]
    kept += [torch.zeros(blocks.seq_lengths[0], dtype=torch.int64)] * 2  # the runs that its function reads
    before = sum(one.nbytes for one in vars(dense).values())
    return _row(
        "attention mask, Solver's longest micro-batch", "bytes", before, sum(one.nbytes for one in kept)
    )


def pictures() -> Iterator[Row]:
    """Of PICTURES prompts of the 3B preset's Questioner, two a micro-batch: drawn for, then differentiated.
    TRL processes the picture of every sequence."""
    process, group = Qwen2VLImageProcessor(), load_preset("qwen2.5-vl-3b").questioner.grpo.group_size
    noise = np.random.default_rng(0).integers(
        0, 256, (PICTURES, PIXELS[1] // 16, PIXELS[0] // 16, 3), np.uint8
    )
    drawn = [Image.fromarray(one).resize(PIXELS, Image.Resampling.BICUBIC) for one in noise]
    shared = Pictures(SimpleNamespace(image_processor=process), workers=1)
    ways: dict[str, Callable[[], list[torch.Tensor]]] = {
        "TRL": lambda: [process(images=drawn * group, return_tensors="pt")["pixel_values"]],
        "before": lambda: [
            process(images=drawn, return_tensors="pt")["pixel_values"],
            *(
                process(images=drawn[i : i + 2], return_tensors="pt")["pixel_values"]
                for i in range(0, PICTURES, 2)
            ),
        ],
        "now": lambda: [shared(one).pixels for one in drawn],
    }
    seconds, sizes = {}, {}
    for name, way in ways.items():
        start = time.process_time()
        sizes[name] = sum(one.nbytes for one in way())
        seconds[name] = (time.process_time() - start) / PICTURES
    for before in ("TRL", "before"):
        of = "stock TRL" if before == "TRL" else "engine and micro-batches"
        yield _row(f"CPU seconds a picture of 1 MP, {of}", "s", seconds[before], seconds["now"])
        yield _row(
            f"bytes made by the processor, a picture of 1 MP, {of}",
            "bytes",
            *(sizes[k] / PICTURES for k in (before, "now")),
        )


def loading(folder: Path, layers: int = 6) -> Row:
    """Growth of private memory while one of RANKS processes opens weights, 0.6 GB of six layers, from a file
    of half that."""
    text = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": layers, "vocab_size": 32_000}
    config = qwen.Qwen2_5_VLConfig(
        text_config={**text, "num_attention_heads": 8, "num_key_value_heads": 2},
        vision_config={"depth": 2, "hidden_size": 128, "num_heads": 2, "out_hidden_size": 1024},
    )
    qwen.Qwen2_5_VLForConditionalGeneration(config).to(torch.bfloat16).save_pretrained(folder)
    distributed.init_process_group("fake", store=FakeStore(), rank=0, world_size=RANKS)
    grown = []
    for load in (lambda: sharding.load(folder, torch.float32, "cpu"), lambda: checkpoints.load_model(folder)):
        with _peak() as peak:
            model = load()
        grown.append(peak.bytes)
        del model
    distributed.destroy_process_group()
    return _row(f"memory to open a model, one of {RANKS} processes", "bytes", grown[1], grown[0])


@contextmanager
def _peak() -> Iterator[SimpleNamespace]:
    """How far private memory rises inside, sampled every millisecond."""
    found, ended = SimpleNamespace(bytes=0), threading.Event()

    def private() -> int:
        line = next(one for one in Path("/proc/self/status").read_text().splitlines() if "RssAnon" in one)
        return 1024 * int(line.split()[1])

    start = private()

    def watch() -> None:
        while not ended.wait(0.001):
            found.bytes = max(found.bytes, private() - start)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield found
    finally:
        ended.set()
        watcher.join()


def checkpoints_of_a_run() -> Row:
    """`pocket`'s Questioner, both iterations: whole weights and two moments of what is trained every four
    generations, against the trained ones every half hour, which the stage does not take."""
    preset, model = load_preset("pocket"), checkpoints.load_model(checkpoints.POCKET)
    tower = sum(one.numel() for one in model.model.visual.parameters())
    whole = sum(one.numel() for one in model.parameters())
    generations = preset.questioner.grpo.max_generations or 0
    before = preset.iterations * (generations // 4) * 4 * (whole + 2 * (whole - tower))
    return _row("checkpoints to resume from, pocket's Questioner", "bytes", before, 0)


def checkpoints_of_a_large_run(name: str, kind: str) -> Row:
    """The same of a preset on cards of a kind: weights and moments every four generations and after the last,
    against what the clock allows in the hours that are planned. Computed, not run."""
    preset = load_preset(name)
    made = plan.make(preset, preset.launch.gpus + preset.launch.solver_gpus, hardware.card(kind))
    times, each = preset.iterations, 12 * made.trained
    trainings = [part for part in made.parts if part.steps]
    before = sum(times * (part.steps // (2 * times) // 4 + 1) * each for part in trainings)
    minutes = [60 * part.hours / times for part in trainings]
    now = sum(times * (one // preset.launch.checkpoint_minutes) * each for one in minutes)
    return _row(f"checkpoints to resume from, {name}, planned on {kind}", "bytes", before, now)


def _row(name: str, unit: str, before: float, after: float) -> Row:
    return {"name": name, "unit": unit, "before": before, "after": after}


def main(folder: Path) -> None:
    """Measure, and write."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as made:
        rows = [attention_of_the_tower(), mask_of_a_micro_batch(), *pictures(), loading(Path(made))]
    rows.append(checkpoints_of_a_run())
    rows += [checkpoints_of_a_large_run(name, kind) for name, kind in RUNS]
    lines = ["| | unit | before | after |", "| :-- | :-- | --: | --: |"]
    lines += [
        f"| {one['name']} | {one['unit']} | {one['before']:,.4g} | {one['after']:,.4g} |" for one in rows
    ]
    folder.mkdir(parents=True, exist_ok=True)
    artefacts.write_json(folder / "counts.json", {"torch": torch.__version__, "rows": rows})
    (folder / "counts.md").write_text("\n".join(lines) + "\n")
    print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
