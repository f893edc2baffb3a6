"""An evaluation or a run as it lies in a folder, reduced to what determines its numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, JsonValue, ValidationError

from harness.evals import build, folder, protocol, results, scored
from harness.evals.results import AskedRows, EvaluationResults, Protocol, Settings
from harness.runs.folder import RECORD
from vzero.errors import InputError
from vzero.runtime import artefacts, owned
from vzero.runtime.stage import MODEL_ROLES, stage_folder
from vzero.selfplay import IMAGES

Model = TypeVar("Model", bound=BaseModel)
STAGE = "evaluation.json"  # of an evaluate stage
Made = Mapping[str, str]  # what made something: versions and the machine, by name


class _Git(BaseModel):
    commit: str
    dirty: bool


class _Provenance(BaseModel):
    """As `vzero.runtime.artefacts.provenance` records it."""

    python: str | None = None
    machine: str | None = None
    system: str | None = None
    device: str | None = None
    packages: dict[str, str | None] = {}
    git: _Git | None = None

    def made(self) -> Made:
        machine = " ".join(one for one in (self.system, self.machine) if one)
        git = self.git and f"{self.git.commit[:7]}{'+' if self.git.dirty else ''}"
        about = {"machine": machine, "Python": self.python, "this program": git}
        return {name: one for name, one in {**about, **self.packages}.items() if one}


class _Spec(BaseModel):
    inputs: dict[str, str] = {}


class _Manifest(BaseModel):
    """What is read of a sealed stage."""

    spec: _Spec
    provenance: _Provenance = _Provenance()


class _Record(BaseModel):
    """What is read of run.json, of either kind."""

    evaluation: dict[str, JsonValue] | None = None
    preset: dict[str, JsonValue] | None = None
    prompts: dict[str, str] = {}
    provenance: _Provenance = _Provenance()


@dataclass(frozen=True)
class EvaluationSide:
    """An evaluation; `rows` are by suite."""

    settings: Settings
    protocol: Protocol | None
    rows: Mapping[str, AskedRows]
    made: Made


@dataclass(frozen=True)
class RunSide:
    """A run.

    Attributes:
        content: digests of what was put in: "base checkpoint", "images", and prompts by role.
        evaluated: finished evaluations by stage, in order.
    """

    path: Path
    preset: Mapping[str, JsonValue]
    content: Mapping[str, str]
    evaluated: Mapping[str, EvaluationSide]
    made: Made


Side = EvaluationSide | RunSide


def read(path: Path) -> Side:
    """What lies at `path`: the folder of an evaluation, a run directory, an evaluate stage of one, or the
    results.json of an evaluation.

    Raises:
        InputError: it is none of these, or damaged.
    """
    if path.is_file() and (path.parent / RECORD).is_file():
        path = path.parent
    if (path / RECORD).is_file():
        record = _parsed(_Record, path / RECORD)
        if record.evaluation is not None:
            return of_folder(path)
        if record.preset is not None:
            return _of_run(path, record)
    elif (path / STAGE).is_file():
        return _of_stage(path)
    elif path.is_file():
        try:
            return _of_results(results.read(path), {})
        except InputError:
            raise InputError(
                f"{path} is not the results of an evaluation; of a run give the folder, which says how it "
                "was run."
            ) from None
    raise InputError(
        f"{path} is neither an evaluation nor a run; give a folder that `vzero-harness evaluate` or "
        "`vzero-harness reproduce` wrote."
    )


def of_folder(path: Path) -> EvaluationSide:
    """The evaluation in a folder, finished or not.

    Raises:
        InputError: there is none, or it is damaged.
    """
    settings = folder.settings(path)
    found = {
        suite.name: scored.asked_rows(
            path, suite, scored.stored(path, suite), folder.lmms_eval(path, suite.name)
        )
        for suite in build.suites_of(settings)
    }
    rows = {suite: one for suite, one in found.items() if one is not None}
    made = _parsed(_Record, path / RECORD).provenance.made()
    return EvaluationSide(settings, protocol.read(path), rows, made)


def _of_results(found: EvaluationResults, made: Made) -> EvaluationSide:
    rows = {name: suite.asked for name, suite in found.suites.items() if suite.asked is not None}
    own = _Provenance.model_validate(found.provenance or {}).made()
    return EvaluationSide(found.evaluation, found.protocol, rows, own or made)


def _of_stage(path: Path) -> EvaluationSide:
    manifest = _parsed(_Manifest, path / artefacts.MANIFEST)
    return _of_results(results.read(path / STAGE), manifest.provenance.made())


def _of_run(path: Path, record: _Record) -> RunSide:
    stages = {
        one.parent.name: _parsed(_Manifest, one)
        for one in sorted(path.glob(f"stages/*/{artefacts.MANIFEST}"))
    }
    content = {f"prompts of the {role}": digest for role, digest in record.prompts.items()}
    makers = [one.provenance for one in stages.values()] or [record.provenance]
    return RunSide(
        path,
        record.preset or {},
        {**dict(_content(path, stages)), **content},
        {
            name: _of_stage(stage_folder(path, name))
            for name in stages
            if (stage_folder(path, name) / STAGE).is_file()
        },
        together([{**one.made(), **({"device": one.device} if one.device else {})} for one in makers]),
    )


def _content(path: Path, stages: Mapping[str, _Manifest]) -> Iterator[tuple[str, str]]:
    """The first stage that reads a checkpoint reads the base."""
    for manifest in stages.values():
        bases = [manifest.spec.inputs[role] for role in manifest.spec.inputs if role in MODEL_ROLES]
        if bases:
            yield "base checkpoint", bases[0]
            break
    listed = stage_folder(path, IMAGES) / "images.jsonl"
    if listed.is_file():
        yield "images", artefacts.digest([row["sha256"] for row in artefacts.read_rows(listed)])


def together(several: Sequence[Made]) -> Made:
    """Versions of several stages: one each where they agree, else all."""
    names = dict.fromkeys(name for one in several for name in one)
    return {name: ", ".join(sorted({one[name] for one in several if name in one})) for name in names}


def _parsed(kind: type[Model], path: Path) -> Model:
    try:
        return kind.model_validate_json(owned.read_bytes(path))
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from None
    except ValidationError:
        raise InputError(f"{path} is damaged or not of this program; give another folder.") from None
