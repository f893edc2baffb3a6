"""Clones as the suites' authors publish them: where files and pictures lie, what a row is called."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from harness.evals import at_hand, catalogue, rows
from harness.evals.rows import OpenPart
from tests.fixtures import clones
from tests.fixtures.suite_rows import SPLITS, picture
from vzero.errors import InputError

Row = Mapping[str, object]
VERSE = {
    "problem_version": "Text Lite",
    "question": "How wide?\nChoices:\nA:1 cm\nB:2 cm",
    "answer": "(B)",
    "question_type": "multi-choice",
    "metadata": {"subject": "Plane Geometry"},
    "image": "images_version_1-4/image_1.png",
}
ONLY = {
    **VERSE,
    "problem_version": "Vision Only",
    "question": "",
    "question_for_eval": VERSE["question"],
    "image": "images_version_6/image_1.png",
}


def put(folder: Path, files: Mapping[str, object]) -> Path:
    """Files below a folder; a number is a picture."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, int):
            path.write_bytes(picture(content))
        else:
            path.write_text(json.dumps(content))
    return folder


def dynamath(answer: str) -> dict[str, Row]:
    about = {"answer_type": "float", "subject": "algebra", "level": "high school"}
    return {"17": {"question": "What is the slope?", "answer": answer, "image": "image/image17.png", **about}}


def opened(name: str, data: Path, scratch: Path) -> OpenPart:
    (part,) = rows.open_parts(catalogue.find(name), data, scratch)
    assert not part.set_aside
    return part


def shown(part: OpenPart) -> list[tuple[str, tuple[str, ...], bytes]]:
    """Id, gold and the pixels of the picture of every row."""
    return [
        (one.item.id, one.item.gold, next(iter(part.pictures(index).values())).tobytes())
        for index, one in enumerate(part.questions)
    ]


def pixels(seed: int) -> bytes:
    import io

    from PIL import Image

    return Image.open(io.BytesIO(picture(seed))).convert("RGB").tobytes()


@pytest.mark.parametrize("below", [".", "dataset", "dynamath"])
def test_one_variant_of_dynamath(tmp_path, below):
    files = {f"{below}/dataset.json": dynamath("2.5"), f"{below}/image/image17.png": 7}
    part = opened("dynamath", put(tmp_path / "clone", files), tmp_path / "scratch")
    assert shown(part) == [("17", ("2.5",), pixels(7))]
    assert part.questions[0].item.tolerance == 0.001


def test_the_ten_trials_of_dynamath_are_ten_variants_of_each_question(tmp_path):
    files: dict[str, object] = {"dataset/dataset.json": dynamath("0"), "dataset/image/image17.png": 0}
    for trial in range(1, 11):
        place = f"samples and result/10trials/trial{trial}"
        files |= {f"{place}/dataset.json": dynamath(str(trial)), f"{place}/image/image17.png": trial}
    part = opened("dynamath", put(tmp_path / "clone", files), tmp_path / "scratch")
    assert shown(part) == [(f"17/trial{n}", (str(n),), pixels(n)) for n in range(1, 11)]
    assert {one.together["worst case"] for one in part.questions} == {"17"}


@pytest.mark.parametrize("place", ["images/", "data/images/", "data/"])
def test_mathverse_and_its_rows_without_words(tmp_path, place):
    file = "data/testmini.json" if place.startswith("data") else "testmini.json"
    stored = [{"sample_index": "1", **VERSE}, {"sample_index": "2", **ONLY}]
    pictures = {f"{place}{VERSE['image']}": 1, f"{place}{ONLY['image']}": 2}
    data = put(tmp_path / "clone", {file: stored, **pictures})
    both = opened("mathverse", data, tmp_path / "scratch")
    assert shown(both) == [("1", ("B",), pixels(1)), ("2", ("B",), pixels(2))]
    only = opened("mathverse_vision_only", data, tmp_path / "scratch")
    assert shown(only) == [("2", ("B",), pixels(2))]
    assert only.questions[0].item.options == ("1 cm", "2 cm")


def test_mathverses_questions_without_pictures_are_for_scoring_alone(tmp_path):
    row = {"sample_index": "1", **VERSE, "problem_version": "Text Only", "image": ""}
    data = put(tmp_path / "clone", {"testmini_text_only.json": [row]})
    suite = catalogue.find("mathverse")
    found, aside = at_hand.questions(suite, data)
    assert [one.item.gold for one in found] == [("B",)] and not aside
    with pytest.raises(InputError, match="1 because it has no picture"):
        rows.open_parts(suite, data, tmp_path / "scratch")


def test_wemath(tmp_path):
    row = dict(SPLITS["wemath", None][1][0], image_path="2steps/image/1-1.png", option="A. 3;B\uff0e4;C. 5")
    files = {"data/testmini.json": [row | {"answer": "B"}], "data/2steps/image/1-1.png": 3}
    part = opened("wemath", put(tmp_path / "clone", files), tmp_path / "scratch")
    assert shown(part) == [("1/2steps_1", ("B",), pixels(3))]
    assert part.questions[0].item.options == ("3", "4", "5")


def test_a_folder_of_clones_and_both_parts_of_mathvision(tmp_path):
    found = clones.rows(4)
    clone = clones.write(tmp_path / "data" / "mathvision", found)
    clones.write(clone, found[:2], "test.jsonl")
    sizes = {"mathvision_testmini": 4, "mathvision": 2}
    for name, size in sizes.items():
        for data in (tmp_path / "data", clone):
            assert len(opened(name, data, tmp_path / "scratch").questions) == size


@pytest.mark.slow
@pytest.mark.skipif(not os.environ.get("VZERO_DATA"), reason="VZERO_DATA names no folder with real data")
@pytest.mark.parametrize(
    ("name", "count", "without_gold"),
    [
        ("dynamath", 501, 0), ("logicvista", 448, 1), ("mathverse", 788, 0), ("mathvision", 3040, 0),
        ("mathvision_testmini", 304, 0), ("mathvista", 1000, 0),
    ],
)  # fmt: skip
def test_no_real_row_is_set_aside(name, count, without_gold):
    found, aside = at_hand.questions(catalogue.find(name), Path(os.environ["VZERO_DATA"]))
    assert (len(found), sum(not one.item.gold for one in found), aside) == (count, without_gold, [])
