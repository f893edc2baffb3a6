"""What the files of a sealed stage must hold, whoever wrote them: seals find damage, and a stranger seals
what they like. Further columns and facts may hold anything."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import Annotated, Any, Literal, NotRequired, TypeVar

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from vzero.errors import InputError, escaped

Value = TypeVar("Value")
Count = Annotated[int, Field(ge=0, le=1 << 48)]
MOST = 1e30  # no number of a run is larger
Number = Annotated[float, Field(ge=-MOST, le=MOST)]
Letter = Literal["A", "B", "C", "D"] | None
Votes = list[Letter]
_KIND = ConfigDict(strict=True, extra="allow")


def _moment(text: str) -> str:
    datetime.fromisoformat(text).timestamp()
    return text


class _Form(TypedDict):
    __pydantic_config__ = _KIND  # type: ignore[misc]


class _Picture(_Form):
    image_id: str
    path: str
    sha256: str
    width: Annotated[Count, Field(ge=1)]
    height: Annotated[Count, Field(ge=1)]
    seen: NotRequired[Annotated[list[Annotated[Count, Field(ge=1)]], Field(min_length=2, max_length=2)]]


class _Skipped(_Form):
    skipped: list[dict[str, str]]


class _Scene(_Form):
    image_id: str
    scene: list[list[str | int | None] | None]


class _Question(_Form):
    question_id: str
    image_id: str
    raw: str
    finish_reason: str | None
    tokens: Count
    valid: bool
    description: str | None
    text: str | None
    intuitive: Letter


class _Labelled(_Form):
    question_id: str
    image_id: str
    text: str
    intuitive: Letter
    votes: Votes
    answer: Letter
    kept: bool


class _Selected(_Labelled):
    confidence: Number | None


class _Label(_Labelled):
    confidence: Number


class _Vote(_Form):
    question_id: str
    index: Count
    text: str
    answer: Letter
    finish_reason: str | None
    tokens: Count


class _Check(_Form):
    question_id: str
    votes: Votes | None
    answer: Letter
    answerable: bool


class _Graded(_Form):
    image_id: str
    question: str


class _Completion(_Form):
    generation: Annotated[Count, Field(ge=1)]
    prompt: str
    index: Count
    tokens: Count
    finish_reason: str | None
    text: str
    reward: Number
    advantage: Number


class _Asked(_Completion):
    votes: Votes | None
    intuitive: Letter


class _Answered(_Completion):
    label: Letter


class _Answer(_Form):
    text: str
    answer: str | None
    finish_reason: str | None
    tokens: Count
    verified: NotRequired[bool | None]
    official: NotRequired[bool | None]


class _Sample(_Form):
    suite: str
    item_id: str
    family: str
    image_sha256: str
    gold: str
    group: NotRequired[dict[str, str | int | float | None]]
    together: NotRequired[dict[str, str]]
    greedy: _Answer
    sampled: list[_Answer]


class _Metric(_Form):
    step: Count
    generation: Annotated[Count, Field(ge=1)]
    loss: Number


class _Timing(_Form):
    generation: Count
    rollout_tokens: Count
    vote_tokens: Count


class _Event(_Form):
    time: Annotated[str, AfterValidator(_moment)]
    event: str
    stage: NotRequired[str]
    command: NotRequired[str]
    seconds: NotRequired[Number]
    reason: NotRequired[str]


def _of_stage(row: dict[str, Any]) -> dict[str, Any]:
    if row["event"].startswith("stage-") and "stage" not in row:
        raise ValueError("of no stage")
    return row


def _numbers(row: dict[str, Any]) -> dict[str, Any]:
    if odd := [name for name, value in row.items() if not (value is None or isinstance(value, int | float))]:
        raise ValueError(f"{odd[0]} is no number")
    return _finite(row)


def _finite(row: dict[str, Any]) -> dict[str, Any]:
    for name, value in row.items():
        if isinstance(value, int | float) and not -MOST <= value <= MOST:
            raise ValueError(f"{name} is no finite number")
    return row


def _asked(row: dict[str, Any]) -> dict[str, Any]:
    if row["valid"] and None in (row["text"], row["description"]):
        raise ValueError("valid, without a text or description")
    return row


# By the file's name, after the kind of its stage where kinds differ.
_OF: Mapping[str, Any] = {
    "images.jsonl": _Picture,
    "skipped.json": _Skipped,
    "ground_truth.jsonl": _Scene,
    "questions.jsonl": Annotated[_Question, AfterValidator(_asked)],
    "labels.jsonl": _Selected,
    "label/labels.jsonl": _Label,
    "recycle/labels.jsonl": _Label,
    "votes.jsonl": _Vote,
    "checks.jsonl": _Check,
    "graded.jsonl": _Graded,
    "train-questioner/rollouts.jsonl": _Asked,
    "train-solver/rollouts.jsonl": _Answered,
    "samples.jsonl": _Sample,
    "metrics.jsonl": Annotated[_Metric, AfterValidator(_numbers)],
    "timings.jsonl": Annotated[_Timing, AfterValidator(_numbers)],
    "ledger.jsonl": Annotated[_Event, AfterValidator(_of_stage)],
}


class _Git(_Form):
    commit: str
    dirty: bool


class _Provenance(_Form, total=False):
    python: str
    system: str
    machine: str
    packages: dict[str, str | None]
    git: _Git | None


class _Facts(_Form, total=False):
    seconds: Number
    note: str
    images: Count
    skipped: Count
    written: Count
    questions: Count
    valid: Count
    kept: Count
    checked: Count
    answerable: Count
    imitated: Count
    prompts_used: Count
    generations: Count
    steps: Count
    answers: Count
    tokens: Count
    too_long: Count


class _Manifest(_Form):
    spec: dict[str, Any]
    spec_digest: str
    files: dict[str, str]
    facts: Annotated[_Facts, AfterValidator(_finite)]
    provenance: NotRequired[_Provenance]


class Known(dict[Any, Value]):
    """What some files of a run say by name; that others name nothing else is seen where it is looked up."""

    def __missing__(self, name: object) -> Value:
        raise InputError(
            f"The files of this run do not fit together: one speaks of {escaped(repr(name))}, which is in no"
            " other. Somebody changed them; do not use it, or run it anew."
        )


def require_rows(rows: list[dict[str, Any]], kind: str, name: str) -> None:
    """Hold the rows of a file `name` that a stage of this kind made against their form, where it is known.

    Raises:
        ValueError: one is not of it; the message says which.
    """
    if (schema := _of_file(kind, name)) is None:
        return
    try:
        schema.validate_python(rows)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        number, *names = first["loc"]
        where = ".".join(map(str, names)) or "as a whole"
        raise ValueError(f"row {int(number) + 1}, {where}: {first['msg']}") from None


def is_manifest(value: object) -> bool:
    """Whether this is the manifest of a stage."""
    try:
        _manifest().validate_python(value)
    except ValidationError:
        return False
    return True


@cache
def _of_file(kind: str, name: str) -> TypeAdapter[list[Any]] | None:
    found = _OF.get(f"{kind}/{name}", _OF.get(name))
    return None if found is None else TypeAdapter(list[found])  # type: ignore[valid-type]


@cache
def _manifest() -> TypeAdapter[Any]:
    return TypeAdapter(_Manifest)
