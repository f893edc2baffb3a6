"""Ask a checkpoint the questions of suites through lmms-eval, answer by answer into the store, then score
what is stored. `vzero-harness evaluate` and the stages of a run do it alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.evals import (
    build,
    contamination,
    folder,
    pins,
    protocol,
    rows,
    runner,
    sample,
    stock,
    store,
    tasks,
)
from harness.evals.answer_count import AnswerCount
from harness.evals.asking import Asking
from harness.evals.catalogue import Suite
from harness.evals.folder import AskedItem
from harness.evals.results import EvaluationResults, Settings
from harness.evals.rows import OpenPart
from harness.evals.scored import stored
from harness.evals.set_aside import TooLong
from harness.evals.tasks import Task
from vzero.config import EngineConfig
from vzero.errors import InputError, VZeroError
from vzero.rollout.protocol import Engine
from vzero.runtime import artefacts

Say = Callable[[str], None]


@dataclass(frozen=True)
class Evaluation:
    """One evaluation.

    Attributes:
        checkpoint: folder of the model.
        data: where benchmarks lie.
        trained_on: pictures (a folder, or a run) to look for among those of the suites; None to look for
            none.
        cluster: of Ray, on which servers of the model are started (a preset's launch.cluster); None: here.
        wrap: made of the opened engine what is asked.
    """

    settings: Settings
    checkpoint: Path
    data: Path
    engine: EngineConfig
    trained_on: Path | None = None
    cluster: str | None = None
    wrap: Callable[[Engine], Engine] = lambda engine: engine

    @property
    def suites(self) -> tuple[Suite, ...]:
        return build.suites_of(self.settings)


def checkpoint_sha256(checkpoint: Path) -> str:
    """Digest of a checkpoint's content."""
    return artefacts.digest(artefacts.folder_hashes(checkpoint))


def run(evaluation: Evaluation, out: Path, fresh: bool, say: Say, tally: AnswerCount) -> EvaluationResults:
    """Ask and score. One call of lmms-eval per benchmark, so that one that fails leaves those before it
    whole; drawn suites are small and share one, whose batches they fill together.

    Raises:
        InputError: unusable data, or settings that contradict each other or those of the run in `out`.
        RolloutError: a request could not be answered; its suite is not scored.
        VZeroError: lmms-eval's numbers and ours differ.
    """
    settings, suites = evaluation.settings, evaluation.suites
    check(settings, suites)
    with (
        folder.opened(out, settings, fresh),
        folder.new_folder(out / "work", "suites") as scratch,
        ExitStack() as servers,
    ):
        runner.prepare()
        parts = {suite.name: _parts(evaluation, suite, out, scratch, say) for suite in suites}
        if evaluation.trained_on is not None:
            say("looking for training pictures among the suites' pictures")
            opened = [part for found in parts.values() for part in found]
            contamination.write(out, opened, evaluation.trained_on)
        k = 1 + (settings.sampled.n if settings.sampled else 0)
        tally.total = k * sum(len(folder.items(out, suite.name)) for suite in suites)
        engine = None
        for group in [
            [suite for suite in suites if suite.drawn],
            *([one] for one in suites if not one.drawn),
        ]:
            missing = [one for one in group if not _answered(out, one)]
            for suite in group:
                if suite not in missing:
                    tally.add(suite.name, k * len(folder.items(out, suite.name)))
            for suite in missing:
                folder.record(out, suite.name).unlink(missing_ok=True)
            if missing:
                if engine is None:
                    _serve(evaluation, out, servers, say)
                    say(f"opening the checkpoint with the {evaluation.engine.name} engine")
                    protocol.record(out, protocol.measured(evaluation.engine, evaluation.checkpoint))
                    engine = _engine(evaluation)
                asked = {one.name: parts[one.name] for one in missing}
                _ask_what_fits(evaluation, asked, engine, out, scratch, tally)
        return build.write(out)


def _answered(out: Path, suite: Suite) -> bool:
    """Whether a suite was asked to its end, and what was kept of it is as it was then."""
    try:
        return folder.lmms_eval(out, suite.name) is not None and bool(stored(out, suite))
    except VZeroError:
        return False


def check(settings: Settings, suites: Sequence[Suite]) -> None:
    """Refuse settings that would mean something else than they say.

    Raises:
        InputError: these do.
    """
    if settings.greedy.n != 1 or settings.greedy.temperature != 0:
        raise InputError("evaluation.greedy must have n = 1 and temperature 0: it is one answer per item.")
    if settings.sampled is not None and settings.sampled.temperature == 0:
        raise InputError(
            "evaluation.sampled (--temperature) must be above 0: at 0 all samples are the greedy answer."
        )
    if settings.profile == "stock":
        if settings.sampled is not None:
            raise InputError(
                "--profile stock runs lmms-eval's task as it is, one answer per item; leave out --samples."
            )
        for suite in suites:
            stock.check_stock(suite)


def _parts(evaluation: Evaluation, suite: Suite, out: Path, scratch: Path, say: Say) -> list[OpenPart]:
    """What will be asked of a suite, its rows held against what this run saw first.

    Args:
        scratch: a new folder of this process: a library reads what is written there.
    """
    say(f"{suite.name}: reading its rows")
    settings, path = evaluation.settings, folder.pins(out, suite.name)
    seen = pins.read(path)
    parts = rows.open_parts(suite, evaluation.data, scratch, seen)
    found = rows.pins_of(parts)
    pins.check(suite, found, seen)
    if seen is None:
        pins.write(path, suite, found, {"source": "as found"})
    if settings.limit is not None:
        parts = sample.limited(parts, settings.limit, scratch / "limited")
    parts = [replace(opened, dealt=settings.images == "shuffled") for opened in parts]
    asked = [AskedItem.of(one, opened.part.config) for opened in parts for one in opened.questions]
    folder.write_items(out, suite.name, asked)
    return parts


def _serve(evaluation: Evaluation, out: Path, servers: ExitStack, say: Say) -> None:
    if evaluation.cluster is not None:
        from harness.cluster.serving import serving

        say("starting servers of the model on the cluster")
        at = (evaluation.cluster, evaluation.checkpoint, evaluation.engine)
        servers.enter_context(serving(*at, out / "work", say))


def _engine(evaluation: Evaluation) -> Engine:
    from vzero.rollout.engines import open_solver

    return evaluation.wrap(open_solver(evaluation.engine, evaluation.checkpoint))


def _ask_what_fits(
    evaluation: Evaluation,
    parts: Mapping[str, Sequence[OpenPart]],
    engine: Engine,
    out: Path,
    scratch: Path,
    tally: AnswerCount,
) -> None:
    """As `_ask`; items that turn out too long are set aside, and the suite is asked without them: what was
    answered stays so."""
    while True:
        counted = tally.kept, tally.drawn
        try:
            with folder.new_folder(out / "work", "tasks") as work:
                return _ask(evaluation, parts, engine, out, work, tally)
        except TooLong as error:
            for name in {suite for suite, _, _ in error.items}:
                suite, path = parts[name][0].suite, folder.pins(out, name)
                reasons = {key: reason for of, key, reason in error.items if of == name}
                seen = pins.read(path)  # of the whole suite, whatever the limit
                assert seen is not None
                if evaluation.settings.images == "shuffled":  # the pictures are dealt anew to fewer questions
                    folder.responses(out, name).unlink(missing_ok=True)
                pins.write(path, suite, pins.without(seen, reasons), {"source": "as found"})
                parts = {**parts, name: _parts(evaluation, suite, out, scratch, lambda text: None)}
            tally.kept, tally.drawn = counted  # all of it is counted again


def _ask(
    evaluation: Evaluation,
    parts: Mapping[str, Sequence[OpenPart]],
    engine: Engine,
    out: Path,
    work: Path,
    tally: AnswerCount,
) -> None:
    """One call of lmms-eval for some suites; `work` is a new folder for its task files."""
    from harness.evals.model import StoredModel

    settings = evaluation.settings
    asked = [task for found in parts.values() for task in _write_tasks(settings, found, work)]
    # What an engine answers depends on which one it is; not on how much it decodes together, where, or how
    # patiently.
    identity = {"checkpoint": settings.checkpoint_sha256, "engine": settings.engine}
    if settings.prefills:
        identity["prefills"] = settings.prefills
    budget = settings.greedy.max_new_tokens
    model = StoredModel(
        engine,
        Asking(settings.pixels, settings.seed, budget, settings.cap, settings.thought_tokens),
        identity,
        asked,
        {suite: store.Store(folder.responses(out, suite)) for suite in parts},
        tally,
    )
    found = _evaluated(evaluation, model, asked, work, out / "work" / "lmms_eval.log")
    for suite in parts:
        own = [task for task in asked if task.opened.suite.name == suite]
        said = runner.record(found, own, model)
        if settings.profile == "boxed":
            runner.cross_check(out, own, said)
        of = {"responses_sha256": artefacts.sha256_file(folder.responses(out, suite))}
        artefacts.write_digested(folder.record(out, suite), {**said.model_dump(mode="json"), **of})


def _write_tasks(settings: Settings, parts: Sequence[OpenPart], work: Path) -> list[Task]:
    if settings.profile == "stock":
        return [tasks.write_stock(opened, work) for opened in parts]
    asked = [
        tasks.write_boxed(opened, "greedy", settings.greedy, settings.prompt_format, work) for opened in parts
    ]
    if settings.sampled is not None:
        asked += [
            tasks.write_boxed(opened, "sampled", settings.sampled, settings.prompt_format, work)
            for opened in parts
        ]
    return asked


def _evaluated(
    evaluation: Evaluation, model: Any, asked: Sequence[Task], work: Path, log: Path
) -> dict[str, Any]:
    """lmms-eval's results. Whatever breaks in a stock task is a failure of that suite, never a score."""
    is_stock, suite = evaluation.settings.profile == "stock", asked[0].opened.suite
    try:
        found = runner.simple_evaluate(model, asked, work, log)
        if is_stock and suite.judge:
            stock.check_judge(suite)  # one that died meanwhile was taken for wrong answers
        return found
    except (VZeroError, OSError):
        raise
    except Exception as error:
        # lmms-eval retries even an interruption.
        cause = error.last_attempt.exception() if hasattr(error, "last_attempt") else error
        if isinstance(cause, VZeroError):
            raise cause from None
        if not is_stock:
            raise
        reason = f"{type(cause).__name__}: {cause}".splitlines()[0]
        raise VZeroError(
            f"lmms-eval's own task for {suite.name} failed ({reason}); nothing of it is scored, its log is "
            f"{log}."
        ) from error
