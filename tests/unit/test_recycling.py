"""What the Questioner's training asked, as labels: each question once, by the votes its reward paid for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from harness.check import formulas
from vzero.arms import recycling
from vzero.presets import changed, load_preset
from vzero.runtime import artefacts
from vzero.runtime.progress import Progress
from vzero.runtime.stage import StageContext
from vzero.selfplay import plan

OPTIONS = "A) red B) blue C) green D) pink"


def asked(
    text: str | None, votes: list[str | None] | None, image: str = "i0", **other: Any
) -> dict[str, Any]:
    raw = f"<description> x </description> <question> {text} {OPTIONS} </question> <answer> red A </answer>"
    row = {
        "generation": 1,
        "prompt": image,
        "index": 0,
        "tokens": 3,
        "finish_reason": "stop",
        "text": raw,
        "intuitive": "A",
    }
    return {**row, "votes": votes, "reward": 0.0, "advantage": 0.0, **other}


def recycle(
    folder: Path, rollouts: list[dict[str, Any]], bought: list[dict[str, Any]] | None = None
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    artefacts.write_jsonl(folder / "trained" / "rollouts.jsonl", rollouts)
    inputs = {"rollouts": folder / "trained"}
    if bought is not None:
        artefacts.write_jsonl(folder / "label" / "labels.jsonl", bought)
        inputs["labels"] = folder / "label"
    preset = changed(load_preset("smoke"), {"solver.questions": "recycled" if bought is None else "both"})
    stage = next(one for one in plan(preset) if one.kind == "recycle")
    facts = recycling.run(
        StageContext(stage, preset, folder / "out", inputs, Progress(folder / "progress.jsonl"))
    )
    return artefacts.read_jsonl(folder / "out" / "labels.jsonl"), facts


def test_a_question_counts_once_an_image_and_an_invalid_one_not_at_all(tmp_path: Path) -> None:
    unsure, sure = ["A"] * 6 + ["B"] * 3 + [None], ["C"] * 10
    rows, facts = recycle(
        tmp_path,
        [
            asked("what color ?", unsure),
            asked("what color ?", sure, index=1),  # the same again: its first votes count
            asked("what color ?", sure, image="i1"),  # of another image it is another question
            asked("how many ?", None),  # invalid: nobody voted
            asked("which one ?", sure, finish_reason="length"),
            asked("which is red ?", ["D"] * 8 + ["A"] * 2, generation=2, index=3),
        ],
    )
    assert [(row["image_id"], row["answer"], row["confidence"], row["kept"]) for row in rows] == [
        ("i0", "A", 0.6, True),
        ("i1", "C", 1.0, False),
        ("i0", "D", 0.8, True),
    ]
    assert rows[0]["text"] == f"what color ? {OPTIONS}" and rows[0]["votes"] == unsure
    assert rows[2]["question_id"] == "1-i0-asked-2-3"
    assert (facts["recycled"], facts["kept"], facts["bought"]) == (3, 2, 0)


def test_beside_bought_questions_those_come_first_and_keep_their_labels(tmp_path: Path) -> None:
    bought = {"question_id": "1-i0", "image_id": "i0", "text": f"what color ? {OPTIONS}", "intuitive": "B"}
    bought |= {"votes": ["B"] * 5 + ["A"] * 5, "answer": "B", "confidence": 0.5, "kept": True}
    again = {**bought, "question_id": "1-i0-1"}  # a second writing of the same question stays, as without us
    rows, facts = recycle(
        tmp_path,
        [asked("what color ?", ["A"] * 10), asked("how many ?", ["A"] * 7 + ["C"] * 3)],
        [bought, again],
    )
    assert rows[:2] == [bought, again] and [row["question_id"] for row in rows[2:]] == ["1-i0-asked-1-0"]
    assert (facts["recycled"], facts["bought"], facts["kept"], facts["kept_recycled"]) == (1, 2, 3, 1)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.lists(st.sampled_from(["A", "B", "C", "D", None]), min_size=10, max_size=10), max_size=8))
def test_labels_are_the_majorities_of_the_formulas_written_twice(
    tmp_path_factory: Any, polls: list[Any]
) -> None:
    folder = tmp_path_factory.mktemp("recycled")
    rows, _ = recycle(folder, [asked("how many ?", votes, image=f"i{i}") for i, votes in enumerate(polls)])
    assert [(row["answer"], row["confidence"]) for row in rows] == [formulas.majority(one) for one in polls]
    assert [row["kept"] for row in rows] == [formulas.kept(one, 0.3, 0.8) for one in polls]
