"""Task files for lmms-eval: ours over a suite's rows (`boxed`), or its own task pointed at the same rows
(`stock`)."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from harness.evals.catalogue import Part, Suite
from harness.evals.pocket_tasks import FILTERS, SENT, Purpose
from harness.evals.rows import Table
from vzero.config import SamplingConfig
from vzero.errors import InputError
from vzero.runtime import artefacts

Profile = Literal["boxed", "stock"]
HOOKS = "harness.evals.hooks"
METRICS = ("official", "strict", "parsed")


class _Tag(str):
    """A string that YAML shall carry as `!function`, which is how lmms-eval names Python functions."""


class _Dumper(yaml.SafeDumper):
    pass


_Dumper.add_representer(_Tag, lambda dumper, tag: dumper.represent_scalar("!function", str(tag)))


@dataclass(frozen=True)
class Task:
    """A task that lmms-eval will run: its name, its rows, and for what its answers are ("greedy",
    "sampled")."""

    name: str
    table: Table
    purpose: Purpose


def write_boxed(
    table: Table, purpose: Purpose, sampling: SamplingConfig, prompt_format: str, folder: Path
) -> Task:
    """Our own task over one part: reasoning prompt, every sampling parameter, both lenses."""
    suite, sent = table.suite, sampling.model_dump()
    name = _name("boxed", suite, table.part, purpose)
    task: dict[str, Any] = {
        "task": name,
        "dataset_path": str(table.folder.resolve()),
        "dataset_kwargs": {"load_from_disk": True},
        "test_split": table.part.split,
        "output_type": "generate_until",
        "num_fewshot": 0,
        "doc_to_visual": _Tag(f"{HOOKS}.doc_to_visual"),
        "doc_to_text": _Tag(f"{HOOKS}.doc_to_text"),
        "doc_to_messages": _Tag(f"{HOOKS}.doc_to_messages"),
        "doc_to_target": _Tag(f"{HOOKS}.target_{suite.name}"),
        "process_results": _Tag(f"{HOOKS}.process_{suite.name}"),
        "metric_list": [
            {"metric": metric, "aggregation": "mean", "higher_is_better": True} for metric in METRICS
        ],
        "generation_kwargs": {key: sent[key] for key in SENT},
        "lmms_eval_specific_kwargs": {"suite": suite.name, "prompt_format": prompt_format},
        "metadata": {"version": 1, "suite": suite.name, "purpose": purpose},
    }
    if purpose == "sampled":
        # Without the filter lmms-eval draws n answers and scores the first one only.
        task["repeats"] = sampling.n
        task["filter_list"] = [
            {"name": FILTERS[purpose], "filter": [{"function": "take_first_k", "k": sampling.n}]}
        ]
    artefacts.write_text(folder / f"{name}.yaml", yaml.dump(task, Dumper=_Dumper, sort_keys=False))
    return Task(name, table, purpose)


def write_stock(table: Table, folder: Path) -> Task:
    """lmms-eval's own task under another name, changed in nothing but where its rows come from.

    Raises:
        InputError: it cannot run on local data, or this version of lmms-eval has no such task.
    """
    suite, part = table.suite, table.part
    if suite.stock:
        raise InputError(f"{suite.name} has no --profile stock: {suite.stock}; use --profile boxed.")
    original = tasks_folder() / part.file
    if not original.is_file():
        raise InputError(
            f"The installed lmms-eval has no task file {part.file}; install the version that the lock names."
        )
    name = _name("stock", suite, part, "greedy")
    task = {
        "include": str(original),
        "task": name,
        "dataset_path": str(table.folder.resolve()),
        "dataset_kwargs": {"load_from_disk": True},
    }
    artefacts.write_text(folder / f"{name}.yaml", yaml.safe_dump(task, sort_keys=False))
    return Task(name, table, "greedy")


def tasks_folder() -> Path:
    """Where the installed lmms-eval keeps its tasks; it is not imported."""
    found = importlib.util.find_spec("lmms_eval")
    if found is None or not found.submodule_search_locations:
        raise InputError("lmms-eval is not installed; run `make install`.")
    return Path(next(iter(found.submodule_search_locations))) / "tasks"


def _name(profile: Profile, suite: Suite, part: Part, purpose: Purpose) -> str:
    return "_".join(
        [
            "vzero",
            profile,
            suite.name,
            *([part.config] if len(suite.parts) > 1 and part.config else []),
            purpose,
        ]
    )
