"""What a report shows beside the results: curves, cost, provenance, and questions to look at. Read from the
sealed stages, nothing else."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.analysis.ground_truth import TruthLike, pocket_truths
from harness.report import flips
from harness.report.pictures import data_uri
from harness.runs.sealed import Run, SealedStage
from vzero.errors import InputError
from vzero.images.records import ImageRecord, load_records, open_image

SAMPLES = 20
PHASES = ("rollout", "votes", "logprobs", "update")
_SHARES = {"kept": 9, "dropped": 9, "invalid": 2}  # of twenty


@dataclass(frozen=True)
class Sample:
    """One written question, as it went through the loop. `state` is "kept", "dropped", "invalid" or
    "unlabelled"."""

    question_id: str
    iteration: int
    state: str
    picture: str | None
    small: bool
    question: Mapping[str, Any]
    label: Mapping[str, Any] | None
    votes: tuple[Mapping[str, Any], ...]
    truth: TruthLike | None


@dataclass(frozen=True)
class Material:
    """Everything but the results. `curves` holds the metrics rows by (role, iteration); `cost` and `stages` a
    row for each stage."""

    curves: Mapping[tuple[str, int], Sequence[Mapping[str, Any]]]
    cost: tuple[Mapping[str, Any], ...]
    stages: tuple[Mapping[str, Any], ...]
    software: tuple[Mapping[str, Any], ...]
    samples: tuple[Sample, ...]
    flips: tuple[flips.Flip, ...] = ()


def collect(run: Run) -> Material:
    """Gather the material of `run`'s finished stages."""
    curves = {
        (role, one.stage.iteration): one.rows("metrics.jsonl")
        for role in ("questioner", "solver")
        for one in run.of_kind(f"train-{role}")
    }
    stages = tuple(
        {"name": name, "manifest": one.digest, "spec": one.manifest["spec_digest"]}
        for name, one in run.stages.items()
    )
    cost = tuple(_cost(one) for one in run.stages.values())
    return Material(curves, cost, stages, _software(run), tuple(choose_samples(run)), flips.choose(run))


def _cost(stage: SealedStage) -> dict[str, Any]:
    facts, rows = stage.manifest["facts"], stage.rows("timings.jsonl")
    phases = {
        name: sum(row[name] for row in rows if isinstance(row.get(name), int | float))
        for name in PHASES
        if any(isinstance(row.get(name), int | float) for row in rows)
    }
    drawn = sum(
        value
        for row in rows
        for name, value in row.items()
        if name.endswith("tokens") and isinstance(value, int)
    )
    tokens = facts.get("tokens") or drawn or None
    return {"name": stage.stage.name, "seconds": facts.get("seconds"), "phases": phases, "tokens": tokens}


def _software(run: Run) -> tuple[dict[str, Any], ...]:
    """The distinct software states the stages were made by, with the names of those stages: more than one is
    worth knowing."""
    found: dict[str, dict[str, Any]] = {}
    for name, one in run.stages.items():
        state = one.manifest["provenance"]
        found.setdefault(repr(sorted(state.items(), key=lambda pair: pair[0])), {**state, "stages": []})[
            "stages"
        ].append(name)
    return tuple(found.values())


def choose_samples(run: Run, count: int = SAMPLES) -> list[Sample]:
    """Up to `count` questions, spread over iterations and over kept, dropped and invalid ones, chosen by a
    hash of their ids: the same each time, and not by how they look."""
    images = run.stages.get("00-images")
    written = run.of_kind("write-questions")
    if images is None or not written:
        return []
    records = {record.image_id: record for record in load_records(images.folder)}
    found = []
    for index, stage in enumerate(written):
        quota = count // len(written) + (index < count % len(written))
        found += _of_iteration(run, stage, images, records, quota)
    return found


def _of_iteration(
    run: Run, stage: SealedStage, images: SealedStage, records: Mapping[str, ImageRecord], quota: int
) -> list[Sample]:
    questions = stage.rows("questions.jsonl")
    labelled = run.of_iteration("label", stage.stage.iteration)
    labels = {row["question_id"]: row for row in labelled.rows("labels.jsonl")} if labelled else {}
    states = {row["question_id"]: _state(row, labels.get(row["question_id"])) for row in questions}
    chosen = spread(states, quota)
    rows = [row for row in questions if row["question_id"] in chosen]
    truths = pocket_truths(run, [row for row in rows if row["valid"]]) or {}
    votes: dict[str, list[Mapping[str, Any]]] = {}
    for vote in labelled.rows("votes.jsonl") if labelled else []:
        if vote["question_id"] in chosen:
            votes.setdefault(vote["question_id"], []).append(vote)
    return [
        Sample(
            name,
            stage.stage.iteration,
            states[name],
            *picture(records.get(row["image_id"])),
            row,
            labels.get(name),
            tuple(sorted(votes.get(name, []), key=lambda vote: vote["index"])),
            truths.get(name),
        )
        for row in rows
        for name in (row["question_id"],)
    ]


def _state(question: Mapping[str, Any], label: Mapping[str, Any] | None) -> str:
    if not question["valid"]:
        return "invalid"
    return "unlabelled" if label is None else "kept" if label["kept"] else "dropped"


def spread(states: Mapping[str, str], quota: int) -> frozenset[str]:
    """`quota` ids (or all there are): shares for kept, dropped and invalid where they exist, the rest from
    what is left."""
    order = sorted(states, key=lambda name: hashlib.sha256(name.encode("utf-8", "backslashreplace")).digest())
    chosen: list[str] = []
    for state, part in _SHARES.items():
        chosen += [name for name in order if states[name] == state][: round(quota * part / SAMPLES)]
    rest = [name for name in order if name not in chosen and states[name] != "invalid"]
    rest += [name for name in order if name not in chosen and states[name] == "invalid"]
    return frozenset((chosen + rest)[:quota])


def picture(record: ImageRecord | None) -> tuple[str | None, bool]:
    """(data URI, small enough to scale by pixels) of a freshly encoded copy without metadata; (None, False)
    where it cannot be opened."""
    if record is None:
        return None, False
    try:
        image = open_image(record)
    except InputError:
        return None, False
    return data_uri(image)
