"""The defect label-selection: the pocket world annotates its images, the base answers, and labels decide
which images are used."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from tests.stub_engine import StubEngine
from vzero.arms import labelled_images
from vzero.errors import InputError
from vzero.images.records import load_records
from vzero.pocket import images
from vzero.pocket.ground_truth import truth
from vzero.pocket.world import scene_from_json
from vzero.presets import changed, load_preset
from vzero.rollout.protocol import Completion, Rollout
from vzero.runtime import artefacts
from vzero.runtime.progress import Progress
from vzero.runtime.stage import StageContext
from vzero.selfplay import plan

PRESET = changed(load_preset("smoke"), {"defects": ["label_selection"]})


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "stages" / "00-images"
    folder.mkdir(parents=True)
    artefacts.write_jsonl(folder / "images.jsonl", images.write(folder, 3, 40))
    return folder


class RightTimes(StubEngine):
    """Right in a set number of its ten answers, counted through the images: 0, 1, ..., 10, 0, ..."""

    def __init__(self, golds: list[str]) -> None:
        self.turns = zip(itertools.cycle(range(11)), golds, strict=False)

    def generate(self, requests, sampling):
        found = []
        for times, gold in itertools.islice(self.turns, len(requests)):
            other = "B" if gold == "A" else "A"
            texts = [f"\\boxed{{ {gold if i < times else other} }}" for i in range(sampling.n)]
            found.append(Rollout(1, tuple(Completion(text, (1,), (), "stop") for text in texts)))
        return found


def test_every_annotated_question_is_true_in_its_picture(source: Path) -> None:
    annotated = labelled_images.annotate(source, 3)
    scenes = {
        row["image_id"]: scene_from_json(row["scene"])
        for row in artefacts.read_jsonl(source / "ground_truth.jsonl")
    }
    assert set(annotated) == set(scenes) and annotated == labelled_images.annotate(
        source, 3
    ) != labelled_images.annotate(source, 4)
    judged = {name: truth(question, scenes[name]) for name, (question, _) in annotated.items()}
    assert all(one.well_posed and one.answer == annotated[name][1] for name, one in judged.items())
    assert {one.hard for one in judged.values()} == {True, False}


def test_images_are_kept_where_the_base_is_right_one_to_nine_times_of_ten(source: Path, monkeypatch) -> None:
    annotated = labelled_images.annotate(source, PRESET.seed)
    golds = [annotated[record.image_id][1] for record in load_records(source)]
    monkeypatch.setattr("vzero.rollout.engines.open_solver", lambda *_: RightTimes(golds))
    folder = source.parent / "02-choose-images"
    (folder / artefacts.WORK).mkdir(parents=True)
    inputs = {"images": source, "solver": Path("base")}
    context = StageContext(
        plan(PRESET)[2], PRESET, folder, inputs, Progress(folder / artefacts.WORK / "progress.jsonl")
    )
    facts = labelled_images.run(context)
    graded = artefacts.read_jsonl(context.folder / "graded.jsonl")
    assert [round(10 * row["right"]) for row in graded[:12]] == [*range(11), 0]
    records = load_records(context.folder)
    assert [record.image_id for record in records] == [
        row["image_id"] for row in graded if 1 <= round(10 * row["right"]) <= 9
    ]
    assert facts["chosen"] == len(records) < facts["graded"] == 40
    assert all(record.path.is_file() for record in records)


def test_images_without_truth_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needs images with true answers"):
        labelled_images.annotate(tmp_path, 0)


def test_every_stage_but_the_choice_reads_the_chosen_images() -> None:
    stages = {stage.name: stage for stage in plan(PRESET)}
    assert stages["02-choose-images"].inputs == {"images": "00-images", "solver": "base"}
    readers = [
        stage.inputs["images"]
        for stage in stages.values()
        if "images" in stage.inputs and stage.kind != "choose-images"
    ]
    assert readers and set(readers) == {"02-choose-images"}
