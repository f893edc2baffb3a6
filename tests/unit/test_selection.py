"""Which questions with which labels: random ones that are random, true ones that are true, limits that hold;
options moved and checked."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests import tiny_model
from tests.fixtures.stage_rows import ROWS
from tests.stub_engine import StubEngine
from vzero.arms import answerability, selection
from vzero.arms.answerability import rotate_options
from vzero.config import SamplingConfig
from vzero.errors import InputError
from vzero.pocket.families import FAMILIES, ask
from vzero.pocket.world import draw, scene_to_json
from vzero.presets import changed, load_preset
from vzero.rollout import engines
from vzero.rollout.protocol import Completion, Request, Rollout
from vzero.runtime import artefacts
from vzero.runtime.progress import Progress
from vzero.runtime.stage import StageContext
from vzero.selfplay import plan

TEXT = "how many ? A) 1 B) 2 C) 3 D) 4"


def label(
    i: int, answer: str | None = "A", kept: bool = True, text: str = TEXT, image: str = "i0"
) -> dict[str, Any]:
    row = {"question_id": f"1-{i}", "image_id": image, "text": text, "intuitive": "A", "votes": [answer] * 10}
    return {**row, "answer": answer, "confidence": 0.5, "kept": kept}


def select(
    folder: Path,
    labels: list[dict[str, Any]],
    changes: dict[str, Any],
    images: Path | None = None,
    **inputs: Path,
) -> list[dict[str, Any]]:
    artefacts.write_jsonl(folder / "labels" / "labels.jsonl", labels)
    preset = changed(load_preset("smoke"), changes)
    stage = next(one for one in plan(preset) if one.kind == "select")
    given = {"images": images or folder, **inputs}
    if "questions" not in inputs:
        given["labels"] = folder / "labels"
    if "described" in inputs:
        given["questions"] = inputs["described"]
    selection.run(StageContext(stage, preset, folder / "out", given, Progress(folder / "progress.jsonl")))
    return artefacts.read_jsonl(folder / "out" / "labels.jsonl")


@pytest.mark.slow
def test_random_labels_are_random_and_not_the_majority(tmp_path: Path) -> None:
    labels = [label(i, "A") for i in range(4000)]
    rows = select(tmp_path, labels, {"solver.labels": "random"})
    counts = Counter(row["answer"] for row in rows)
    assert set(counts) == set("ABCD")
    assert (
        sum((count - 1000) ** 2 / 1000 for count in counts.values()) < 16.3
    )  # chi-square, 3 degrees of freedom, p = .001
    assert [row["votes"] for row in rows] == [row["votes"] for row in labels] and all(
        row["kept"] for row in rows
    )
    again = select(tmp_path, labels, {"solver.labels": "random"})
    other = select(tmp_path, labels, {"solver.labels": "random", "seed": 1})
    assert (
        again == rows and sum(a["answer"] == b["answer"] for a, b in zip(rows, other, strict=True)) < 1150
    )  # a quarter by chance


def test_random_labels_keep_the_filters_choice(tmp_path: Path) -> None:
    rows = select(tmp_path, [label(i, kept=i % 3 == 0) for i in range(30)], {"solver.labels": "random"})
    assert [row["kept"] for row in rows] == [i % 3 == 0 for i in range(30)]


def test_true_labels_are_the_worlds(tmp_path: Path) -> None:
    import random

    scenes, labels, gold = [], [], {}
    rng = random.Random(0)
    for i in range(40):
        _, scene = draw(0, i)
        scenes.append({"image_id": f"i{i}", "scene": scene_to_json(scene)})
        asked = next(found for family in FAMILIES.values() if (found := ask(rng, family, scene)) is not None)
        gold[f"1-{i}"] = asked.gold
        labels.append(label(i, "A", kept=i < 10, text=asked.text, image=f"i{i}"))
    labels.append(
        label(40, "A", kept=True, text="what is this ? A) 1 B) 2 C) 3 D) 4", image="i0")
    )  # no question the world understands
    artefacts.write_jsonl(tmp_path / "world" / "ground_truth.jsonl", scenes)
    rows = {
        row["question_id"]: row
        for row in select(tmp_path, labels, {"solver.labels": "truth"}, tmp_path / "world")
    }
    assert {name: rows[name]["answer"] for name in gold} == gold and rows["1-40"]["answer"] is None
    # Eleven were kept, one of them has no true answer: the other ten stay, and one that the filter dropped
    # makes up the number.
    kept = [name for name, row in rows.items() if row["kept"]]
    assert len(kept) == 11 and set(kept) >= {f"1-{i}" for i in range(10)} and "1-40" not in kept
    limited = select(tmp_path, labels, {"solver.labels": "truth", "step_matched": [4]}, tmp_path / "world")
    assert sum(row["kept"] for row in limited) == 4 and all(
        int(row["question_id"][2:]) < 10 for row in limited if row["kept"]
    )


def test_true_labels_need_a_world_that_knows_them(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="known answers"):
        select(tmp_path, [label(0)], {"solver.labels": "truth"})


def test_no_filter_and_its_limit(tmp_path: Path) -> None:
    labels = [label(i, None if i % 5 == 0 else "B", kept=i < 3) for i in range(20)]
    free = select(tmp_path, labels, {"solver.filter": "none"})
    assert [row["kept"] for row in free] == [i % 5 != 0 for i in range(20)]
    limited = select(tmp_path, labels, {"solver.filter": "none", "step_matched": [7]})
    chosen = {row["question_id"] for row in limited if row["kept"]}
    assert (
        len(chosen) == 7
        and chosen <= {row["question_id"] for row in free if row["kept"]}
        and chosen != {f"1-{i}" for i in range(1, 8)}
    )
    assert (
        sum(row["kept"] for row in select(tmp_path, labels, {"solver.filter": "none", "step_matched": [0]}))
        == 0
    )


def test_objectives_without_labels_take_the_valid_questions(tmp_path: Path) -> None:
    rows = [
        {**ROWS["questions.jsonl"], "question_id": f"1-{i}", "image_id": "i0", "text": TEXT, "valid": i != 2}
        for i in range(4)
    ]
    artefacts.write_jsonl(tmp_path / "questions" / "questions.jsonl", rows)
    settings = {"solver.labels": "none", "solver.filter": "none", "solver.objective": "group_majority"}
    found = select(tmp_path, [], settings, questions=tmp_path / "questions")
    assert [(row["question_id"], row["answer"], row["kept"]) for row in found] == [
        (f"1-{i}", None, True) for i in (0, 1, 3)
    ]


def test_checked_options_decide(tmp_path: Path) -> None:
    labels = [label(0), label(1), label(2, kept=False)]
    checks = [{**ROWS["checks.jsonl"], "question_id": f"1-{i}", "answerable": i != 1} for i in range(3)]
    artefacts.write_jsonl(tmp_path / "checks" / "checks.jsonl", checks)
    rows = select(tmp_path, labels, {"solver.answerable": True}, checks=tmp_path / "checks")
    assert [row["kept"] for row in rows] == [True, False, False]


SAID = """def label(question):
    return question.vote_texts[1][0] if question.options == ("1", "2", "3", "4") else None
def keep(batch):
    return [len(one.description) > 2 and one.image.width == 42 and one.label != "D" for one in batch]
"""


def test_a_reward_file_labels_and_keeps_by_all_that_was_said(tmp_path: Path) -> None:
    """The label is what the second vote begins with; kept is what was described, and not labelled D."""
    record = {"image_id": "i0", "path": "0.png", "sha256": "", "width": 42, "height": 42}
    artefacts.write_jsonl(tmp_path / "images" / "images.jsonl", [record])
    seconds = ["B so", "C so", "D so", "A so"]
    rows = [label(i, "A", kept=i == 2, text=TEXT if i != 3 else "how many ? A) 1 B) 2") for i in range(4)]
    votes = [
        {**ROWS["votes.jsonl"], "question_id": f"1-{i}", "text": text}
        for i, second in enumerate(seconds)
        for text in ("A", second)
    ]
    seen = [
        {**ROWS["questions.jsonl"], "question_id": f"1-{i}", "description": "" if i == 1 else "a dog"}
        for i in range(4)
    ]
    artefacts.write_jsonl(tmp_path / "labels" / "votes.jsonl", votes)
    artefacts.write_jsonl(tmp_path / "written" / "questions.jsonl", seen)
    places = {"votes": tmp_path / "labels", "described": tmp_path / "written"}
    own = {"solver.labels": "own", "solver.filter": "own", "solver.selection_source": SAID}
    found = select(tmp_path, rows, own, tmp_path / "images", **places)
    assert [(row["answer"], row["kept"]) for row in found] == [
        ("B", True),
        ("C", False),
        ("D", False),
        (None, False),
    ]
    # Labels alone leave the filter's choice as it was; a choice alone the majority.
    only = select(tmp_path, rows, {**own, "solver.filter": "confidence"}, tmp_path / "images", **places)
    assert [(row["answer"], row["kept"]) for row in only] == [
        ("B", False),
        ("C", False),
        ("D", True),
        (None, False),
    ]
    chosen = select(tmp_path, rows, {**own, "solver.labels": "majority"}, tmp_path / "images", **places)
    assert [(row["answer"], row["kept"]) for row in chosen] == [
        ("A", True),
        ("A", False),
        ("A", True),
        ("A", True),
    ]
    limited = {**own, "solver.labels": "majority", "step_matched": [1]}
    assert sum(row["kept"] for row in select(tmp_path, rows, limited, tmp_path / "images", **places)) == 1


@pytest.mark.parametrize(
    ("questions", "roles"),
    [("written", {"questions", "votes"}), ("both", {"questions", "votes"}), ("recycled", set())],
)
def test_a_selection_of_ones_own_is_given_what_was_said_of_bought_questions(
    questions: str, roles: set[str]
) -> None:
    own = {"solver.filter": "own", "solver.selection_source": SAID, "solver.questions": questions}
    stages = plan(changed(load_preset("smoke"), own))
    (given,) = [one.inputs for one in stages if one.kind == "select"]
    assert given.keys() - {"images", "labels"} == roles
    assert all(given[role] in {one.name for one in stages} for role in roles)


def test_rotated_options_by_hand() -> None:
    assert rotate_options(TEXT) == "how many ? A) 4 B) 1 C) 2 D) 3"
    assert (
        rotate_options("Which?\nA) red fish\nB) blue\nC) one\nD) two.")
        == "Which?\nA) two.\nB) red fish\nC) blue\nD) one"
    )
    for text in (
        "A) 1 B) 2 D) 4 C) 3",
        "A) 1 B) 2 C) 3",
        "see A) in A) 1 B) 2 C) 3 D) 4",
        "A) B) 2 C) 3 D) 4",
        "",
    ):
        assert rotate_options(text) is None


WORDS = st.text("abc 12\n", min_size=1, max_size=6).filter(str.strip)


@given(WORDS, st.lists(WORDS, min_size=4, max_size=4))
def test_four_turns_are_none(stem: str, options: list[str]) -> None:
    text = stem + "".join(
        f"{mark}{option}" for mark, option in zip(("A)", "B)", "C)", "D)"), options, strict=True)
    )
    turned: str | None = text
    for _ in range(4):
        assert turned is not None
        turned = rotate_options(turned)
    assert turned == text


class Seeing(StubEngine):
    """Votes for the option whose text is `value`, wherever it stands; for A where it is not offered (a bias
    of places)."""

    def __init__(self, value: str) -> None:
        self.value, self.asked = value, 0

    def generate(self, requests: Sequence[Request], sampling: SamplingConfig) -> list[Rollout]:
        self.asked += len(requests)
        found = []
        for request in requests:
            words = request.messages[-1].text.split()
            letter = words[words.index(self.value) - 1][0] if self.value in words else "A"
            found.append(
                Rollout(
                    1,
                    tuple(
                        Completion(f"\\boxed{{ {letter} }}", (1, 2), (0.0, 0.0), "stop")
                        for _ in range(sampling.n)
                    ),
                )
            )
        return found


def test_a_majority_that_follows_its_option_is_answerable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "images").mkdir()
    path = tmp_path / "images" / "0.png"
    tiny_model.picture(0).save(path)
    row = {
        "image_id": "i0",
        "path": "0.png",
        "sha256": artefacts.sha256_file(path),
        "width": 42,
        "height": 42,
    }
    artefacts.write_jsonl(tmp_path / "images" / "images.jsonl", [row])
    labels = [
        label(0, "C"),  # 3 is the third option: found again at D
        label(1, "A", text="how many ? A) 5 B) 6 C) 7 D) 8"),  # 3 is not offered: A by its place, and A again
        label(2, "C", kept=False),
        label(3, "B", text="odd layout B) 3 A) 1 C) 2 D) 4"),
    ]
    artefacts.write_jsonl(tmp_path / "labels" / "labels.jsonl", labels)
    preset = changed(load_preset("smoke"), {"solver.answerable": True})
    stage = next(one for one in plan(preset) if one.kind == "check-options")
    seeing = Seeing("3")
    monkeypatch.setattr(engines, "open_engine", lambda config, checkpoint: seeing)
    inputs = {"images": tmp_path / "images", "labels": tmp_path / "labels", "solver": tmp_path}
    facts = answerability.run(
        StageContext(stage, preset, tmp_path / "out", inputs, Progress(tmp_path / "progress.jsonl"))
    )
    rows = artefacts.read_jsonl(tmp_path / "out" / "checks.jsonl")
    assert [row["answerable"] for row in rows] == [True, False, False, False]
    assert (
        rows[0]["answer"] == "C"
        and rows[0]["votes"] == ["D"] * 10
        and rows[1]["answer"] == "D"
        and rows[2]["votes"] is None
    )
    assert seeing.asked == 2 and (facts["checked"], facts["answerable"]) == (2, 1)
