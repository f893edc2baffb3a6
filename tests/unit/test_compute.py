"""What a run cost and what its Solver was trained on, against plain counting of a synthetic run's files."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

from harness.analysis.compute import compute
from harness.analysis.ground_truth import trained_on
from harness.runs.sealed import read_run
from vzero.pocket.ground_truth import truth
from vzero.pocket.world import scene_from_json

ROOT = Path(__file__).resolve().parents[2]
_spec = importlib.util.spec_from_file_location(
    "synthetic_run", ROOT / "tests" / "fixtures" / "synthetic_run.py"
)
synthetic = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(synthetic)


def rows(run: Path, name: str) -> list[dict]:
    return [json.loads(line) for line in next(run.glob(name)).read_text().splitlines()]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("synthetic")
    synthetic.make(folder, hostile=False)
    return folder


def test_what_the_solver_was_trained_on(run: Path) -> None:
    scenes = {
        row["image_id"]: scene_from_json(row["scene"])
        for row in rows(run, "stages/00-images/ground_truth.jsonl")
    }
    for iteration, found in trained_on(read_run(run)).items():
        kept = [row for row in rows(run, f"stages/*-label-{iteration}/labels.jsonl") if row["kept"]]
        known = [truth(row["text"], scenes[row["image_id"]]) for row in kept]
        right = sum(
            one.well_posed and one.answer == row["answer"] for row, one in zip(kept, known, strict=True)
        )
        assert found.questions == len(kept) > 0 and found.well_posed and found.label_right
        assert found.well_posed.value == pytest.approx(sum(one.well_posed for one in known) / len(kept))
        assert (found.label_right.value, found.label_right.n) == (
            pytest.approx(right / len(kept)),
            len(kept),
        )
    assert set(trained_on(read_run(run))) == {1, 2}


def test_without_ground_truth_nothing_is_known_of_the_labels(tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "pictures").mkdir()
    for i in range(96):
        Image.new("RGB", (8, 8), (i, 0, 0)).save(tmp_path / "pictures" / f"{i:02d}.png")
    synthetic.make(
        tmp_path / "run", images=tmp_path / "pictures", stop_after="05-train-solver-1", hostile=False
    )
    [found] = trained_on(read_run(tmp_path / "run")).values()
    assert found.questions > 0 and found.well_posed is None and found.label_right is None


def test_an_unfinished_run_counts_what_is_there(tmp_path: Path) -> None:
    synthetic.make(tmp_path, stop_after="03-write-questions-1", hostile=False)
    found = compute(read_run(tmp_path))
    assert (found.images, found.written, found.steps.solver, found.votes.label) == (96, 96, 0, 0)
    assert trained_on(read_run(tmp_path)) == {}
