"""lmms-eval's own scoring of stored answers, as `python -m harness.evals.official_worker`.

Reads a `Job` from each line of stdin, writes its `Outcome` as a line to stdout. A process of its own, because
that code prints, mutates what it is given, guesses at random, calls judges, evaluates text as Python, and
imports what it does not need. Here it reaches no network but the judge's, and every row has a time limit.
"""

from __future__ import annotations

import copy
import importlib
import inspect
import json
import os
import random
import sys
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from harness.evals.isolation import (
    JUDGE_SECONDS,
    JudgeFailed,
    Overdue,
    at_most,
    guard,
    prepare,
    reason,
    use_judge,
)
from harness.evals.official_job import Job, Outcome

ROW_SECONDS = 10.0  # of one answer; a judge has more


@dataclass(frozen=True)
class Task:
    """lmms-eval's functions for a suite."""

    process: Callable[[Any, list[str]], dict[str, Any]]
    aggregations: Mapping[str, Callable[..., Any]]


def outcome(job: Job) -> Outcome:
    """Score one suite."""
    if job.judge is not None:
        use_judge(job.judge)
    try:
        task = _load(job.file)
    except Exception as error:  # whatever its modules raise while they are imported
        return Outcome(unavailable=f"lmms-eval's task cannot be loaded here ({reason(error)})")
    seconds = JUDGE_SECONDS if job.judge else ROW_SECONDS
    verdicts: dict[str, bool] = {}
    set_aside: dict[str, str] = {}
    values: dict[int, dict[str, Any]] = {}
    for position, one in enumerate(job.rows):
        random.seed(one.id)  # MMMU's rule guesses where it reads nothing
        try:
            with at_most(seconds):
                values[position] = task.process(copy.deepcopy(one.row), [one.answer])
                if job.item is not None:
                    verdicts[one.id] = _aggregated(task, job.item, [values[position]]) > 0
        except (Exception, Overdue) as error:
            values.pop(position, None)
            set_aside[one.id] = reason(error)
    if job.rows and not values:
        return Outcome(unavailable=f"lmms-eval's scoring fails ({next(iter(set_aside.values()))})")
    headlines, failed = {}, {}
    with TemporaryDirectory() as folder:  # where HallusionBench's keeps what its judge said
        for name, metrics in job.headlines.items():
            strata = job.strata.get(name) or [list(values)]
            kept = [[values[i] for i in stratum if i in values] for stratum in strata]
            try:
                found = [
                    _aggregated(task, metric, rows, folder) for metric in metrics for rows in kept if rows
                ]
                headlines[name] = fmean(found)
            except Exception as error:  # We-Math's divides by zero where no problem is mastered
                failed[name] = reason(error)
    return Outcome(verdicts=verdicts, set_aside=set_aside, headlines=headlines, failed=failed)


def _aggregated(task: Task, metric: str, rows: Sequence[Mapping[str, Any]], folder: str = "") -> float:
    """lmms-eval's aggregate of a metric, as a number."""
    function, values = task.aggregations[metric], copy.deepcopy([row[metric] for row in rows])
    takes_args = "args" in inspect.signature(function).parameters
    found = function(values, types.SimpleNamespace(output_path=folder)) if takes_args else function(values)
    if isinstance(found, str):  # We-Math's: "12.50%"
        return float(found.removesuffix("%")) / 100
    return float(found or 0.0)  # MathVista's is None where nothing is right


def _load(file: str) -> Task:
    about = _yaml(_tasks() / file)

    def function(name: str) -> Callable[..., Any]:
        module, _, attribute = name.rpartition(".")
        place = ".".join(Path(file).parent.parts)
        return getattr(importlib.import_module(f"lmms_eval.tasks.{place}.{module}"), attribute)

    aggregations = {
        one["metric"]: fmean if one["aggregation"] == "mean" else function(one["aggregation"])
        for one in about["metric_list"]
    }
    return Task(function(about["process_results"]), aggregations)


class _Loader(yaml.SafeLoader):
    """Reads `!function module.name` as text."""


_Loader.add_constructor("!function", lambda loader, node: node.value)


def _yaml(path: Path) -> dict[str, Any]:
    found = yaml.load(path.read_bytes(), _Loader)
    return {**_yaml(path.parent / found["include"]), **found} if "include" in found else found


def _tasks() -> Path:
    return Path(sys.modules["lmms_eval.tasks"].__path__[0])


def main() -> None:
    """Score jobs until there are none."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)  # what lmms-eval prints
        jobs = [Job.model_validate_json(line) for line in sys.stdin]
        prepare(asks=any(job.judge for job in jobs))
        from loguru import logger

        logger.remove()
        sys.addaudithook(guard)
        for job in jobs:
            try:
                found = outcome(job)
            except JudgeFailed as error:
                found = Outcome(unavailable=f"the judge failed ({error})")
            answers.write(json.dumps(found.model_dump()) + "\n")
            answers.flush()


if __name__ == "__main__":
    main()
