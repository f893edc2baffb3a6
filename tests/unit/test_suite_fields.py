"""Rows of every suite read as questions: gold, options, what is shown; against golds written by hand."""

from __future__ import annotations

import re

import pytest

from harness.evals import catalogue, fields
from harness.evals.options import listed as options_of
from harness.evals.set_aside import UnusableRow
from tests.fixtures.suite_rows import GOLD, SPLITS
from vzero.errors import InputError

SUITES = {name: catalogue.suites()[name] for name in catalogue.members("all")}


def questions(name: str) -> list[fields.SuiteQuestion]:
    return [
        fields.read(SUITES[name], row, index)
        for (suite, _), (_, rows) in SPLITS.items()
        if suite == name
        for index, row in enumerate(rows)
    ]


@pytest.mark.parametrize("name", sorted(SUITES))
def test_gold_is_what_the_row_says(name):
    assert [", ".join(question.item.gold) for question in questions(name)] == GOLD[name]


@pytest.mark.parametrize("name", sorted(SUITES))
def test_a_question_shows_its_options_and_asks_for_nothing_bare(name):
    for question in questions(name):
        item = question.item
        assert item.id and question.text.strip()
        if name != "mathverse_vision_only":  # there the picture alone shows them
            assert all(choice in question.text for choice in item.options)
        assert "directly" not in question.text and "<image" not in question.text
        assert item.is_choice == bool(item.labels)
        if item.is_choice and item.options and name != "logicvista":  # its labels go on where the picture may
            assert len(item.options) == len(item.labels)


def test_ids_are_unique_and_the_picture_may_be_anything():
    for name in SUITES:
        ids = [question.item.id for question in questions(name)]
        assert len(set(ids)) == len(ids), name


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("Which?\nOptions: A: red, B: blue, C: green or so, D: none", ["red", "blue", "green or so", "none"]),
        ("What?\nA. One\nB. two words\nC. 3", ["One", "two words", "3"]),
        ("q (A) x (B) y\n(C) z", ["x", "y", "z"]),
        ("A. 1; B. 2, maybe; C. No correct answer", ["1", "2, maybe", "No correct answer"]),
        ("Choices:\nA:30°\nB:40°", ["30°", "40°"]),
        ("At point A: what? (A) 1 (B) 2", ["1", "2"]),
        ("Vitamin B. and plan C.", []),
        ("A. alone", []),
    ],
)
def test_options_in_a_text(text, options):
    assert list(options_of(text).values()) == options


def test_several_items_are_right_together():
    assert [one.together for one in questions("mmvp")] == [{"pair": "0"}, {"pair": "0"}]
    assert [one.together["worst case"] for one in questions("dynamath")] == ["1", "1", "2", "2"]
    assert [one.together["figure"][-1] for one in questions("hallusionbench")] == ["0", "0", "1", "1"]
    for name, suite in SUITES.items():
        assert all(set(suite.together) <= set(one.together) for one in questions(name)), name


def test_a_row_of_another_dataset_is_refused_and_named():
    with pytest.raises(InputError, match="no field 'question'"):
        fields.read(SUITES["mmstar"], {"category": "x", "l2_category": "y"}, 3)
    row = dict(SPLITS["mmstar", None][1][0], answer="F")
    with pytest.raises(InputError, match="'F' is none of A, B, C, D"):
        fields.read(SUITES["mmstar"], row, 0)
    with pytest.raises(InputError, match="is no list of texts"):
        fields.read(SUITES["mmmu_val"], dict(SPLITS["mmmu_val", None][1][0], options="__import__('os')"), 0)
    with pytest.raises(InputError, match="is no list of texts"):
        fields.read(SUITES["mmmu_val"], dict(SPLITS["mmmu_val", None][1][0], options="[" * 100_000), 0)


def test_groups_have_members_and_names_are_resolved_once():
    assert "logicvista" in catalogue.members("math") and "logicvista" in catalogue.members("logic")
    assert catalogue.members("all") == sorted(SUITES)
    assert [suite.name for suite in catalogue.choose("logic, logicvista,mmstar")] == [
        "logicvista",
        "visulogic",
        "mmstar",
    ]
    for wrong in ("nothing", " , "):
        with pytest.raises(InputError, match="choose among"):
            catalogue.choose(wrong)


def test_records_are_whole():
    from harness.claims import published

    known = {(one.suite, one.metric) for one in published.numbers("base", published=False)}
    for suite in SUITES.values():
        assert suite.fields in fields.READERS
        assert 0 < suite.scored <= suite.rows
        assert suite.published.suite is None or (suite.published.suite, suite.published.metric) in known, (
            suite.name
        )


def spelt(name: str, place: int, **columns: object) -> fields.SuiteQuestion:
    """A fixture row whose columns say the same otherwise."""
    (rows,) = [rows for (suite, _), (_, rows) in SPLITS.items() if suite == name]
    return fields.read(SUITES[name], {**rows[place], **columns}, 0)


@pytest.mark.parametrize(
    ("name", "place", "columns", "gold", "kind"),
    [
        ("mmmu_val", 1, {"answer": "['3', 'three']"}, ("3", "three"), "text"),
        ("mmmu_val", 1, {"answer": "['0.5', '1/2']"}, ("0.5", "1/2"), "text"),
        ("mmmu_val", 0, {"answer": "['A', 'B']"}, ("A", "B"), "choice"),
        ("mmmu_val", 0, {"answer": "$7"}, ("B",), "choice"),
        ("logicvista", 0, {"answer": "A and C"}, ("A", "C"), "multi"),
        ("logicvista", 0, {"answer": "(c)"}, ("C",), "multi"),
        ("mathverse", 0, {"answer": "C\nD"}, ("C", "D"), "multi"),
        ("mathverse", 0, {"answer": "40 \u00b0".replace(" ", "")}, ("B",), "choice"),
        ("mmstar", 0, {"answer": "blue"}, ("B",), "choice"),
        ("dynamath", 0, {"ground_truth": "yes"}, ("A",), "choice"),
        ("visulogic", 0, {"label": "\uff24"}, ("D",), "choice"),
    ],
)
def test_golds_with_a_plain_meaning(name, place, columns, gold, kind):
    item = spelt(name, place, **columns).item
    assert (item.gold, item.kind) == (gold, kind)


@pytest.mark.parametrize(
    ("name", "place", "columns", "reason"),
    [
        ("mmmu_val", 0, {"options": "[]"}, "none of no options"),
        ("mmmu_val", 0, {"answer": "['A', 'Z']"}, "'Z' is none of A, B"),
        ("mmmu_val", 1, {"answer": "[3"}, "no list of texts"),
        ("mathvista", 1, {"answer": "twelve"}, "'twelve' is no number"),
        ("mathvista", 1, {"precision": float("nan")}, "precision is nan"),
        ("mathvista", 0, {"choices": ["red", None]}, "choices is missing"),
        ("hallusionbench", 0, {"gt_answer": "2"}, "'2' is neither 0 nor 1"),
        ("dynamath", 2, {"ground_truth": "steep"}, "'steep' is no number"),
        ("mathverse", 0, {"question": ""}, "question is empty"),
        ("mmvp", 0, {"Correct Answer": "(c)"}, "'(c)' is none of A, B"),
        ("vstar", 0, {"question_id": None}, "no id"),
    ],
)
def test_rows_that_cannot_be_asked(name, place, columns, reason):
    with pytest.raises(UnusableRow, match=re.escape(reason)):
        spelt(name, place, **columns)


def test_pictures_named_in_options_are_numbered():
    question = spelt("mmmu_val", 0, options="['<image 2>', 'as in <image 1>']")
    assert question.item.options == ("(image 2)", "as in (image 1)") and "A. (image 2)" in question.text


def test_blanks_around_an_option_do_not_lose_its_row():
    row = next(row for row in SPLITS["mathvista", None][1] if row["question_type"] == "multi_choice")
    spaced = row | {"choices": [f"{one} " for one in row["choices"]], "answer": f"{row['answer']} "}
    plain, found = (fields.read(SUITES["mathvista"], one, 0).item.gold for one in (row, spaced))
    assert found == plain and len(found) == 1
