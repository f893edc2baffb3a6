"""results.json: everything a run measured, as one typed object. `harness.analysis.build` makes it; tables,
reports, checks, claims and comparisons read it. Its JSON Schema lies beside, in results.schema.json.

Units: shares, accuracies and gains are fractions of 1 (0.02 is two points), rounded to nine decimals. Models
are named "base", "S1", "S2", ...; metrics "greedy", "sampled" (mean accuracy of the samples, T = 1), "maj@n"
and "pass@n". "average" is the unweighted mean over all suites.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError

from harness.analysis.measures import (
    Alarm,
    Compute,
    Elicitation,
    FamilyScore,
    Flips,
    GroundTruth,
    Images,
    Measured,
    SampleCurve,
    Scorings,
    SuiteGains,
    SuiteItems,
    TrainedOn,
    Training,
)
from harness.claims.departures import Departure
from harness.claims.verdict import ClaimVerdict
from harness.stats import Frozen, Interval
from vzero.errors import InputError
from vzero.runtime import artefacts

FORMAT = 2
FILE = "results.json"
AVERAGE, BASE = "average", "base"
CHECKPOINT = "checkpoint"  # the model of an evaluation alone
SCHEMA = Path(__file__).parent / "results.schema.json"


class Results(Frozen):
    """One run, or one evaluation of a checkpoint that was not trained here (preset "evaluation").

    Attributes:
        arm: which method trained it; "v-zero" is the method itself.
        split: of the held-out questions, "dev" or "test". samples: sampled answers per question.
        evidence: whether its preset is meant to say anything about the method; if not, nothing is judged.
        settings: digest of what determines it but the seed; None where that was not recorded.
        matched: what its Solver's questions were limited to have like v-zero's: "steps", "compute" (in all).
        missing: unfinished stages and why. expected: scored items that each whole suite has.
        gains, gains_over_previous: by model; over the base, and over the Solver before.
        headroom: by suite, what voting adds to the base's greedy accuracy: gains up to it need no learning.
        families, hard_families: of the pocket world. scorings: of benchmarks, by suite and model.
        departures: from the paper, the gravest first; None where that was not recorded.
        keep: the least and the largest confidence that the filter keeps.
        ground_truth, trained_on: by iteration. training: by stage.
    """

    format: Literal[2] = 2
    preset: str
    arm: str
    seed: int
    iterations: int = 0
    split: str
    model: str
    samples: int
    evidence: bool = True
    settings: str | None = None
    matched: Literal["steps", "compute"] | None = None
    complete: bool = True
    missing: dict[str, str] = Field(default_factory=dict)
    models: list[str]
    metrics: list[str]
    images: Images | None = None
    suites: dict[str, dict[str, Measured]]
    average: dict[str, dict[str, Interval]] = Field(default_factory=dict)
    gains: dict[str, SuiteGains] = Field(default_factory=dict)
    gains_over_previous: dict[str, SuiteGains] = Field(default_factory=dict)
    headroom: dict[str, float | None] = Field(default_factory=dict)
    items: dict[str, SuiteItems]
    expected: dict[str, int] = Field(default_factory=dict)
    elicitation: Elicitation | None = None
    scorings: dict[str, dict[str, Scorings]] = Field(default_factory=dict)
    k_curves: dict[str, SampleCurve | None] = Field(default_factory=dict)
    flips: dict[str, dict[str, Flips]] = Field(default_factory=dict)
    families: dict[str, dict[str, dict[str, FamilyScore]]] = Field(default_factory=dict)
    hard_families: list[str] = Field(default_factory=list)
    ground_truth: dict[int, GroundTruth] = Field(default_factory=dict)
    training: dict[str, Training] = Field(default_factory=dict)
    trained_on: dict[int, TrainedOn] = Field(default_factory=dict)
    compute: Compute | None = None
    keep: tuple[float, float] | None = None
    alarms: list[Alarm] = Field(default_factory=list)
    warnings: list[str] = Field(default_factory=list)
    claims: list[ClaimVerdict] = Field(default_factory=list)
    departures: list[Departure] | None = None


def write_results(path: Path, results: Results) -> None:
    """Write results.json, whole or not at all."""
    artefacts.write_json(path, results.model_dump(mode="json"))


def read_results(path: Path) -> Results:
    """A results.json.

    Raises:
        InputError: it cannot be read, or is not what this version writes.
    """
    return parse_results(read_json(path), str(path))


def read_json(path: Path) -> object:
    """What `path` holds.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return artefacts.read_json(path)
    except ValueError:
        raise InputError(f"{path} is not the results of a run: it holds no JSON.") from None
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from None


def parse_results(found: object, name: str) -> Results:
    """What results.json holds; `name` is for the sentence.

    Raises:
        InputError: it is of another format or shape.
    """
    stated = found.get("format") if isinstance(found, dict) else None
    if isinstance(stated, int) and stated != FORMAT:
        raise InputError(f"{name} is of format {stated}, this version reads {FORMAT}; make it again.")
    try:
        return Results.model_validate(found)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole file"
        raise InputError(
            f"{name} is not the results of a run ({where}: {first['msg']}); make it again."
        ) from None


def schema() -> dict[str, Any]:
    """JSON Schema of results.json, as committed in results.schema.json."""
    return Results.model_json_schema(mode="serialization")


def write_schema() -> None:
    """Write `SCHEMA` anew: python -c "from harness.analysis import results; results.write_schema()"."""
    SCHEMA.write_text(json.dumps(schema(), indent=1) + "\n", encoding="utf-8")
