"""What a run cost and what its Solver was trained on, against plain counting of a synthetic run's files."""

from __future__ import annotations

import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import pytest

from harness.analysis.compute import compute
from harness.analysis.ground_truth import trained_on
from harness.cost.shapes import size_of
from harness.runs.sealed import Run, SealedStage, read_run
from vzero.pocket.ground_truth import truth
from vzero.pocket.world import scene_from_json
from vzero.presets import changed, load_preset
from vzero.rollout import template
from vzero.runtime import artefacts
from vzero.selfplay import Stage, plan

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


@pytest.mark.slow
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


def test_operations_are_those_of_the_formulas_by_hand(tmp_path: Path) -> None:
    """Two questions about two pictures, voted on and trained on: lengths from the processor itself, and the
    formulas of `harness.cost.flops` written out again."""
    from PIL import Image

    from vzero.prompts import solver_messages
    from vzero.runtime.checkpoints import POCKET, load_processor

    preset = load_preset("smoke")
    stages = {stage.kind: stage for stage in plan(preset)}
    words = {"q1": "how many red shapes ? A) 1 B) 2 C) 3 D) 4", "q2": "is it red ? A) yes B) no C) 1 D) 2"}
    voted = {"intuitive": None, "votes": [], "answer": None, "confidence": 0.0, "kept": True}
    labels = [
        {**voted, "question_id": name, "image_id": f"i{name}", "text": text} for name, text in words.items()
    ]
    replies = {"q1": [9, 12], "q2": [20, 7]}
    drawn = {"index": 0, "finish_reason": "stop", "text": "", "label": None, "reward": 0.0, "advantage": 0.0}
    rollouts = [
        {**drawn, "generation": 1, "prompt": name, "tokens": tokens}
        for name, own in replies.items()
        for tokens in own
    ]
    images = [{"image_id": f"i{name}", "path": "", "sha256": "", "width": 42, "height": 42} for name in words]
    facts = {"prompts_used": 2, "generations": 1, "steps": 2}
    run = Run(
        tmp_path,
        preset,
        {
            "00-images": sealed(tmp_path, stages["images"], {"images.jsonl": images}, {}),
            "04-label-1": sealed(
                tmp_path, stages["label"], {"labels.jsonl": labels, "votes.jsonl": []}, {"tokens": 200}
            ),
            "05-train-solver-1": sealed(
                tmp_path, stages["train-solver"], {"rollouts.jsonl": rollouts}, facts
            ),
        },
        {},
    )
    found = compute(run)
    processor, picture = load_processor(POCKET), Image.new("RGB", (42, 42))
    prompts, patches = [], 0
    for text in words.values():
        rendered = template.render(processor, solver_messages("pocket", text), with_image=True)
        encoded = processor(text=[rendered], images=[picture], return_tensors="pt")
        prompts.append(encoded["input_ids"].shape[1])
        patches = int(encoded["image_grid_thw"].prod())
    shape = size_of("pocket").flops

    def text_flop(x: float, p: float, y: float) -> float:
        return 2 * shape.text_weights * x + 4 * shape.layers * shape.width * p + 2 * shape.head_weights * y

    def draw(groups: list[tuple[int, list[float]]]) -> float:
        fed = sum(own - 1 for _, all_own in groups for own in all_own)
        pairs = sum(n * (n + 1) / 2 for n, _ in groups)
        pairs += sum((own - 1) * n + (own - 1) * own / 2 for n, all_own in groups for own in all_own)
        return text_flop(sum(n for n, _ in groups) + fed, pairs, len(groups) + fed)

    see = 2 * (
        2 * shape.vision_weights * patches + 4 * shape.vision_width * shape.vision_pairs(patches)
    )  # both pictures once
    voted = draw([(n, [10.0] * 10) for n in prompts]) + see
    groups = list(zip(prompts, replies.values(), strict=True))
    x = sum(n - 1 + sum(own) for n, own in groups)
    p = sum((n - 1) * n / 2 + sum(one * (n - 1) + one * (one + 1) / 2 for one in own) for n, own in groups)
    once = text_flop(x, p, sum(map(sum, replies.values())))
    # The update goes back through the text alone; the reference scores all, the old policy the second step.
    trained = draw(groups) + see + 3 * once + see + 1.5 * (once + see)
    assert found.stages["04-label-1"].flop == pytest.approx(voted, rel=1e-3)
    assert found.stages["05-train-solver-1"].flop == pytest.approx(trained, rel=1e-3)
    assert found.flop == pytest.approx(voted + trained, rel=1e-3)
    solver = found.stages["05-train-solver-1"]
    assert (solver.read, solver.drawn, solver.trained, solver.pictures) == (sum(prompts), 48, 48, 7)
    assert found.stages["00-images"].flop == 0


def sealed(run: Path, stage: Stage, files: dict[str, list[dict]], facts: dict) -> SealedStage:
    folder = run / "stages" / stage.name
    for name, lines in files.items():
        artefacts.write_jsonl(folder / name, lines)
    return SealedStage(stage, folder, {"files": artefacts.folder_hashes(folder), "facts": facts})


def test_a_stage_of_an_unknown_kind_counts_by_what_it_left(run: Path) -> None:
    whole = read_run(run)
    assert compute(whole).stages is None, "trainings without rollouts: not recorded, and no total"
    drew_nothing = {name: one for name, one in whole.stages.items() if one.stage.kind == "images"}
    other = replace(whole.stages["00-images"].stage, kind="recycle", name="03-recycle-1", iteration=1)
    silent = SealedStage(other, run, {"files": {}, "facts": {"kept": 40}})
    drawing = SealedStage(other, run, {"files": {}, "facts": {"tokens": 400}})
    assert compute(replace(whole, stages={**drew_nothing, "03": silent})).flop == 0
    assert compute(replace(whole, stages={**drew_nothing, "03": drawing})).flop is None


def spender(monkeypatch: pytest.MonkeyPatch, flops: dict[Path, dict[str, float]]) -> None:
    """Stages cost what is written here, whatever they left."""
    from harness.analysis import matching
    from harness.analysis.measures import StageCompute

    def by_stage(run: Run) -> dict[str, StageCompute]:
        found = flops[run.path].items()
        return {name: StageCompute(iteration=int(name[-1]), flop=flop) for name, flop in found}

    monkeypatch.setattr(matching, "by_stage", by_stage)


def test_what_a_solver_may_train_on_at_equal_total_compute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from harness.analysis.matching import affordable
    from vzero.errors import InputError

    preset = load_preset("smoke", ["iterations=2"])
    stages = {stage.name: stage for stage in plan(preset)}

    def run(name: str, facts: dict[str, dict]) -> Run:
        found = {one: SealedStage(stages[one], tmp_path, {"files": {}, "facts": facts[one]}) for one in facts}
        return Run(tmp_path / name, preset, found, {})

    trained = {"05-train-solver-1": {"prompts_used": 160}, "10-train-solver-2": {"prompts_used": 64}}
    other = run("v-zero", trained)
    own = run("own", {"04-label-1": {"kept": 90}, "09-label-2": {"kept": 500}})
    rest = {"02-train-questioner-1": 1000.0, "07-train-questioner-2": 1000.0}
    # 10 a question in the first iteration, 20 in the second; generations of 16.
    theirs = {**rest, "05-train-solver-1": 1600.0, "10-train-solver-2": 1280.0}
    spender(monkeypatch, {other.path: theirs, own.path: {"02-train-questioner-1": 1450.0}})
    assert affordable(own, other, 1) == (112, 90), "1,150 are left: 115 questions, 7.2 batches; 90 kept"
    # Only 80 of them were trained on, for 800: what was left over comes to the second iteration.
    so_far = {"02-train-questioner-1": 1450.0, "05-train-solver-1": 800.0, "07-train-questioner-2": 1100.0}
    spender(monkeypatch, {other.path: theirs, own.path: so_far})
    assert affordable(own, other, 2) == (80, 500), "4,880 - 3,350 = 1,530 are left: 76.5 questions"
    source = {
        "solver.filter": "own",
        "solver.selection_source": "def keep(batch): return [True] * len(batch)",
    }
    chosen = replace(own, preset=changed(preset, source))
    assert affordable(chosen, other, 2) == (80, None), "how many a reward file keeps is not known yet"
    spender(monkeypatch, {other.path: theirs, own.path: {"02-train-questioner-1": 3000.0}})
    with pytest.raises(InputError, match=r"spent 1\.15 of the reference's total compute before"):
        affordable(own, other, 1)
    imitating = replace(own, preset=load_preset("smoke", ["iterations=2", "solver.objective=sft"]))
    with pytest.raises(InputError, match="trained otherwise"):
        affordable(imitating, other, 1)
