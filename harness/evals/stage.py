"""The evaluate and probe stages: `python -m harness.evals.stage RUN STAGE`.

A checkpoint answers every item of the preset's suites, once greedily and n times by sampling. lmms-eval runs
the tasks; the answers are stored whole, so that every number can be computed again without the model. A probe
is the same with the base's answers prefill as the trained Solver began its own (see prefills.py).

Writes samples.jsonl (one row an item), lmms_eval.json (lmms-eval's own numbers) and sampling.json (every
parameter sent).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from harness.evals import pocket_suites, pocket_tasks, runner, shuffled
from harness.evals.prefill import PrefilledAnswers, prefills
from vzero.config import EvaluationConfig, Preset
from vzero.errors import InputError, VZeroError
from vzero.rollout.protocol import Engine
from vzero.runtime import artefacts
from vzero.runtime.progress import Progress
from vzero.runtime.stage import Facts, StageContext, main

ROW = ("suite", "item_id", "family", "image_sha256", "prompt_sha256", "gold", *pocket_tasks.PURPOSES)


@dataclass
class _Tally:
    """Counts answers as chunks finish, and tells the progress log."""

    progress: Progress
    total: int
    answers: int = 0  # of all chunks, kept ones included, as are `tokens`
    tokens: int = 0
    kept: int = 0  # answers drawn by an attempt that was killed
    drawn_tokens: int = 0  # tokens of the other answers
    seconds: float = 0.0

    def __call__(self, answers: int, tokens: int, seconds: float) -> None:
        self.answers += answers
        self.tokens += tokens
        rate = {}
        if seconds > 0:
            self.seconds += seconds
            self.drawn_tokens += tokens
            rate = {"tokens_per_second": tokens / seconds}
        else:
            self.kept += answers
        self.progress.update(self.answers, self.total, "answers", rate)

    def facts(self) -> Facts:
        """Counts of the whole evaluation, and the speed of what this process drew itself."""
        rate = round(self.drawn_tokens / self.seconds, 1) if self.seconds else None
        return {
            "answers": self.answers,
            "kept_answers": self.kept,
            "tokens": self.tokens,
            "generate_seconds": round(self.seconds, 3),
            "tokens_per_second": rate,
        }


def run(context: StageContext, loaders: Mapping[str, pocket_suites.Loader] = pocket_suites.SUITES) -> Facts:
    """Evaluate ``context.inputs["model"]``; the facts are counts, and seconds by phase.

    Raises:
        InputError: an unknown suite, a faulty item, or sampling settings that contradict their purpose.
        RolloutError: a request could not be answered; nothing is scored then.
        VZeroError: an item without all its answers, or numbers on which lmms-eval and the stored answers
            disagree.
    """
    preset, clock = context.preset, [time.monotonic()]
    config = preset.evaluation
    _check(config)
    if loaders is pocket_suites.SUITES and any(name not in loaders for name in config.suites):
        from harness.evals import benchmarks

        return benchmarks.run(context)
    items = {
        suite: pocket_suites.load(suite, config.split, config.items_per_family, loaders)
        for suite in config.suites
    }
    if config.images == "shuffled":
        items = {suite: shuffled.deal(its_items, suite) for suite, its_items in items.items()}
    count = sum(map(len, items.values()))
    tally = _Tally(context.progress, count * (config.greedy.n + config.sampled.n))
    context.progress.update(0, tally.total, "answers")
    runner.prepare(context.work)
    names = _write_tasks(context, items)
    clock.append(time.monotonic())
    model = _model(context, tally)
    clock.append(time.monotonic())
    results = runner.simple_evaluate(model, names, context.work / "tasks", context.work / "lmms_eval.log")
    clock.append(time.monotonic())
    rows, reported = _rows(items, model.records), runner.report(results)
    runner.cross_check(reported, rows)
    artefacts.write_jsonl(context.folder / "samples.jsonl", rows)
    artefacts.write_json(context.folder / "lmms_eval.json", reported)
    artefacts.write_json(context.folder / "sampling.json", _sampling(preset, model.sent, model.ignored))
    seconds = [round(later - earlier, 3) for earlier, later in pairwise(clock)]
    return {
        "items": count,
        **tally.facts(),
        **dict(zip(("prepare_seconds", "load_seconds", "evaluate_seconds"), seconds, strict=True)),
    }


def _check(config: EvaluationConfig) -> None:
    if config.greedy.n != 1 or config.greedy.temperature != 0:
        raise InputError(
            "evaluation.greedy must have n = 1 and temperature = 0; other settings belong to evaluation.sampled."
        )
    if config.sampled.temperature == 0:
        raise InputError(
            "evaluation.sampled needs a temperature above 0: at 0 all its answers are the greedy one."
        )
    if len(set(config.suites)) != len(config.suites) or not config.suites:
        raise InputError("evaluation.suites must name at least one suite and none twice.")


def _write_tasks(context: StageContext, items: Mapping[str, Sequence[pocket_suites.Item]]) -> list[str]:
    config, prompt_format, names = context.preset.evaluation, context.preset.prompt_format, []
    for suite, its_items in items.items():
        dataset = context.work / "datasets" / suite
        pocket_tasks.write_dataset(its_items, dataset)
        for purpose in pocket_tasks.PURPOSES:
            names.append(
                pocket_tasks.write_task(
                    suite, purpose, getattr(config, purpose), prompt_format, dataset, context.work / "tasks"
                )
            )
    return names


def _model(context: StageContext, tally: _Tally) -> Any:
    from harness.evals.answers import Answerer
    from harness.evals.pocket_adapter import EngineModel
    from vzero.rollout.engines import open_engine

    preset, checkpoint = context.preset, context.inputs["model"]
    engine: Engine = open_engine(preset.engine, checkpoint)
    identity = {
        "checkpoint": artefacts.digest(artefacts.folder_hashes(checkpoint)),
        "engine": preset.engine.content(),
    }
    if "prefills" in context.inputs:
        rows, words = (
            artefacts.read_jsonl(context.inputs["prefills"] / "samples.jsonl"),
            preset.evaluation.prefill_words,
        )
        engine = PrefilledAnswers(engine, prefills(rows, words, preset.seed, preset.prompt_format))
        identity["prefills"] = artefacts.digest(sorted(engine.prefills.items()))
    return EngineModel(
        Answerer(engine, context.work / "answers", identity, preset.engine.batch_sequences, tally),
        preset.seed,
    )


def _rows(
    items: Mapping[str, Sequence[pocket_suites.Item]], records: Mapping[tuple[str, str], dict[str, Any]]
) -> list[dict[str, Any]]:
    """One complete row an item, in the order of the suites."""
    rows = []
    for suite, its_items in items.items():
        for item in its_items:
            row = records.get((suite, item.item_id), {})
            missing = [purpose for purpose in pocket_tasks.PURPOSES if purpose not in row]
            if missing:
                raise VZeroError(
                    f"lmms-eval never asked for the {' and '.join(missing)} answer to {item.item_id} of {suite}; the suite is "
                    "incomplete and not scored."
                )
            rows.append({key: row[key] for key in ROW})
    return rows


def _sampling(preset: Preset, sent: Mapping[str, Any], ignored: Mapping[str, Any]) -> dict[str, Any]:
    """What was sent, checked against what the preset asks for."""
    for purpose in pocket_tasks.PURPOSES:
        if sent[purpose] != getattr(preset.evaluation, purpose):
            raise VZeroError(
                f"The {purpose} answers were drawn with {sent[purpose]}, the preset asks for something else."
            )
    return {
        "sent": {purpose: sent[purpose].model_dump() for purpose in pocket_tasks.PURPOSES},
        "not_sent": {purpose: ignored[purpose] for purpose in pocket_tasks.PURPOSES},
        "seeds": {
            "seed": preset.seed,
            "rule": 'derive(seed, "evaluate", suite, item_id, purpose): the same for every checkpoint',
        },
        "engine": preset.engine.content(),
        "prompt_format": preset.prompt_format,
        "scored_by": "vzero.prompts.parse_answer on the full text; nothing else strips or extracts",
    }


if __name__ == "__main__":
    sys.exit(main({"evaluate": run, "probe": run}, sys.argv[1:]))
