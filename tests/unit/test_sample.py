"""`--limit N`: shares of parts and groups, sets that count together, the same rows every time."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import datasets
import pytest

from harness.evals import catalogue, rows, sample
from harness.evals.catalogue import Part
from harness.evals.fields import SuiteQuestion
from harness.evals.rows import OpenPart
from harness.scoring import Item
from tests.fixtures import suite_rows

SUITE = catalogue.find("mmstar").model_copy(update={"table": "kind"})


def part(name: str, kinds: str, sets: str = "") -> OpenPart:
    """A row per letter of `kinds`, its group; rows with the same letter in `sets` count together."""
    questions = tuple(
        SuiteQuestion(
            Item(f"{name}{row}", "?", (), tuple("AB"), ("A",), "choice", group=(("kind", kind),)),
            "?",
            {"pair": name + sets[row]} if sets else {},
        )
        for row, kind in enumerate(kinds)
    )
    table = datasets.Dataset.from_dict({"key": [one.item.id for one in questions]})
    digests = tuple(one.item.id for one in questions)
    return OpenPart(SUITE, Part(split="val", rows=len(kinds)), Path(name), table, questions, digests)


def taken(found: list[OpenPart]) -> list[str]:
    return [one.item.id for opened in found for one in opened.questions]


@pytest.mark.parametrize("limit", [1, 7, 20, 50, 99])
def test_parts_and_groups_give_their_shares(tmp_path: Path, limit: int) -> None:
    parts = [part("p", "x" * 40 + "y" * 10), part("q", "x" * 30), part("r", "z" * 20)]
    found = sample.limited(parts, limit, tmp_path)
    assert len(taken(found)) == limit
    counts = Counter(
        (key[0], one.item.group[0][1]) for p in found for one in p.questions for key in [one.item.id]
    )
    for key, size in {("p", "x"): 40, ("p", "y"): 10, ("q", "x"): 30, ("r", "z"): 20}.items():
        assert abs(counts[key] - size * limit / 100) < 1


def test_it_is_no_beginning_and_always_the_same_and_in_order(tmp_path: Path) -> None:
    parts = [part("p", "x" * 200)]
    found = sample.limited(parts, 20, tmp_path)[0]
    numbers = [int(key[1:]) for key in taken([found])]
    assert numbers == sorted(set(numbers)) and len(numbers) == 20
    assert sum(number >= 100 for number in numbers) in range(4, 17)
    assert taken(sample.limited(parts, 20, tmp_path)) == taken([found])
    assert set(numbers) <= {int(key[1:]) for key in taken(sample.limited(parts, 60, tmp_path / "more"))}
    # Rows, digests and what lmms-eval loads are those of the questions.
    assert found.rows["key"][:] == list(found.digests) == taken([found])
    loaded = datasets.load_from_disk(str(found.folder))["val"]
    assert loaded["key"][:] == taken([found])


@pytest.mark.parametrize(("limit", "rows_taken"), [(1, 2), (2, 2), (3, 2), (10, 10), (11, 10), (50, 20)])
def test_sets_are_whole(tmp_path: Path, limit: int, rows_taken: int) -> None:
    parts = [part("p", "x" * 20, "abcdefghij" * 2)]
    found = taken(sample.limited(parts, limit, tmp_path))
    pairs = Counter(int(key[1:]) % 10 for key in found)
    assert len(found) == rows_taken and set(pairs.values()) == {2}


def test_sets_that_overlap_are_one() -> None:
    """A row belongs to a figure and to a question; a chain of them is taken whole."""
    chain = [("a", "1"), ("b", "2"), ("b", "1"), ("c", "3")]
    base = part("p", "xxxx")
    questions = tuple(
        SuiteQuestion(one.item, "?", {"figure": figure, "question": question})
        for one, (figure, question) in zip(base.questions, chain, strict=True)
    )
    places = {(0, row): one for row, one in enumerate(questions)}
    assert sorted(sample._together(places)) == [[(0, 0), (0, 1), (0, 2)], [(0, 3)]]


@pytest.mark.slow
def test_pictures_stay_with_their_rows(tmp_path: Path) -> None:
    suite_rows.write(tmp_path / "saved")
    suite = catalogue.find("blink")
    opened = rows.open_parts(suite, tmp_path / "saved", tmp_path)
    found = sample.limited(opened, 5, tmp_path / "limited")
    assert len(found) == 5  # of 14 parts with equal shares
    whole = {
        one.item.id: (opened_part, row)
        for opened_part in opened
        for row, one in enumerate(opened_part.questions)
    }
    for limited in found:
        again = rows.open_parts(
            suite.model_copy(update={"parts": (limited.part,)}), limited.folder, tmp_path
        )[0]
        for row, question in enumerate(again.questions):
            source, place = whole[question.item.id]
            assert again.digests[row] == source.digests[place] == limited.digests[row]
            shown, original = again.pictures(row), source.pictures(place)
            assert {k: v.tobytes() for k, v in shown.items()} == {k: v.tobytes() for k, v in original.items()}


def test_without_one_row_the_others_stay(tmp_path: Path) -> None:
    """A row that is set aside later, because it is too long, costs that row and draws no other sample."""
    whole = part("p", "x" * 300)
    before = taken(sample.limited([whole], 60, tmp_path / "a"))
    lost = before[17]
    rest = [one for one in whole.questions if one.item.id != lost]
    kept = [row for row, one in enumerate(whole.questions) if one.item.id != lost]
    less = replace(
        whole,
        questions=tuple(rest),
        rows=whole.rows.select(kept),
        digests=tuple(whole.digests[row] for row in kept),
    )
    after = taken(sample.limited([less], 60, tmp_path / "b"))
    assert len(after) == 60 and len(set(after) & set(before)) == 59
