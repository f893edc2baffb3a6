"""Ask a checkpoint the questions of real suites through lmms-eval, answer by answer into the store, then
score what is stored.

One call of lmms-eval a suite, so that a suite that fails leaves those before it whole. The engine is opened
once.
"""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from harness.evals import folder, results, rows, runner, tasks
from harness.evals.catalogue import Suite
from harness.evals.pictures import Limits
from harness.evals.pocket_tasks import FILTERS
from harness.evals.rows import Table
from harness.evals.tasks import Profile, Task
from vzero.config import EngineConfig, SamplingConfig
from vzero.errors import InputError, VZeroError
from vzero.runtime import artefacts

Say = Callable[[str], None]
Count = Callable[[str, int, int], None]  # (suite, answered items, all items of one of its passes)


@dataclass(frozen=True)
class Plan:
    """One evaluation.

    Attributes:
        model: as the user named it; `checkpoint` is its folder.
        limit: only so many rows of each part of a suite.
        sampled: how k answers an item are drawn beside the greedy one; None for none.
        trained_on: pictures (a folder, or a run) to look for among those of the suites; None to look for
            none.
        cap: whether `greedy.max_new_tokens` also bounds stock tasks, which have budgets of their own.
    """

    model: str
    checkpoint: Path
    suites: tuple[Suite, ...]
    data: Path
    profile: Profile
    prompt_format: str
    engine: EngineConfig
    greedy: SamplingConfig
    sampled: SamplingConfig | None
    limits: Limits
    limit: int | None
    seed: int
    cap: bool
    trained_on: Path | None = None

    def settings(self, checkpoint_sha256: str) -> dict[str, Any]:
        """All that determines the result, as JSON values."""
        return {
            "model": _plain(self.model),
            "checkpoint_sha256": checkpoint_sha256,
            "suites": [suite.name for suite in self.suites],
            "profile": self.profile,
            "prompt_format": self.prompt_format,
            "engine": identity_of(self.engine),
            "greedy": self.greedy.model_dump(mode="json"),
            "sampled": self.sampled.model_dump(mode="json") if self.sampled else None,
            "pixels": asdict(self.limits),
            "limit": self.limit,
            "seed": self.seed,
            "cap": self.cap,
        }


def run(plan: Plan, out: Path, fresh: bool, say: Say, count: Count | None = None) -> dict[str, Any]:
    """Ask and score; the content of results.json.

    Args:
        count: told how many items of a suite are answered; without one, `say` is.

    Raises:
        InputError: unusable data, or settings that contradict each other or those of the run in `out`.
        RolloutError: a request could not be answered; its suite is not scored.
        VZeroError: lmms-eval's numbers and ours differ.
    """
    _check(plan)
    say("reading the checkpoint")
    sha256 = artefacts.digest(artefacts.folder_hashes(plan.checkpoint))
    with folder.opened(out, plan.settings(sha256), fresh):
        runner.prepare(out / "work")
        os.environ.setdefault("HF_HUB_OFFLINE", "1")  # the model is on disk, and so are the rows
        os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
        opened = {suite.name: _tables(plan, suite, out, say) for suite in plan.suites}
        if plan.trained_on is not None:
            _decontaminate(plan, opened, out, say)
        engine = None
        for suite in plan.suites:
            if (out / "lmms_eval" / f"{suite.name}.json").exists():
                say(f"{suite.name}: already done")
                continue
            if engine is None:
                say(f"opening the checkpoint with the {plan.engine.name} engine")
                engine = _engine(plan)
            tell = count or (lambda name, done, total: say(f"{name}: {done}/{total} items answered"))
            _ask(plan, suite, opened[suite.name], engine, sha256, out, tell)
        return results.write(out)


def _check(plan: Plan) -> None:
    if plan.greedy.n != 1 or plan.greedy.temperature != 0:
        raise InputError("The greedy answers need n = 1 and temperature 0.")
    if plan.sampled is not None and plan.sampled.temperature == 0:
        raise InputError("--samples need a --temperature above 0: at 0 all of them are the greedy answer.")
    if plan.profile == "stock":
        if plan.sampled is not None:
            raise InputError(
                "--profile stock runs lmms-eval's task as it is, one answer an item; leave out --samples."
            )
        for suite in plan.suites:
            _check_stock(suite)


def _check_stock(suite: Suite) -> None:
    """Refuse now what lmms-eval's own task would fail at, or keep silent about, once the answers are
    drawn."""
    if suite.stock:
        raise InputError(f"{suite.name} has no --profile stock: {suite.stock}; use --profile boxed.")
    absent = [module for module in suite.needs if importlib.util.find_spec(module) is None]
    if absent:
        raise InputError(
            f"lmms-eval's own task for {suite.name} needs {', '.join(absent)}; install it, or use --profile boxed."
        )
    if suite.judge:
        _check_judge(suite)


def _check_judge(suite: Suite) -> None:
    """A judge that cannot be reached makes lmms-eval score nonsense without an error, so it is asked
    first."""
    from harness.evals.judge import reachable

    url = os.environ.get("OPENAI_API_URL")
    if not url or not os.environ.get("OPENAI_API_KEY"):
        raise InputError(
            f"lmms-eval's own scoring of {suite.name} asks a judge model; name one with OPENAI_API_URL, OPENAI_API_KEY and MODEL_VERSION, "
            "or use --profile boxed, which needs none."
        )
    reachable(url)


def _tables(plan: Plan, suite: Suite, out: Path, say: Say) -> list[Table]:
    """The suite's rows, held against what this run saw first; items/<suite>.jsonl is what will be asked."""
    say(f"{suite.name}: reading its rows")
    tables = rows.open_tables(suite, plan.data, out / "data")
    pins = out / "pins" / f"{suite.name}.json"
    rows.check(suite, tables, rows.read_pins(pins))
    if not pins.exists():
        rows.write_pins(pins, suite, tables, {"source": "as found"})
    asked = [
        {**asdict(question.item), "together": dict(question.together), "part": table.part.config}
        for table in tables
        for question in table.questions[: plan.limit]
    ]
    artefacts.write_jsonl(out / "items" / f"{suite.name}.jsonl", asked)
    return tables


def _decontaminate(plan: Plan, opened: Mapping[str, Sequence[Table]], out: Path, say: Say) -> None:
    from harness.evals import contamination

    assert plan.trained_on is not None
    say("looking for training pictures among the suites' pictures")
    contamination.write(
        out, [table for tables in opened.values() for table in tables], plan.limit, plan.trained_on
    )


def _engine(plan: Plan) -> Any:
    from vzero.rollout.engines import open_solver

    return open_solver(plan.engine, plan.checkpoint)


def _ask(
    plan: Plan, suite: Suite, tables: Sequence[Table], engine: Any, sha256: str, out: Path, count: Count
) -> None:
    from harness.evals.adapter import Settings, SuiteModel
    from harness.evals.store import Responses

    work = out / "work" / suite.name
    asked = _write_tasks(plan, tables, work)
    identity = {"checkpoint": sha256, "engine": identity_of(plan.engine)}
    settings = Settings(
        identity, plan.limits, plan.seed, plan.engine.batch_sequences, plan.greedy.max_new_tokens, plan.cap
    )
    store = Responses(out / "responses" / f"{suite.name}.jsonl")
    model = SuiteModel(engine, store, asked, settings, lambda done, total: count(suite.name, done, total))
    found = _evaluated(
        plan, suite, model, [task.name for task in asked], work, out / "work" / "lmms_eval.log"
    )
    record = {
        **runner.report(found),
        "purposes": {task.name: task.purpose for task in asked},
        "sent": {name: sampling.model_dump() for name, sampling in model.sent.items()},
        "not_sent": json.loads(json.dumps(model.not_sent, default=str)),
        "pixels": {**asdict(plan.limits), "processor": processor_limits(plan.checkpoint)},
    }
    if plan.profile == "boxed":
        _cross_check(out, suite, asked, record)
    artefacts.write_json(out / "lmms_eval" / f"{suite.name}.json", record)


def _evaluated(
    plan: Plan, suite: Suite, model: Any, names: Sequence[str], work: Path, log: Path
) -> dict[str, Any]:
    """lmms-eval's results. Whatever breaks in a stock task is a failure of that suite, never a score."""
    try:
        found = runner.simple_evaluate(model, names, work, log, plan.limit)
        if plan.profile == "stock" and suite.judge:
            _check_judge(suite)  # one that died meanwhile was taken for wrong answers
        return found
    except (VZeroError, OSError):
        raise
    except Exception as error:
        cause = (
            error.last_attempt.exception() if hasattr(error, "last_attempt") else error
        )  # lmms-eval retries even an interruption
        if isinstance(cause, VZeroError):
            raise cause from None
        if plan.profile != "stock":
            raise
        reason = f"{type(cause).__name__}: {cause}".splitlines()[0]
        raise VZeroError(
            f"lmms-eval's own task for {suite.name} failed ({reason}); nothing of it is scored, its log is {log}."
        ) from error


def _write_tasks(plan: Plan, tables: Sequence[Table], work: Path) -> list[Task]:
    if plan.profile == "stock":
        return [tasks.write_stock(table, work) for table in tables]
    asked = [tasks.write_boxed(table, "greedy", plan.greedy, plan.prompt_format, work) for table in tables]
    if plan.sampled is not None:
        asked += [
            tasks.write_boxed(table, "sampled", plan.sampled, plan.prompt_format, work) for table in tables
        ]
    return asked


def _cross_check(out: Path, suite: Suite, asked: Sequence[Task], record: dict[str, Any]) -> None:
    """lmms-eval's means of what our hooks said, against ours from the stored responses.

    Raises:
        VZeroError: they differ.
    """
    for task in asked:
        for metric, ours in results.means(out, suite, task.table.part.config, task.purpose).items():
            theirs = record["results"][task.name].get(f"{metric},{FILTERS[task.purpose]}")
            if ours is not None and (theirs is None or not abs(theirs - ours) <= runner.TOLERANCE):
                raise VZeroError(
                    f"On {task.name}, lmms-eval reports {theirs} for {metric} and the stored responses give {ours}; the evaluation is not "
                    "to be trusted."
                )


def identity_of(engine: EngineConfig) -> dict[str, Any]:
    """What of an engine may determine its answers: which one it is; not how much it decodes together, nor
    where or how patiently."""
    return {"name": engine.name}


def processor_limits(checkpoint: Path) -> Any:
    """The pixel limits of the checkpoint's own image processor, as its file states them; None where none is
    stated."""
    for name in ("processor_config.json", "preprocessor_config.json"):
        try:
            stored = artefacts.read_json(checkpoint / name)
        except (OSError, ValueError):
            continue
        stored = stored.get("image_processor", stored)
        return (
            stored.get("size")
            or {key: stored[key] for key in ("min_pixels", "max_pixels") if key in stored}
            or None
        )
    return None


def _plain(model: str) -> str:
    """A model's name without the place it lies in."""
    return Path(model).expanduser().resolve().name if Path(model).expanduser().is_dir() else model
