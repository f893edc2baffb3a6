"""Suites as lmms-eval tasks: a `datasets` folder per suite, and two YAML files (greedy, sampled) that point
at it."""

from __future__ import annotations

import io
import shutil
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import yaml
from PIL import Image

from harness.evals.pocket_suites import Item
from vzero.config import SamplingConfig
from vzero.runtime import artefacts

Purpose = Literal["greedy", "sampled"]
PURPOSES: tuple[Purpose, ...] = ("greedy", "sampled")
FILTERS: dict[Purpose, str] = {
    "greedy": "none",
    "sampled": "all",
}  # the filter's name is part of the metric's name: "greedy,none"
SENT = (
    "temperature",
    "top_p",
    "top_k",
    "repetition_penalty",
    "max_new_tokens",
)  # and n, which lmms-eval calls repeats


def task_name(suite: str, purpose: Purpose) -> str:
    """The name lmms-eval knows a task by."""
    return f"vzero_{suite}_{purpose}"


def write_dataset(items: Sequence[Item], folder: Path) -> None:
    """Save `items` where `datasets.load_from_disk` finds them: columns image, question, gold, family,
    item_id; split "test"."""
    import datasets

    datasets.disable_progress_bars()
    features = datasets.Features(
        {
            "image": datasets.Image(),
            **{name: datasets.Value("string") for name in ("question", "gold", "family", "item_id")},
        }
    )
    rows = [
        {
            "image": {"bytes": _png(item.image), "path": None},
            "question": item.question,
            "gold": item.gold,
            "family": item.family,
            "item_id": item.item_id,
        }
        for item in items
    ]
    shutil.rmtree(folder, ignore_errors=True)  # a killed attempt may have left half of it
    datasets.DatasetDict({"test": datasets.Dataset.from_list(rows, features=features)}).save_to_disk(
        str(folder)
    )


def _png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.convert("RGB").save(stream, "PNG", compress_level=1)  # scratch: quick rather than small
    return stream.getvalue()


def write_task(
    suite: str, purpose: Purpose, sampling: SamplingConfig, prompt_format: str, dataset: Path, folder: Path
) -> str:
    """Write the YAML file of one task into `folder`; its name for lmms-eval."""
    name = task_name(suite, purpose)
    template = resources.files("harness.evals") / "templates" / f"{purpose}.yaml"
    sent = sampling.model_dump()
    task: dict[str, Any] = {
        "include": str(template),
        "task": name,
        "dataset_path": str(dataset.resolve()),
        "generation_kwargs": {key: sent[key] for key in SENT},
        "lmms_eval_specific_kwargs": {"prompt_format": prompt_format},
        "metadata": {"version": 1, "suite": suite, "purpose": purpose},
    }
    if purpose == "sampled":
        task["repeats"] = sampling.n
        task["filter_list"] = [
            {"name": FILTERS[purpose], "filter": [{"function": "take_first_k", "k": sampling.n}]}
        ]
    artefacts.write_text(folder / f"{name}.yaml", yaml.safe_dump(task, sort_keys=False))
    return name
