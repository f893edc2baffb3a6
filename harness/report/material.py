"""What a report shows beside the results: learning curves, cost, provenance, and examples to look at. Read
from the sealed stages, nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.report.examples import ChangedAnswer, changed_answers
from harness.report.pictures import Picture
from harness.report.questions import WrittenQuestion, written_questions
from harness.runs.sealed import Row, Run, SealedStage
from harness.tables.charts import Point
from harness.tables.words import counted

PHASES = ("rollout", "votes", "logprobs", "update")
Curves = Mapping[str, Mapping[str, Mapping[int, Sequence[Point]]]]  # role -> metric -> iteration -> points


@dataclass(frozen=True)
class StageCost:
    """What a stage took: seconds in all and by phase, and the tokens it drew."""

    name: str
    seconds: float | None
    phases: Mapping[str, float]
    tokens: int | None


@dataclass(frozen=True)
class Material:
    """Everything but the results. `software`: a sentence per state of the software; more than one is worth
    knowing. `manifests`: the digest of each finished stage. `questions`: those of the
    `written` ones about the chosen pictures, whose thumbnails are in `pictures`."""

    curves: Curves
    cost: tuple[StageCost, ...]
    software: tuple[str, ...]
    manifests: Mapping[str, str]
    questions: tuple[WrittenQuestion, ...]
    written: int
    pictures: Mapping[str, Picture]
    changed: tuple[ChangedAnswer, ...]


def collect(run: Run) -> Material:
    """Gather the material of `run`'s finished stages."""
    questions, written, pictures = written_questions(run)
    return Material(
        curves={role: _curves(run, role) for role in ("questioner", "solver")},
        cost=tuple(map(_cost, run.stages.values())),
        software=_software(run),
        manifests={name: one.digest for name, one in run.stages.items()},
        questions=questions,
        written=written,
        pictures=pictures,
        changed=changed_answers(run),
    )


def _curves(run: Run, role: str) -> dict[str, dict[int, list[Point]]]:
    found: dict[str, dict[int, list[Point]]] = {}
    for one in run.of_kind(f"train-{role}"):
        for name, points in points_of(one.rows("metrics.jsonl")).items():
            found.setdefault(name, {})[one.stage.iteration] = points
    return found


def points_of(rows: Sequence[Row]) -> dict[str, list[Point]]:
    """(step, value) of each number in the rows of a metrics.jsonl."""
    found: dict[str, list[Point]] = {}
    for row in rows:
        for name, value in row.items():
            if isinstance(value, int | float):
                found.setdefault(name, []).append((float(row["step"]), float(value)))
    return found


def _cost(stage: SealedStage) -> StageCost:
    facts, rows = stage.manifest["facts"], stage.rows("timings.jsonl")
    timed = {name: [row[name] for row in rows if isinstance(row.get(name), int | float)] for name in PHASES}
    drawn = (value for row in rows for name, value in row.items() if name.endswith("tokens"))
    tokens = facts.get("tokens") or sum(value for value in drawn if isinstance(value, int)) or None
    phases = {name: sum(values) for name, values in timed.items() if values}
    return StageCost(stage.stage.name, facts.get("seconds"), phases, tokens)


def _software(run: Run) -> tuple[str, ...]:
    """The states of the software that made the stages, and how many each of them made."""
    found = Counter(_state(one.manifest.get("provenance", {})) for one in run.stages.values())
    return tuple(f"{counted(count, 'stage')} by {said}" for said, count in found.items())


def _state(provenance: Mapping[str, Any]) -> str:
    git = provenance.get("git")
    commit = "code without git"
    if git:
        commit = f"commit {git['commit'][:12]}{' with uncommitted changes' if git['dirty'] else ''}"
    packages = (f", {name} {version}" for name, version in provenance.get("packages", {}).items() if version)
    python, system, machine = (provenance.get(name, "unknown") for name in ("python", "system", "machine"))
    return f"{commit}; Python {python}, {system} {machine}{''.join(packages)}"
