"""A run that somebody else made and sealed again: its values may be of any kind, its rows may name what is
not there. What reads it says so in a sentence, or does without.

VZERO_FAULTS is how many runs with one misshapen value are tried (default 3); the campaign tries more.
"""

from __future__ import annotations

import io
import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from harness.analysis import ground_truth
from harness.cli import app
from harness.report import finish, pictures
from harness.runs import ledger
from harness.runs.sealed import Run, read_run
from harness.watch.view import Watch
from tests.faults import damage
from tests.faults.test_pictures import jpeg_of_scans
from tests.fixtures import synthetic_run
from tests.fixtures.stage_rows import ROWS
from vzero.errors import InputError
from vzero.images import isolated
from vzero.images.decoding import sha256
from vzero.images.records import ImageRecord
from vzero.presets import changed
from vzero.runtime import artefacts
from vzero.runtime.stage import main, read_preset
from vzero.stages import PROGRAMS

TRIES = int(os.environ.get("VZERO_FAULTS", "3"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("strangers") / "run"
    synthetic_run.make(place, count=8, items_per_family=2)
    ledger.append(place, {"event": "run-started", "command": "reproduce"})
    ledger.append(place, {"event": "run-finished", "command": "reproduce"})
    return place


@pytest.mark.parametrize("number", range(TRIES))
def test_a_misshapen_value_is_a_sentence(run: Path, tmp_path: Path, number: int) -> None:
    other = shutil.copytree(run, tmp_path / "run")
    what = damage.misshape(other, random.Random(number))
    for words in (["check", str(other), "--format", "github"], ["diff", str(run), str(other)]):
        found = CliRunner().invoke(app, words)
        assert found.exit_code in (0, 1, 2) and "fault in the program" not in found.stderr, (what, words)


@pytest.mark.parametrize("place", ROWS)
@pytest.mark.parametrize("odd", [{}, [{}], "x", -1, 10**40, float("inf"), 1e300])
def test_each_column_is_held_to_its_kind(tmp_path: Path, place: str, odd: object) -> None:
    kind, _, name = place.rpartition("/")
    path, good = tmp_path / name, ROWS[place]
    artefacts.write_jsonl(path, [good])
    assert artefacts.read_rows(path, kind) == [good]
    for column, value in good.items():
        number = isinstance(value, float) or column == "kl"
        if (isinstance(odd, str) and isinstance(value, str)) or (odd == -1 and number):
            continue  # of its kind
        path.write_text(f"{json.dumps(good)}\n{json.dumps({**good, column: odd})}\n")
        with pytest.raises(
            InputError, match=f"{name} is not what a run writes \\((row 2, .*{column}|it holds)"
        ):
            artefacts.read_rows(path, kind)


@pytest.mark.parametrize(
    ("section", "value"),
    [
        ("facts", {"steps": "many"}),
        ("facts", {"x": 1e300}),
        ("facts", []),
        ("provenance", {"git": {}}),
        ("files", {"a": 1}),
    ],
)
def test_a_seal_of_another_form_is_none(run: Path, tmp_path: Path, section: str, value: object) -> None:
    folder = shutil.copytree(run / "stages" / "04-label-1", tmp_path / "stage")
    assert artefacts.sealed(folder) is not None
    manifest = artefacts.read_json(folder / artefacts.MANIFEST)
    del manifest["digest"]
    (folder / artefacts.MANIFEST).write_text(json.dumps({**manifest, section: value}))
    assert artefacts.sealed(folder) is None


@pytest.mark.parametrize(
    ("name", "measure"),
    [("image_id", ground_truth.trained_on), ("question_id", ground_truth.by_iteration)],
    ids=["image_id", "question_id"],
)
def test_what_names_nothing_of_the_run_is_said(
    run: Path, tmp_path: Path, name: str, measure: Callable[[Run], object]
) -> None:
    other = shutil.copytree(run, tmp_path / "run")
    path = other / "stages" / "04-label-1" / "labels.jsonl"
    rows = artefacts.read_jsonl(path)
    artefacts.write_jsonl(path, [{**rows[0], name: "\x1b[2Jnowhere"}, *rows[1:]])
    damage.seal_again(other)
    stranger = read_run(other)
    assert not stranger.missing
    with pytest.raises(InputError, match=r"do not fit together: one speaks of '.*nowhere'"):
        measure(stranger)


QUESTIONS, LABELS = "03-write-questions-1/questions.jsonl", "04-label-1/labels.jsonl"
UNFIT = "do not fit together: one speaks of 'nowhere'"


@pytest.mark.parametrize(
    ("changes", "stage", "file", "column", "value", "said"),
    [
        ({}, "03-write-questions-1", "00-images/images.jsonl", "width", "3", "row 2, width"),
        ({}, "04-label-1", QUESTIONS, "text", 3, "row 2, text"),
        ({}, "04-label-1", QUESTIONS, "image_id", "nowhere", UNFIT),
        ({}, "05-train-solver-1", LABELS, "kept", "yes", "row 2, kept"),
        ({}, "05-train-solver-1", LABELS, "image_id", "nowhere", UNFIT),
        ({"solver.objective": "sft"}, "05-train-solver-1", LABELS, "answer", "E", "row 2, answer"),
        ({"solver.objective": "sft"}, "05-train-solver-1", "04-label-1/votes.jsonl", "text", None, "row 2"),
        ({"solver.objective": "sft"}, "05-train-solver-1", LABELS, "image_id", "nowhere", UNFIT),
        ({"solver.answerable": True}, "05-check-options-1", LABELS, "text", [], "row 2, text"),
        ({"solver.answerable": True}, "05-check-options-1", LABELS, "image_id", "nowhere", UNFIT),
        ({"solver.labels": "random"}, "05-select-1", LABELS, "question_id", 7, "row 2, question_id"),
        ({"solver.labels": "truth"}, "05-select-1", LABELS, "image_id", "nowhere", UNFIT),
        ({"solver.labels": "truth"}, "05-select-1", "00-images/ground_truth.jsonl", "scene", 1, "row 2"),
        (
            {"solver.labels": "truth"},
            "05-select-1",
            "00-images/ground_truth.jsonl",
            "scene",
            [["x"]],
            "scene",
        ),
        (
            {"solver.questions": "recycled"},
            *("03-recycle-1", "02-train-questioner-1/rollouts.jsonl", "votes", "A", "row 2, votes"),
        ),
    ],
)
def test_a_stage_that_would_go_on_from_such_rows_says_which(
    changes: dict[str, object],
    stage: str,
    file: str,
    column: str,
    value: object,
    said: str,
    run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = Path(shutil.copytree(run, tmp_path / "run"))
    preset = changed(read_preset(other), changes)
    artefacts.write_json(other / "run.json", {"preset": preset.model_dump(mode="json")})
    path = other / "stages" / file
    rows = artefacts.read_jsonl(path) if path.exists() else [ROWS[f"train-questioner/{path.name}"]] * 2
    # All but one, since not every one of them is kept.
    artefacts.write_jsonl(path, [rows[0], *({**row, column: value} for row in rows[1:])])
    damage.seal_again(other)
    shutil.rmtree(other / "stages" / stage, ignore_errors=True)
    assert main(PROGRAMS, [str(other), stage]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line and (said == UNFIT or path.name in line or said == "scene"), line


def test_rows_of_the_ledger_that_are_none_are_left_out(run: Path, tmp_path: Path) -> None:
    other = shutil.copytree(run, tmp_path / "run")
    known = ledger.read(other)
    odd = (
        {"event": 3},
        {"event": "stage-started"},
        {"time": "0001-01-01", "event": "x"},
        {"time": [], "event": "x"},
    )
    with (other / ledger.NAME).open("a") as stream:
        for row in (*odd, {"time": known[0]["time"], "event": "stage-failed", "stage": [], "seconds": "x"}):
            stream.write(json.dumps(row) + "\n")
        stream.write("[" * 100_000 + "\n7\n")
    assert ledger.read(other) == known
    assert Watch(other).look().state == "finished"


def test_a_model_that_a_stranger_names_is_not_fetched(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr("httpx.Client.send", lambda one, request, **_: asked.append(request.url))
    other = shutil.copytree(run, tmp_path / "run")
    for path in (other / "run.json", *other.glob("stages/*/manifest.json")):
        path.write_text(path.read_text().replace('"model": "pocket"', '"model": "stranger/model"'))
        if path.name == artefacts.MANIFEST:
            artefacts.write_json(path, {k: v for k, v in artefacts.read_json(path).items() if k != "digest"})
    assert read_run(other).preset.model == "stranger/model" and not read_run(other).missing
    assert CliRunner().invoke(app, ["check", str(other), "--no-reference"]).exit_code == 1
    assert finish(other).compute.flop is None and asked == []


def test_a_strangers_costly_picture_costs_a_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody looked at it here, whatever its run says."""
    monkeypatch.setattr(isolated, "SECONDS", 1)
    made, sizes = io.BytesIO(), ((1500, 12_000), (40, 0))
    Image.new("RGB", (40, 40), (1, 2, 3)).save(made, "PNG")
    records = []
    for (side, scans), data in zip(sizes, (jpeg_of_scans(*sizes[0]), made.getvalue()), strict=True):
        path = tmp_path / str(scans)
        path.write_bytes(data)
        records.append(ImageRecord(str(scans), path, sha256(data), side, side))
    assert list(pictures.thumbnails(records)) == [records[1].sha256]
