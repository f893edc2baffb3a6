"""One call of lmms-eval for some tasks, and what is kept of its report.

lmms-eval takes seconds to import, logs a lot, and frees the model it was given.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.evals import build
from harness.evals.results import LmmsEval
from harness.evals.tasks import FILTERS, Task
from vzero.errors import InputError, VZeroError
from vzero.runtime import owned

if TYPE_CHECKING:
    from harness.evals.model import StoredModel

# Both sides average the same zeros and ones; only the order of floating-point sums may differ.
TOLERANCE = 1e-9


def prepare() -> None:
    """Settle what lmms-eval and its dependencies read from the environment while they are imported.

    Raises:
        InputError: more than one process: lmms-eval would hand each of them a share of the items.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) != 1:
        raise InputError("An evaluation runs as one process; start it without accelerate or torchrun.")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # the model is on disk, and so are the rows
    os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def simple_evaluate(model: StoredModel, tasks: Sequence[Task], folder: Path, log: Path) -> dict[str, Any]:
    """lmms-eval's results for `tasks`, whose files lie in `folder`. No cache, no bootstrap, one thread; what
    it prints goes to `log`."""
    from lmms_eval import evaluator
    from lmms_eval.caching import cache
    from lmms_eval.tasks import TaskManager

    # lmms-eval unpickles cached requests from there even when told not to cache; nothing can lie below this.
    cache.PATH = os.devnull
    with _logging_to(log):
        manager = TaskManager("WARNING", include_path=str(folder), include_defaults=False)
        # "torchrun" on one process means: no process group and no Accelerator.
        return evaluator.simple_evaluate(
            model=model,
            tasks=[task.name for task in tasks],
            task_manager=manager,
            batch_size=1,
            use_cache=None,
            cache_requests=False,
            bootstrap_iters=0,
            log_samples=False,
            process_docs_parallel=1,
            distributed_executor_backend="torchrun",
        )


@contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    from loguru import logger

    path.parent.mkdir(parents=True, exist_ok=True)
    log = owned.open_own(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    logger.remove()
    with (
        open(log, "a", encoding="utf-8", errors="backslashreplace", buffering=1) as stream,
        redirect_stdout(stream),
        redirect_stderr(stream),
    ):
        sink = logger.add(stream, level="INFO")
        try:
            yield
        finally:
            logger.remove(sink)


def record(found: Mapping[str, Any], tasks: Sequence[Task], model: StoredModel) -> LmmsEval:
    """What lmms-eval says of `tasks`, as far as another run would repeat it: its numbers, not its dates,
    paths, commits and object names."""
    names = [task.name for task in tasks]
    return LmmsEval(
        version=metadata.version("lmms-eval"),
        results={
            name: {
                key: float(value)
                for key, value in sorted(found["results"].get(name, {}).items())
                if isinstance(value, int | float) and math.isfinite(value)
            }
            for name in names
        },
        items={name: found["n-samples"][name]["effective"] for name in names},
        sent={name: model.sent[name] for name in names},
        not_sent={name: json.loads(json.dumps(model.not_sent[name], default=str)) for name in names},
        pixels=model.limits,
    )


def cross_check(out: Path, tasks: Sequence[Task], said: LmmsEval) -> None:
    """Compare lmms-eval's means of what our hooks said with ours from the stored responses.

    Raises:
        VZeroError: an item has no answer, a task was scored on another number of items, or a mean differs by
            more than `TOLERANCE`.
    """
    for task in tasks:
        suite, part = task.opened.suite, task.opened.part.config
        count, ours = build.means(out, suite, part, task.purpose)
        if said.items[task.name] != count:
            raise VZeroError(
                f"lmms-eval scored {said.items[task.name]} items of {task.name}, the stored answers are of "
                f"{count}."
            )
        for metric, value in ours.items():
            theirs = said.results[task.name].get(f"{metric},{FILTERS[task.purpose]}")
            if theirs is None or not abs(theirs - value) <= TOLERANCE:
                raise VZeroError(
                    f"On {task.name}, lmms-eval reports {theirs} for {metric} and the stored responses give "
                    f"{value}; the evaluation is not to be trusted."
                )
