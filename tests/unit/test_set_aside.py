"""Rows that cannot be asked: each kind of damage costs its own row, by name, and nothing else."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from harness.analysis import build as analysis
from harness.evals import build, catalogue, folder, pins, rows, table, write
from harness.evals.fetch import fetch
from harness.evals.pins import Pins
from harness.evals.rows import OpenPart
from harness.evals.set_aside import SetAside, repeated
from tests.fixtures import clones, suite_rows
from tests.fixtures.evaluations import boxed, item, run_folder
from vzero.errors import InputError
from vzero.runtime import artefacts

MINI = catalogue.find("mathvision_testmini")
CLONE = [str(number) for number in range(10, 16)]


def opened(data: Path, scratch: Path, seen: Pins | None = None) -> OpenPart:
    (part,) = rows.open_parts(MINI, data, scratch, seen)
    return part


def ids(part: OpenPart) -> list[str]:
    return [question.item.id for question in part.questions]


def loaded(part: OpenPart) -> list[str]:
    """Ids of what lmms-eval will load."""
    import datasets

    return datasets.load_from_disk(str(part.folder))[part.part.split]["id"]


@pytest.mark.parametrize("name", clones.DAMAGE)
def test_damage_costs_its_own_row(tmp_path, name):
    spoil, gone, reason = clones.DAMAGE[name]
    data = clones.write(tmp_path / "clone", spoil(clones.rows()))
    part = opened(data, tmp_path / "scratch")
    kept = CLONE if "alike" in name else [key for key in CLONE if key != "12"]
    assert ids(part) == kept == loaded(part)
    golds = {question.item.id: question.item.gold for question in part.questions}
    assert all(golds[key] == ((key,) if int(key) % 2 else ("B",)) for key in kept)
    assert [one.id for one in part.set_aside] == gone
    assert all(reason in one.reason and len(one.reason) <= 160 for one in part.set_aside)
    again = opened(data, tmp_path / "scratch", rows.pins_of([part]))
    assert rows.pins_of([again]) == rows.pins_of([part])


@pytest.mark.parametrize("name", clones.HARMLESS)
def test_what_has_a_plain_meaning_is_read(tmp_path, name):
    spell, gold = clones.HARMLESS[name]
    part = opened(clones.write(tmp_path / "clone", spell(clones.rows())), tmp_path / "scratch")
    assert ids(part) == CLONE and not part.set_aside
    question = part.questions[2]
    assert question.item.gold == gold
    assert question.item.kind == ("multi" if len(gold) > 1 else "choice" if gold != ("7",) else "integer")


@pytest.mark.parametrize("content", [b"", b"not a picture", suite_rows.picture(1)[:100]])
def test_a_picture_that_cannot_be_decoded(tmp_path, content):
    data = clones.write(tmp_path / "clone", clones.rows())
    (data / "images" / "13.png").write_bytes(content)
    part = opened(data, tmp_path / "scratch")
    assert [one.id for one in part.set_aside] == ["13"] and "images/13.png" in part.set_aside[0].reason
    assert ids(part) == [key for key in CLONE if key != "13"]


def saved(data: Path, found: list[dict]) -> Path:
    """Rows as the hub has them, which nobody looked at."""
    full = [row | {"decoded_image": row.get("decoded_image", suite_rows.picture(1))} for row in found]
    write.save(full, MINI.images, "testmini", data / MINI.name)
    return data


def test_a_folder_of_datasets_takes_the_same_route(tmp_path):
    found = clones.rows()
    found[1] |= {"decoded_image": b"no picture"}
    found[2] |= {"answer": "Z"}
    data = saved(tmp_path / "data", [*found, found[0], found[3] | {"answer": "other"}])
    part = opened(data, tmp_path / "scratch")
    assert ids(part) == loaded(part) == ["10", "14", "15"]
    assert sorted((one.id, one.reason.split(":")[0]) for one in part.set_aside) == [
        ("10", "it repeats an earlier row"),
        ("11", "its picture"),
        ("12", "its answer 'Z' is none of A, B, C"),
        ("13", "other rows have its id"),
        ("13", "other rows have its id"),
    ]
    assert part.folder.is_relative_to(tmp_path / "scratch") and len(part.rows) == 3
    assert part.pictures(2)["decoded_image"].size == (64, 48)


def test_what_was_seen_stays_set_aside_and_a_repaired_row_is_refused(tmp_path):
    found = clones.rows()
    data = saved(tmp_path / "data", [*found[:2], found[2] | {"decoded_image": b"no picture"}])
    seen = rows.pins_of([opened(data, tmp_path / "scratch")])
    told = seen.set_aside[0].model_copy(update={"reason": "another decoder's words"})
    again = opened(data, tmp_path / "scratch", Pins(seen.rows, (told,)))
    assert again.set_aside == (told,)
    saved(tmp_path / "data", found[:3])
    with pytest.raises(InputError, match="not the ones that were pinned: 12;"):
        pins.check(MINI, rows.pins_of([opened(data, tmp_path / "scratch", seen)]), seen)


def test_fetch_keeps_what_can_be_asked_and_names_the_rest(tmp_path):
    spoil, _, _ = clones.DAMAGE["a gold that is no option"]
    clone = clones.write(tmp_path / "clone", spoil(clones.rows()))
    (clone / "images" / "14.png").unlink()
    for number, source in enumerate((clone, saved(tmp_path / "saved", spoil(clones.rows())))):
        data = tmp_path / f"data{number}"
        told = fetch(MINI, data, source, None, lambda text: None)
        gone = ["12", "14"] if source is clone else ["12"]
        assert [one["id"] for one in told.set_aside] == gone and told.rows == len(CLONE) - len(gone)
        assert json.dumps(told.set_aside)
        shutil.rmtree(source)
        part = opened(data, tmp_path / "scratch")
        assert ids(part) == [key for key in CLONE if key not in gone]
        assert [one.id for one in part.set_aside] == gone
        assert fetch(MINI, data, None, None, lambda text: None).sha256 == told.sha256


@pytest.mark.parametrize("fetched", [True, False])
def test_what_was_set_aside_when_it_was_asked_stays_so(tmp_path, fetched):
    """As a request is that proves too long: the data folder has pinned its row as good."""
    found = clones.rows()
    data = clones.write(tmp_path / "clone", [*found, found[0]])
    if fetched:
        fetch(MINI, tmp_path / "data", data, None, lambda text: None)
        data = tmp_path / "data"
    first = rows.pins_of([opened(data, tmp_path / "scratch")])
    seen = pins.without(first, {"14": "it exceeds the context"})
    part = opened(data, tmp_path / "scratch", seen)
    assert ids(part) == loaded(part) == [key for key in CLONE if key != "14"]
    pins.check(MINI, rows.pins_of([part]), seen)
    assert {one.id: one.reason for one in part.set_aside}["14"] == "it exceeds the context"


@pytest.mark.parametrize("whole", [True, False])
def test_where_nothing_is_left_one_sentence_says_why(tmp_path, whole):
    found = [row | {"question": ""} for row in clones.rows(2)]
    data = clones.write(tmp_path / "data", found) if whole else saved(tmp_path / "data", found)
    with pytest.raises(InputError, match=r"No row of mathvision_testmini in .* 2 set aside, 10 because"):
        rows.open_parts(MINI, data, tmp_path / "scratch")


def test_a_file_that_is_none_is_one_sentence(tmp_path):
    data = clones.write(tmp_path / "clone", clones.rows())
    (data / "data" / "testmini.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match=r"is no text|can be asked"):
        rows.open_parts(MINI, data, tmp_path / "scratch")


def test_of_equal_rows_the_first_stays_and_of_others_none():
    assert repeated([("a", "1"), ("b", "2"), ("a", "1"), ("c", "3"), ("c", "4")]) == [
        None,
        None,
        "it repeats an earlier row",
        "other rows have its id",
        "other rows have its id",
    ]


@pytest.mark.parametrize(("gone", "deviates"), [(2, False), (3, True)])
def test_what_is_set_aside_is_in_no_number_and_told(tmp_path, gone, deviates):
    """LogicVista has 448 rows: 0.5 % of them are 2.24."""
    items = [item(f"v{number}", "A") for number in range(448 - gone)]
    place = run_folder(tmp_path, items, [boxed("A")] * len(items))
    aside = tuple(SetAside(id=f"x{number}", reason="its answer is a list") for number in range(gone))
    seen = Pins({one.id: one.id for one in items}, aside)
    pins.write(folder.pins(place, "logicvista"), catalogue.find("logicvista"), seen, {})
    found = build.write(place)
    suite = found.suites["logicvista"]
    assert (suite.rows, suite.n, suite.answered, suite.set_aside) == (
        448 - gone,
        448 - gone,
        448 - gone,
        aside,
    )
    assert any(f"{gone} rows set aside" in one for one in suite.deviations) == deviates
    assert not any("of 448 rows" in one for one in suite.deviations)
    page = table.markdown(found)
    assert f"logicvista, in no number: {gone} rows set aside" in page and "x0 (its answer is a list)" in page
    stored = artefacts.read_json(place / "results.json")["suites"]["logicvista"]["set_aside"]
    assert stored[0] == {"id": "x0", "reason": "its answer is a list", "digest": ""}
    assert "x0" not in (place / "items.scored.jsonl").read_text()


@pytest.mark.parametrize(("limit", "deviates"), [(None, True), (100, False)])
def test_of_a_limited_run_the_whole_suite_counts(tmp_path, limit, deviates):
    """One row of LogicVista's 448 is no deviation, however few of them were asked; one of 100 in all is."""
    place = run_folder(tmp_path, [item("i0", "C")], [boxed("C")])
    found = build.write(place)
    one = found.suites["logicvista"].model_copy(
        update={"rows": 100, "set_aside": (SetAside(id="lost", reason="no picture"),)}
    )
    settings = found.evaluation.model_copy(update={"limit": limit})
    stored = found.model_copy(update={"evaluation": settings, "suites": {"logicvista": one}})
    (said,) = analysis._set_aside(stored)
    assert said.startswith("PROTOCOL DEVIATION: ") == deviates and "lost (no picture)" in said


def test_answers_without_any_gold_are_kept_and_in_no_rate(tmp_path):
    """Of a test split without golds, or a small sample that has none."""
    place = run_folder(tmp_path, [item("i0", "")], [boxed("C")], [[boxed("A"), boxed("B")]])
    found = build.write(place).suites["logicvista"]
    assert (found.status, found.n, found.answered, found.sampled) == ("complete", 0, 1, None)
