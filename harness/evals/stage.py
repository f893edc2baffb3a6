"""The evaluate and probe stages: `python -m harness.evals.stage RUN STAGE`.

A checkpoint answers every item of the preset's suites, once greedily and n times by sampling; the same code
as `vzero-harness evaluate`, in the stage's own folder. A probe is the same with the base's answers prefilled
as the trained Solver's began (see `prefill`).

Writes samples.jsonl (a row per item with gold, every answer whole, so that every number can be computed again
without the model) and evaluation.json (what `evaluate` would have said, with every parameter sent).
"""

from __future__ import annotations

import sys
from pathlib import Path

from harness.evals import catalogue, folder, pictures, run
from harness.evals.answer_count import AnswerCount
from harness.evals.pictures import DEFAULT
from harness.evals.pinned import digest
from harness.evals.prefill import PrefilledAnswers, prefills
from harness.evals.results import Settings
from harness.evals.scored import sample_rows
from vzero.config import EngineConfig, Preset
from vzero.errors import InputError
from vzero.runtime import artefacts, owned
from vzero.runtime.checkpoints import plain_name
from vzero.runtime.stage import Facts, StageContext, main

BASE = "base"


def evaluate(context: StageContext) -> Facts:
    """Evaluate ``context.inputs["model"]``.

    Raises:
        InputError: settings that contradict their purpose, or data that is not what the run began with.
        RolloutError: a request could not be answered; nothing is scored then.
        VZeroError: an item without all its answers, or numbers on which lmms-eval and the stored answers
            disagree.
    """
    config, out = context.preset.evaluation, context.work / "evaluation"
    tally = AnswerCount(lambda seen, rate: _tell(context, seen, rate))
    suites = catalogue.asked(config)
    with folder.new_folder(context.work, "suites") as scratch:
        now = digest(suites, Path(config.data), scratch)
    if config.data_sha256 != now:
        raise InputError(
            f"The benchmark data in {config.data} has changed since this run began; restore it, or start "
            "anew with --fresh."
        )
    for path in out.iterdir() if out.is_dir() else ():
        if path.name != "responses":  # which know when they are damaged; all else follows
            owned.remove(path)
    found = run.run(_evaluation(context), out, False, lambda text: None, tally)
    rows = [row for suite in suites for row in sample_rows(out, suite)]
    artefacts.write_jsonl(context.folder / "samples.jsonl", rows)
    artefacts.write_json(
        context.folder / "evaluation.json",
        found.model_dump(
            mode="json", exclude={"created", "provenance"}
        ),  # of the manifest, not of the content
    )
    answers = [one for row in rows for one in (row["greedy"], *row["sampled"])]
    return {
        "items": len(rows),
        "answers": tally.answers,
        "kept_answers": tally.kept,
        "tokens": sum(one["tokens"] for one in answers),
        "generate_seconds": round(tally.seconds, 3),
        "tokens_per_second": round(tally.tokens / tally.seconds, 1) if tally.seconds else None,
    }


def _tell(context: StageContext, tally: AnswerCount, rate: float | None) -> None:
    speed = {} if rate is None else {"tokens_per_second": rate}
    context.progress.update(tally.answers, max(1, tally.total), "answers", speed)


def _evaluation(context: StageContext) -> run.Evaluation:
    preset, config, checkpoint = context.preset, context.preset.evaluation, context.inputs["model"]
    words = _prefills(context)
    source, engine = context.stage.inputs["model"], evaluation_engine(preset)
    settings = Settings(
        # Published figures are the base's.
        model=plain_name(preset.model) if source == BASE else source,
        checkpoint_sha256=run.checkpoint_sha256(checkpoint),
        suites=config.suites,
        profile="boxed",
        prompt_format=preset.prompt_format,
        engine=engine.name,
        greedy=config.greedy,
        sampled=config.sampled,
        pixels=DEFAULT,
        limit=config.limit,
        seed=preset.seed,
        cap=True,
        split=config.split,
        items_per_family=config.items_per_family,
        images=config.images,
        prefills=artefacts.digest(sorted(words.items())) if words is not None else None,
        max_model_len=engine.max_model_len,
    )
    return run.Evaluation(
        settings,
        checkpoint,
        Path(config.data),
        engine,
        wrap=lambda engine: engine if words is None else PrefilledAnswers(engine, words),
    )


def evaluation_engine(preset: Preset) -> EngineConfig:
    """A preset's engine, here and with a context for the largest pictures of suites: those of training are
    smaller, and `engine.max_model_len` is for them."""
    wanted, own = preset.evaluation, preset.engine.max_model_len
    longest = max(wanted.greedy.max_new_tokens, wanted.sampled.max_new_tokens)
    larger = None if own is None else max(own, pictures.context(DEFAULT, longest))
    # Servers elsewhere serve the frozen Solver.
    return preset.engine.model_copy(update={"urls": (), "max_model_len": larger})


def _prefills(context: StageContext) -> dict[int, tuple[str, ...]] | None:
    if "prefills" not in context.inputs:
        return None
    preset = context.preset
    rows = artefacts.read_rows(context.inputs["prefills"] / "samples.jsonl")
    return prefills(rows, preset.evaluation.prefill_words, preset.seed, preset.prompt_format)


if __name__ == "__main__":
    sys.exit(main({"evaluate": evaluate, "probe": evaluate}, sys.argv[1:]))
