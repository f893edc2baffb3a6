"""Task files for lmms-eval: ours over a suite's rows (`boxed`), or its own task pointed at the same rows
(`stock`), with a copy of these rows.

lmms-eval imports what task files name, so their folder is a new one of this process.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from harness.evals import rows, write
from harness.evals.catalogue import Profile, Purpose
from harness.evals.lenses import METRICS
from harness.evals.rows import OpenPart
from vzero.config import SamplingConfig
from vzero.errors import InputError
from vzero.runtime import artefacts

TaskFile = dict[str, Any]  # what lmms-eval reads
HOOKS = "harness.evals.hooks"
# The filter's name is part of the metric's name in lmms-eval's results: "verified,none".
FILTERS: dict[Purpose, str] = {"greedy": "none", "sampled": "all"}


class _Tag(str):
    """A string that YAML shall carry as `!function`, which is how lmms-eval names Python functions."""


class _Dumper(yaml.SafeDumper):
    pass


_Dumper.add_representer(_Tag, lambda dumper, tag: dumper.represent_scalar("!function", str(tag)))


@dataclass(frozen=True)
class Task:
    """A task that lmms-eval will run: its name, its rows, and for what its answers are."""

    name: str
    opened: OpenPart
    purpose: Purpose
    profile: Profile


def write_boxed(
    opened: OpenPart, purpose: Purpose, sampling: SamplingConfig, prompt_format: str, folder: Path
) -> Task:
    """Our own task over one part: reasoning prompt, every sampling parameter, the verified lens."""
    suite, task = opened.suite, _task(opened, purpose, "boxed")
    about: TaskFile = {
        **_place(task, folder),
        "test_split": opened.part.split,
        "output_type": "generate_until",
        "num_fewshot": 0,
        **{name: _Tag(f"{HOOKS}.{name}") for name in ("doc_to_visual", "doc_to_text", "doc_to_messages")},
        "doc_to_target": _Tag(f"{HOOKS}.target_{suite.name}"),
        "process_results": _Tag(f"{HOOKS}.process_{suite.name}"),
        "metric_list": [
            {"metric": metric, "aggregation": "mean", "higher_is_better": True} for metric in METRICS
        ],
        "generation_kwargs": sampling.model_dump(exclude={"n"}),
        "lmms_eval_specific_kwargs": {"suite": suite.name, "prompt_format": prompt_format},
        "metadata": {"version": 1, "suite": suite.name, "purpose": purpose},
    }
    if purpose == "sampled":
        # Without the filter lmms-eval draws n answers and scores the first one only.
        take = {"function": "take_first_k", "k": sampling.n}
        about |= {"repeats": sampling.n, "filter_list": [{"name": FILTERS[purpose], "filter": [take]}]}
    return _written(task, about, folder)


def write_stock(opened: OpenPart, folder: Path) -> Task:
    """lmms-eval's own task under another name, changed in nothing but where its rows come from.

    Raises:
        InputError: this version of lmms-eval has no such task.
    """
    original = tasks_folder() / opened.part.file
    if not original.is_file():
        raise InputError(
            f"The installed lmms-eval has no task file {opened.part.file}; install the version that the lock "
            "names."
        )
    task = _task(opened, "greedy", "stock")
    return _written(task, {"include": str(original), **_place(task, folder)}, folder)


def tasks_folder() -> Path:
    """Where the installed lmms-eval keeps its tasks; it is not imported."""
    found = importlib.util.find_spec("lmms_eval")
    if found is None or not found.submodule_search_locations:
        raise InputError("lmms-eval is not installed; run `make install`.")
    return Path(next(iter(found.submodule_search_locations))) / "tasks"


def _task(opened: OpenPart, purpose: Purpose, profile: Profile) -> Task:
    part = [opened.part.config] if len(opened.suite.parts) > 1 and opened.part.config else []
    return Task("_".join(["vzero", profile, opened.suite.name, *part, purpose]), opened, purpose, profile)


def _place(task: Task, folder: Path) -> TaskFile:
    """The rows without their pictures, which the model shows from the opened part."""
    opened = task.opened
    place = rows.part_folder(folder / "rows", opened.suite, opened.part)
    if not place.exists():  # another purpose of the same part
        shown = [column for column in opened.suite.images if column in opened.rows.column_names]
        write.save_table(opened.rows.remove_columns(shown), opened.part.split, place)
    return {
        "task": task.name,
        "dataset_path": str(place.resolve()),
        "dataset_kwargs": {"load_from_disk": True},
    }


def _written(task: Task, about: TaskFile, folder: Path) -> Task:
    artefacts.write_text(folder / f"{task.name}.yaml", yaml.dump(about, Dumper=_Dumper, sort_keys=False))
    return task
