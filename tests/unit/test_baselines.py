"""Published numbers: the files load, break loudly when damaged, and hold what their sources print."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from harness.claims.published import Book, GainClaim, claims, load, numbers

NUMBER = {
    "id": "a",
    "method": "base",
    "model": "m",
    "suite": "s",
    "metric": "accuracy",
    "value": 50.0,
    "n": 10,
}
NUMBER |= {"source": "x", "table": "1", "certainty": "read"}
GAIN = {
    "id": "c",
    "kind": "gain",
    "statement": "it gains",
    "method": "v",
    "model": None,
    "suite": "s",
    "metric": "accuracy",
    "n": None,
}
GAIN |= {"value": 2.0, "tolerance": 1.0, "source": "x", "table": "1", "certainty": "read"}
SOURCE = {"id": "x", "title": "t", "where": "w", "kind": "paper"}


def book(number: dict[str, Any] | None = None, claim: dict[str, Any] | None = None) -> Book:
    value = {"sources": [SOURCE], "numbers": [NUMBER | (number or {})], "claims": [GAIN | (claim or {})]}
    return Book.model_validate_json(json.dumps(value)).checked()


def test_a_whole_book_is_accepted() -> None:
    assert book().numbers[0].value == 50.0
    assert book({"value": None, "missing": "not found"}).numbers[0].value is None
    assert book({"kind": "gain", "value": -1.4}).numbers[0].value == -1.4


@pytest.mark.parametrize(
    "damage",
    [
        lambda: book({"value": None}),  # missing without a reason
        lambda: book({"missing": "not found"}),  # both
        lambda: book({"value": 101.0}),
        lambda: book({"value": -1.0}),
        lambda: book({"value": "50"}),
        lambda: book({"n": 0}),
        lambda: book({"n": 10.5}),
        lambda: book({"certainty": "sure"}),
        lambda: book({"vlaue": 3.0}),
        lambda: book({"suite": "average"}),  # of what?
        lambda: book({"scope": "math"}),
        lambda: book({"source": "y"}),
        lambda: book({"id": "has space"}),
        lambda: book(claim={"tolerance": 0.0}),
        lambda: book(claim={"tolerance": 2.0}),  # no gain at all would count as reproduced
        lambda: book(claim={"kind": "order"}),
        lambda: book(claim={"source": "y"}),
        lambda: Book.model_validate({"sources": [SOURCE, SOURCE]}).checked(),
        lambda: Book.model_validate_json('{"numbers": [{"value": NaN}]}'),
    ],
)
def test_a_damaged_book_is_refused(damage: Callable[[], Book]) -> None:
    with pytest.raises((ValidationError, ValueError)):
        damage()


def test_the_shipped_book_is_whole() -> None:
    whole = load()
    used = {one.source for one in (*whole.numbers, *whole.claims)}
    assert used == {one.id for one in whole.sources}
    assert {"vzero", "evolmm", "mm-upt", "r-zero", "base"} <= {one.method for one in whole.numbers}
    assert all(one.value is None for one in whole.numbers if one.missing) and any(
        one.missing for one in whole.numbers
    )


@pytest.mark.parametrize(
    ("id_", "value", "n", "certainty"),
    [
        ("vzero.7b.math.gain", 1.7, None, "read"),
        ("vzero.7b.vision.gain", 2.6, None, "read"),
        ("vzero.7b.average.iteration-2", 51.9, None, "secondary"),
        ("vzero.3b.average.iteration-2", 43.8, None, "secondary"),
        ("vzero.7b.mmmu-val.vzero-iteration-2", None, None, "inferred"),
        ("vzero.ablation.no-filter", None, None, "inferred"),
        ("evolmm.7b.mathvision.evolmm-discrete", 22.52, None, "read"),
        ("mm-upt.7b.mathvista-testmini.again", 70.2, 1000, "read"),
        ("r-zero.4b.r-zero-untrained-challenger", 30.83, None, "read"),
        ("base.7b.mmmu-val.qwen-official", 58.6, 900, "secondary"),
        ("base.7b.mmmu-val.visplay-3", 23.1, 900, "read"),
        ("base.3b.mathvista-testmini.internvl-report", 61.2, 1000, "read"),
        ("base.7b.cv-bench", None, None, "inferred"),
    ],
)
def test_numbers_are_those_of_their_sources(
    id_: str, value: float | None, n: int | None, certainty: str
) -> None:
    [found] = [one for one in load().numbers if one.id == id_]
    assert (found.value, found.n, found.certainty) == (value, n, certainty)


def test_looking_up() -> None:
    values = [one.value for one in numbers("base", "qwen2.5-vl-7b-instruct", "mmmu-val")]
    assert min(v for v in values if v is not None) == 23.1 and max(v for v in values if v is not None) == 58.6
    assert numbers(suite="cv-bench") == []
    assert [one.id for one in numbers(suite="cv-bench", published=False)] == ["base.7b.cv-bench"]


def test_claims_differ_in_kind_and_every_tolerance_is_half_the_gain() -> None:
    gains = [claim for claim in claims() if isinstance(claim, GainClaim)]
    orders = [claim for claim in claims() if not isinstance(claim, GainClaim)]
    assert len(gains) >= 7 and len(orders) >= 5
    assert all(claim.tolerance == pytest.approx(abs(claim.value) / 2, abs=1e-3) for claim in gains)
    assert all(claim.better != claim.worse for claim in orders)


def test_claimed_gains_are_differences_of_the_published_scores() -> None:
    scores = {one.id: one.value for one in load().numbers}
    claimed = {claim.id: claim.value for claim in claims() if isinstance(claim, GainClaim)}
    for claim, after, before in (
        ("vzero.7b.average", "vzero.7b.average.iteration-2", "vzero.7b.average.base"),
        ("vzero.3b.iteration-1", "vzero.3b.average.iteration-1", "vzero.3b.average.base"),
        ("vzero.3b.iteration-2", "vzero.3b.average.iteration-2", "vzero.3b.average.base"),
        ("evolmm.7b.mathvista", "evolmm.7b.mathvista-testmini.evolmm", "evolmm.7b.mathvista-testmini.base"),
        ("evolmm.7b.mmmu", "evolmm.7b.mmmu-val.evolmm", "evolmm.7b.mmmu-val.base"),
        ("mm-upt.7b.mathvista", "mm-upt.7b.mathvista-testmini.mm-upt", "mm-upt.7b.mathvista-testmini.base"),
        ("mm-upt.7b.wemath", "mm-upt.7b.wemath.mm-upt", "mm-upt.7b.wemath.base"),
    ):
        assert claimed[claim] == pytest.approx(scores[after] - scores[before], abs=1e-6)
