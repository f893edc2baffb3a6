"""Rows of printed numbers for the model and suites of a comparison. They stand beside ours and are never
subtracted from them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Literal

from harness.claims import published
from harness.claims.published import Number
from harness.claims.schema import Certainty
from harness.stats import Frozen

SPLITS = {  # suites whose usual split the published numbers name
    "mathvista": "mathvista-testmini",
    "blink": "blink-val",
    "mmmu": "mmmu-val",
}


class PublishedNumber(Frozen):
    """A printed number in the units of ours (a share), with what is known about how it was measured."""

    value: float
    n: int | None
    metric: str
    certainty: Certainty
    protocol: dict[str, str]
    note: str | None


class PublishedRow(Frozen):
    """One method and source: "published" for a method's own claim, "third-party" for what somebody measured
    on the untrained model."""

    kind: Literal["published", "third-party"]
    name: str
    model: str
    source: str
    numbers: dict[str, list[PublishedNumber]]


def canonical(name: str) -> str:
    """ "Qwen/Qwen2.5-VL-7B-Instruct", "mathvista_testmini" and "mathvista" as the published numbers write
    them."""
    plain = PurePosixPath(name).name.casefold().replace("_", "-")
    return SPLITS.get(plain, plain)


def rows(models: Sequence[str], suites: Sequence[str]) -> list[PublishedRow]:
    """One row for each method and source with a score on one of `suites` and one of `models`; base figures of
    others come last."""
    wanted, known = {canonical(model) for model in models}, {canonical(suite): suite for suite in suites}
    titles = {source.id: source.title for source in published.load().sources}
    found: dict[tuple[str, str, str], PublishedRow] = {}
    for one in published.numbers():
        suite = known.get(canonical(one.suite))
        if one.kind != "score" or canonical(one.model) not in wanted or suite is None:
            continue
        row = PublishedRow(
            kind="third-party" if one.method == "base" else "published",
            name=f"{one.method} ({titles[one.source]})",
            model=one.model,
            source=one.source,
            numbers={},
        )
        row = found.setdefault((one.method, one.model, one.source), row)
        row.numbers.setdefault(suite, []).append(_number(one))
    return sorted(found.values(), key=lambda row: row.kind == "third-party")


def _number(one: Number) -> PublishedNumber:
    return PublishedNumber(
        value=(one.value or 0.0) / 100,
        n=one.n,
        metric=one.metric,
        certainty=one.certainty,
        protocol={key: value for key, value in one.protocol.model_dump().items() if value},
        note=one.note,
    )
