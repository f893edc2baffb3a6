"""The evaluate stage over benchmark suites: the same code as `vzero-harness evaluate`, resumable at the item.

What the stored answers say becomes rows of samples.jsonl as the pocket suites have them, with the verdicts
beside each answer: `right` by the suite's official scoring, `strict` by the strict lens. Rows without gold
are in evaluation.json alone.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.evals import catalogue, pictures, results, rows
from harness.evals.catalogue import Suite
from harness.evals.pocket_suites import SUITES as POCKET
from harness.evals.run import Plan
from harness.evals.run import run as ask
from harness.evals.store import read_rows
from harness.scoring import Verdict
from vzero.config import EvaluationConfig, Preset
from vzero.errors import InputError
from vzero.presets import changed
from vzero.runtime import artefacts
from vzero.runtime.stage import Facts, StageContext

BASE = "base"
_NOT_KEPT = ("created", "provenance")  # of the stage's manifest, and no part of its content


def named(config: EvaluationConfig) -> tuple[Suite, ...]:
    """The benchmark suites that a preset asks for; none where it asks for the pocket world's.

    Raises:
        InputError: both kinds, an unknown suite, or settings that have no meaning for benchmarks.
    """
    pocket = [name for name in config.suites if name in POCKET]
    known = catalogue.suites()
    unknown = [name for name in config.suites if name not in POCKET and name not in known]
    if unknown:
        raise InputError(
            f"There is no suite {unknown[0]!r}; choose among {', '.join((*sorted(POCKET), *known))} in evaluation.suites."
        )
    if pocket and len(pocket) < len(config.suites):
        raise InputError(
            f"evaluation.suites mixes suites of the pocket world ({', '.join(pocket)}) with benchmarks; run them apart, or measure the "
            "trained checkpoint on the others with `vzero-harness evaluate`."
        )
    if pocket:
        return ()
    if config.images != "own":
        raise InputError(
            "evaluation.images = 'shuffled' is for the suites of the pocket world; benchmarks keep their own pictures."
        )
    if config.prefill_words:
        raise InputError(
            "evaluation.prefill_words is for the suites of the pocket world; set it to 0 to measure benchmarks."
        )
    return tuple(known[name] for name in config.suites)


def pinned(preset: Preset, scratch: Path) -> Preset:
    """`preset` with the place of its benchmark data made absolute, and the digest of its rows and pictures
    written down.

    Args:
        scratch: for a local copy in its authors' layout, which is converted to be read.

    Raises:
        InputError: the data is not there, faulty, or not what the preset states.
    """
    chosen = named(preset.evaluation)
    if not chosen:
        return preset
    place, stated = Path(preset.evaluation.data).expanduser().absolute(), preset.evaluation.data_sha256
    found = digest(chosen, place, scratch)
    if stated not in (None, found):
        raise InputError(
            f"The rows in {place} are not those of evaluation.data_sha256; restore the data, or leave that setting out."
        )
    return changed(preset, {"evaluation.data": str(place), "evaluation.data_sha256": found})


def digest(suites: Sequence[Suite], place: Path, scratch: Path) -> str:
    """Hex SHA-256 over every row of `suites`, pictures included, by suite and id."""
    return artefacts.digest(
        {suite.name: rows.digests(rows.open_tables(suite, place, scratch)) for suite in suites}
    )


def run(context: StageContext) -> Facts:
    """Evaluate ``context.inputs["model"]`` on the benchmarks; writes samples.jsonl, evaluation.json,
    lmms_eval.json and sampling.json.

    Raises:
        InputError: the data is not what the run began with.
        RolloutError: a request could not be answered.
    """
    config, begin = context.preset.evaluation, time.monotonic()
    suites, out = named(config), context.work / "evaluation"
    context.progress.update(0, 1, "items")
    if config.data_sha256 != digest(suites, Path(config.data), context.work / "rows"):
        raise InputError(
            f"The benchmark data in {config.data} has changed since this run began; restore it, or start anew with --fresh."
        )
    ready = time.monotonic()
    found = ask(
        _plan(context, suites),
        out,
        False,
        lambda text: None,
        lambda name, done, total: context.progress.update(done, total, name),
    )
    rows = [row for suite in suites for row in _rows(out, suite)]
    records = {suite.name: found["suites"][suite.name].pop("lmms_eval") for suite in suites}
    artefacts.write_jsonl(context.folder / "samples.jsonl", rows)
    artefacts.write_json(
        context.folder / "evaluation.json",
        {key: value for key, value in found.items() if key not in _NOT_KEPT},
    )
    artefacts.write_json(context.folder / "lmms_eval.json", records)
    artefacts.write_json(context.folder / "sampling.json", _sampling(context.preset, records))
    shutil.copytree(out / "pins", context.folder / "pins", dirs_exist_ok=True)
    answers = [one for row in rows for one in (row["greedy"], *row["sampled"])]
    return {
        "items": len(rows),
        "answers": len(answers),
        "tokens": sum(one["tokens"] for one in answers),
        "prepare_seconds": round(ready - begin, 3),
        "evaluate_seconds": round(time.monotonic() - ready, 3),
    }


def _plan(context: StageContext, suites: tuple[Suite, ...]) -> Plan:
    preset, config = context.preset, context.preset.evaluation
    return Plan(
        model=preset.model
        if context.stage.inputs["model"] == BASE
        else context.stage.inputs["model"],  # published figures are the base's
        checkpoint=context.inputs["model"],
        suites=suites,
        data=Path(config.data),
        profile="boxed",
        prompt_format=preset.prompt_format,
        engine=preset.engine.model_copy(update={"urls": ()}),  # those serve the frozen Solver
        greedy=config.greedy,
        sampled=config.sampled,
        limits=pictures.DEFAULT,
        limit=config.limit,
        seed=preset.seed,
        cap=True,
    )


def _rows(out: Path, suite: Suite) -> Iterator[dict[str, Any]]:
    """One row an item with gold, in the order asked."""
    stored = {
        (row["id"], row["purpose"]): row for row in read_rows(out / "responses" / f"{suite.name}.jsonl")
    }
    for one in results.scored(out, suite):
        if not one.item.gold or one.greedy is None:
            continue
        greedy, sampled = stored[one.item.id, "greedy"], stored[one.item.id, "sampled"]
        families = [value for name, value in one.item.group if name == suite.table]
        yield {
            "suite": suite.name,
            "item_id": one.item.id,
            "family": families[0] if families else "all",
            "image_sha256": greedy["image_sha256"],
            "prompt_sha256": greedy["prompt_sha256"],
            "gold": ", ".join(one.item.gold),
            "greedy": _answer(greedy["answers"][0], one.greedy),
            "sampled": [
                _answer(answer, verdict)
                for answer, verdict in zip(sampled["answers"], one.sampled, strict=True)
            ],
        }


def _answer(stored: Mapping[str, Any], verdict: Verdict) -> dict[str, Any]:
    found = verdict.reading.found
    return {
        "text": stored["text"],
        "answer": ", ".join(found) if found else None,
        "right": verdict.right,
        "strict": verdict.verified,
        "finish_reason": stored["finish_reason"],
        "tokens": stored["tokens"],
    }


def _sampling(preset: Preset, records: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What was sent, as lmms-eval's requests carried it."""
    return {
        "sent": {name: record["sent"] for name, record in records.items()},
        "not_sent": {name: record["not_sent"] for name, record in records.items()},
        "pixels": {name: record["pixels"] for name, record in records.items()},
        "seeds": {
            "seed": preset.seed,
            "rule": 'derive(seed, "evaluate", suite, item_id, purpose): the same for every checkpoint',
        },
        "engine": preset.engine.content(),
        "prompt_format": preset.prompt_format,
        "scored_by": "harness.scoring: official (right) and strict, on the full text",
    }
