"""One call of lmms-eval for all tasks of an evaluation, and what is kept of its report.

Runs inside the stage's own process: lmms-eval takes seconds to import, logs a lot, and frees the model it was
given.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.evals import metrics
from harness.evals.pocket_tasks import FILTERS, PURPOSES, task_name
from vzero.errors import InputError, VZeroError

if TYPE_CHECKING:
    from lmms_eval.api.model import lmms

TOLERANCE = (
    1e-9  # both sides average the same zeros and ones; only the order of floating-point sums may differ
)


def prepare(work: Path) -> None:
    """Settle what lmms-eval and its dependencies read from the environment while they are imported.

    Raises:
        InputError: more than one process: lmms-eval would hand each of them a share of the items.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) != 1:
        raise InputError("An evaluate stage runs as one process; start it without accelerate or torchrun.")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # lmms-eval unpickles cached requests from here even when told not to cache: give it a folder that holds
    # none.
    os.environ["LM_HARNESS_CACHE_PATH"] = str(work / "no-cache")


def simple_evaluate(
    model: lmms, names: Sequence[str], tasks: Path, log: Path, limit: int | None = None
) -> dict[str, Any]:
    """lmms-eval's results for the tasks in folder `tasks`, each on its first `limit` rows. No cache, no
    bootstrap, one thread; what it prints goes to `log`."""
    from lmms_eval import evaluator
    from lmms_eval.tasks import TaskManager

    with _logging_to(log):
        manager = TaskManager("WARNING", include_path=str(tasks), include_defaults=False)
        # "torchrun" on one process means: no process group and no Accelerator.
        return evaluator.simple_evaluate(
            model=model,
            tasks=list(names),
            limit=limit,
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
    logger.remove()
    with (
        open(path, "a", encoding="utf-8", errors="backslashreplace", buffering=1) as stream,
        redirect_stdout(stream),
        redirect_stderr(stream),
    ):
        sink = logger.add(stream, level="INFO")
        try:
            yield
        finally:
            logger.remove(sink)


def report(results: Mapping[str, Any]) -> dict[str, Any]:
    """The part of lmms-eval's results that another run would repeat: its numbers, not its dates, paths,
    commits and object names."""
    return {
        "lmms_eval": metadata.version("lmms-eval"),
        "results": {
            task: {
                name: float(value) for name, value in sorted(values.items()) if isinstance(value, int | float)
            }
            for task, values in sorted(results["results"].items())
        },
        "n-samples": {task: dict(counts) for task, counts in sorted(results["n-samples"].items())},
        "higher_is_better": {
            task: dict(sorted(values.items())) for task, values in sorted(results["higher_is_better"].items())
        },
        "versions": dict(sorted(results["versions"].items())),
    }


def cross_check(reported: Mapping[str, Any], rows: Sequence[metrics.Row]) -> None:
    """Compare lmms-eval's numbers with ours from the stored answers.

    Raises:
        VZeroError: a suite was scored on another number of items, or any of its accuracies differs by more
            than `TOLERANCE`.
    """
    for suite, ours in metrics.by_suite(rows).items():
        pairs = {
            ("greedy", "greedy"): ours.greedy,
            ("sampled", "sampled"): ours.sampled,
            ("sampled", "majority"): ours.majority,
            ("sampled", "any_correct"): ours.pass_at[ours.samples],
            ("greedy", "parsed"): 1 - ours.unparsed_greedy / ours.scored,
            ("sampled", "parsed"): 1 - ours.unparsed_sampled / (ours.scored * ours.samples),
        }
        for purpose in PURPOSES:
            counted = reported["n-samples"][task_name(suite, purpose)]["effective"]
            if counted != ours.scored:
                raise VZeroError(
                    f"lmms-eval scored {counted} {purpose} items of {suite}, the stored answers are of {ours.scored}."
                )
        for (purpose, name), value in pairs.items():
            theirs = reported["results"][task_name(suite, purpose)].get(f"{name},{FILTERS[purpose]}")
            if theirs is None or not abs(theirs - value) <= TOLERANCE:
                raise VZeroError(
                    f"On {suite}, lmms-eval reports {theirs} for {name} ({purpose}) and the stored answers give {value}; the "
                    "evaluation is not to be trusted."
                )
