"""What questions and labels were worth, on rows counted by hand."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest

from harness.analysis import ground_truth
from harness.analysis.measures import GroundTruth
from harness.runs.sealed import Run, SealedStage
from vzero.presets import changed, load_preset
from vzero.runtime import artefacts
from vzero.selfplay import Stage, plan


@dataclass(frozen=True)
class Known:
    family: str | None
    answer: str | None
    well_posed: bool
    hard: bool | None


def question(name: str, text: str | None, finish: str = "stop") -> dict:
    return {
        "question_id": name,
        "image_id": f"i{name}",
        "raw": text or "?",
        "finish_reason": finish,
        "tokens": 9,
        "valid": text is not None,
        "description": text and "d",
        "text": text,
        "intuitive": text and "A",
    }


def label(
    name: str, votes: str, answer: str | None, confidence: float, kept: bool, intuitive: str = "A"
) -> dict:
    return {
        "question_id": name,
        "image_id": f"i{name}",
        "text": "t",
        "intuitive": intuitive,
        "votes": [None if v == "-" else v for v in votes],
        "answer": answer,
        "confidence": confidence,
        "kept": kept,
    }


QUESTIONS = [
    question("1", "how many red ? A) 1 B) 2 C) 3 D) 4"),
    question("2", "How many  RED ? A) 1 B) 2 C) 3 D) 4"),
    question("3", "how many blue ? A) 1 B) 2 C) 3 D) 4"),
    question("4", "sum ? A) 1 B) 2 C) 3 D) 4"),
    question("5", None, "length"),
    question("6", "banana ? A) 1 B) 2 C) 3 D) 4"),
]
LABELS = [
    label("1", "AAAAAAAAAA", "A", 1.0, False),
    label("2", "BBBBBAAA--", "B", 0.5, True),
    label("3", "CCCDDDAB--", "C", 0.3, True),
    label("4", "----------", None, 0.0, False),
    label("6", "DDDDDDAAAA", "D", 0.6, True),
]
TRUTHS = {
    "1": Known("count", "A", True, True),
    "2": Known("count", "A", True, True),
    "3": Known("count", "C", True, True),
    "4": Known("sum", "D", True, False),
    "6": Known(None, None, False, None),
}


def value(found: GroundTruth, name: str) -> tuple[float | None, int]:
    rate = getattr(found, name)
    return rate.value, rate.n


def test_measures_without_truth_by_hand():
    found = ground_truth.measure(QUESTIONS, LABELS, None)
    assert value(found, "valid") == (pytest.approx(5 / 6), 6)
    assert value(found, "truncated") == (pytest.approx(1 / 6), 6)
    assert value(found, "distinct") == (pytest.approx(4 / 5), 5)
    assert value(found, "kept") == (pytest.approx(3 / 5), 5)
    assert value(found, "agreement") == (pytest.approx(1 / 5), 5)
    assert value(found, "mean_confidence") == (pytest.approx(2.4 / 5), 5)
    assert value(found, "unparsed_votes") == (pytest.approx(14 / 50), 50)
    assert (found.kept_count, found.no_majority) == (3, 1)
    assert found.label_accuracy is found.well_posed is found.calibration is found.families is None


def test_measures_with_truth_by_hand():
    found = ground_truth.measure(QUESTIONS, LABELS, TRUTHS)
    assert value(found, "well_posed") == (pytest.approx(4 / 5), 5)
    assert value(found, "label_accuracy") == (
        pytest.approx(2 / 4),
        4,
    )  # 1 and 3 right, 2 wrong, 4 has no majority
    assert value(found, "label_accuracy_kept") == (pytest.approx(1 / 2), 2)  # 2 and 3
    assert value(found, "label_accuracy_kept_strict") == (pytest.approx(1 / 3), 3)  # and the ill-posed 6
    assert value(found, "intuitive_accuracy") == (pytest.approx(2 / 4), 4)
    assert value(found, "well_posed_kept") == (pytest.approx(2 / 3), 3)
    assert value(found, "hard") == (pytest.approx(3 / 4), 4)
    assert found.families == {"count": 3, "sum": 1} and found.unrecognised == 1
    expected = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert found.entropy_nats == pytest.approx(expected)
    assert found.effective_families == pytest.approx(math.exp(expected))
    rows = {one.c: (one.n, one.value, one.kept) for one in found.calibration}
    assert rows == {0.0: (1, 0.0, 0), 0.3: (1, 1.0, 1), 0.5: (1, 0.0, 1), 1.0: (1, 1.0, 0)}


def test_before_the_votes_only_the_questions_are_measured():
    found = ground_truth.measure(QUESTIONS, None, TRUTHS)
    assert value(found, "well_posed")[1] == 5
    assert found.kept is found.label_accuracy is None


def test_nothing_valid_measures_nothing():
    found = ground_truth.measure([question("1", None)], [], {})
    assert value(found, "valid") == (0.0, 1)
    assert value(found, "kept") == value(found, "label_accuracy") == (None, 0)
    assert found.entropy_nats is None and found.calibration == []


def test_entropy_of_equal_shares_is_the_log_of_their_number():
    assert ground_truth.entropy([5, 5, 5, 5, 0]) == pytest.approx(math.log(4))
    assert ground_truth.entropy([7]) == pytest.approx(0)
    assert ground_truth.entropy([]) is None


def test_confidences_of_other_vote_counts_fall_in_the_nearest_tenth():
    rows = [
        (label("1", "", "A", c, False), Known("f", "A", True, None)) for c in (1 / 3, 0.35, 0.25, 0.7, 0.3)
    ]
    assert {one.c: one.n for one in ground_truth.calibration(rows)} == {0.3: 3, 0.4: 1, 0.7: 1}


def test_pocket_truth_is_read_from_the_images_stage_and_absent_without_it(tmp_path):
    import random

    from vzero.pocket.families import FAMILIES, ask
    from vzero.pocket.world import draw, scene_to_json

    _, scene = draw(3, 0)
    asked = next(
        found for family in FAMILIES.values() if (found := ask(random.Random(1), family, scene)) is not None
    )
    rows = [
        {"question_id": "1-x", "image_id": "x", "valid": True, "text": asked.text},
        {"question_id": "1-y", "image_id": "x", "valid": True, "text": "no such words"},
    ]
    stage = Stage("00-images", "images", 0, {}, {})

    def run() -> Run:
        manifest = artefacts.seal(tmp_path, {})
        return Run(tmp_path, load_preset("pocket"), {stage.name: SealedStage(stage, tmp_path, manifest)}, {})

    assert ground_truth.pocket_truths(run(), rows) is None
    artefacts.write_jsonl(tmp_path / "ground_truth.jsonl", [{"image_id": "x", "scene": scene_to_json(scene)}])
    found = ground_truth.pocket_truths(run(), rows)
    assert (found["1-x"].answer, found["1-x"].well_posed) == (asked.gold, True)
    assert (found["1-y"].family, found["1-y"].well_posed) == (None, False)


def test_recycled_questions_are_measured_as_all_that_the_training_asked(tmp_path):
    """Four completions: a kept question, the same again (no label of its own), an invalid one, a sure one."""
    preset = changed(load_preset("smoke"), {"solver.questions": "recycled"})
    ask = "<question> {} A) red B) blue C) green D) pink </question> <answer> red A </answer>"
    first, sure = ["A"] * 6 + ["B"] * 4, ["C"] * 10
    said = [("what color ?", first), ("what color ?", sure), ("no options", None), ("which ?", sure)]
    rows = [
        {"generation": 1, "prompt": "i0", "index": i, "tokens": 9, "finish_reason": "stop", "intuitive": "A"}
        | {"text": ask.format(text) if votes else text, "votes": votes, "reward": 0.0, "advantage": 0.0}
        for i, (text, votes) in enumerate(said)
    ]
    label = {"image_id": "i0", "intuitive": "A", "text": "what color ? A) red B) blue C) green D) pink"}
    labels = [
        {
            **label,
            "question_id": "1-i0-asked-1-0",
            "votes": first,
            "answer": "A",
            "confidence": 0.6,
            "kept": True,
        },
        {
            **label,
            "question_id": "1-i0-asked-1-3",
            "votes": sure,
            "answer": "C",
            "confidence": 1.0,
            "kept": False,
        },
    ]
    stages = {}
    for stage in plan(preset):
        written = {"train-questioner": ("rollouts.jsonl", rows), "recycle": ("labels.jsonl", labels)}
        if stage.kind in written:
            artefacts.write_jsonl(tmp_path / stage.name / written[stage.kind][0], written[stage.kind][1])
            manifest = artefacts.seal(tmp_path / stage.name, {})
            stages[stage.name] = SealedStage(stage, tmp_path / stage.name, manifest)
    found = ground_truth.by_iteration(Run(tmp_path, preset, stages, {}))[1]
    assert (found.written, found.valid.value, found.duplicates.value) == (4, 0.75, pytest.approx(1 / 3))
    assert (found.kept_count, found.kept.n, found.agreement.value) == (1, 2, 0.5)
