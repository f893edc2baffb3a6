"""Curves in a tracker: what is sent, once, in order, however often a run is begun; a tracker that fails ends
no run."""

from __future__ import annotations

import json
import re
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from harness.analysis.results import read_results
from harness.cli import app
from harness.report import finish, track
from tests.fixtures import synthetic_run
from vzero.runtime import artefacts
from vzero.runtime.stage import read_preset

pytestmark = pytest.mark.slow


class Kept:
    """A tracker of the reader's own, as accelerate's interface has it."""

    def __init__(self) -> None:
        self.points: list[tuple[int, dict[str, Any]]] = []
        self.finished = False

    def log(self, values: dict[str, Any], step: int) -> None:
        self.points.append((step, values))

    def finish(self) -> None:
        print("* Run finished")
        self.finished = True


def known(run: Path) -> track.Sent:
    path = run / track.SENT
    return track.Sent.model_validate_json(path.read_text()) if path.exists() else track.Sent()


def rows(run: Path, stage: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "stages" / stage / "metrics.jsonl").open()]


def test_every_row_is_sent_once_whenever_the_run_is_cut(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    synthetic_run.make(run, count=12, items_per_family=2)
    preset, first = read_preset(run), Kept()
    shutil.copytree(run, tmp_path / "whole")
    # Killed in the Solver's first training, in the middle of a row: what came later is not there yet.
    cut = run / "stages" / "05-train-solver-1" / "metrics.jsonl"
    whole = cut.read_text()
    cut.write_text(whole[: len(whole) // 2])
    shutil.rmtree(run / "stages" / "07-train-questioner-2")
    shutil.rmtree(run / "stages" / "10-train-solver-2")
    track.Curves(first, preset, run, known(run)).close()
    for stage in ("05-train-solver-1", "07-train-questioner-2", "10-train-solver-2"):
        shutil.copytree(tmp_path / "whole" / "stages" / stage, run / "stages" / stage, dirs_exist_ok=True)
    finish(run)
    second = Kept()
    track.Curves(second, preset, run, known(run)).close()
    assert capsys.readouterr().out == ""
    again = Kept()
    track.Curves(again, preset, run, known(run)).close()
    points = first.points + second.points
    assert first.points and first.finished and second.finished and again.points == []
    assert [step for step, _ in points] == list(range(len(points)))
    for stage in ("02-train-questioner-1", "05-train-solver-1", "07-train-questioner-2", "10-train-solver-2"):
        sent = [
            {key.removeprefix(f"{stage}/"): value for key, value in values.items()}
            for _, values in points
            if any(key.startswith(f"{stage}/") for key in values)
        ]
        told = [{k: v for k, v in row.items() if v is not None} for row in rows(run, stage)]
        assert sent == told and len(sent) > 1
    results = read_results(run / "results.json")
    measured = [values for _, values in points if "iteration" in values]
    assert [values["iteration"] for values in measured] == [0, 1, 2]
    for model, values in zip(("base", "S1", "S2"), measured, strict=True):
        for suite in results.suites:
            found = results.suites[suite][model].accuracy["greedy"].value
            assert values[f"accuracy/{suite}/greedy"] == pytest.approx(100 * found)


class Broken(Kept):
    """A tracker whose disk is full."""

    def log(self, values: dict[str, Any], step: int) -> None:
        raise OSError("no space")


def test_a_tracker_that_fails_is_said_once_and_ends_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    synthetic_run.make(tmp_path / "run", count=12, items_per_family=2)
    track.Curves(Broken(), read_preset(tmp_path / "run"), tmp_path / "run", track.Sent()).close()
    assert capsys.readouterr().err.count("tracking ended, the run goes on: OSError: no space") == 1
    assert not (tmp_path / "run" / track.SENT).exists()


@pytest.mark.parametrize("key", ["/../../../out/of/it", "", "0" * 9, "\x1b[2J"])
def test_a_strangers_key_names_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    """It is part of the name that a tracker gets, and of tensorboard's folder."""
    given: list[str] = []
    monkeypatch.setattr(track, "_started", lambda *words: given.append(words[-1]) or Kept())
    synthetic_run.make(tmp_path / "run", stop_after="00-images", count=2)
    artefacts.write_json(tmp_path / "run" / track.SENT, {"key": key, "rows": {}})
    with track.tracking("tensorboard", read_preset(tmp_path / "run"), tmp_path / "run"):
        pass
    assert given == [known(tmp_path / "run").key] and re.fullmatch("[0-9a-f]{8}", given[0])


def test_a_tracker_that_does_not_start_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The real one, told to send what it has no key for."""
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "no such mode")
    synthetic_run.make(tmp_path / "run", count=12, items_per_family=2)
    reached = []
    with track.tracking("wandb", read_preset(tmp_path / "run"), tmp_path / "run"):
        reached.append(True)
    said = capsys.readouterr().err
    assert reached and said.count("tracking ended, the run goes on: ") == 1


def test_a_run_stopped_before_its_first_row_goes_on_under_its_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synthetic_run.make(tmp_path, stop_after="00-images", count=12, items_per_family=2)
    keys: list[str] = []
    monkeypatch.setattr(track, "_started", lambda *words: keys.append(words[-1]) or Kept())
    for _ in range(2):
        with track.tracking("wandb", read_preset(tmp_path), tmp_path):
            pass
    assert keys[0] == keys[1] and known(tmp_path).rows == {}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"rows": {"a": "b"}}'])
def test_a_damaged_record_of_what_was_sent_is_another_run_sent_whole(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, names = tmp_path / "run", []
    synthetic_run.make(run, count=12, items_per_family=2)
    monkeypatch.setattr(track, "_started", lambda *words: names.append(words[-1]) or Kept())
    for damage in (None, None, text):
        if damage is not None:
            (run / track.SENT).write_text(damage)
        with track.tracking("wandb", read_preset(run), run):
            pass
    assert names[0] == names[1] != names[2]
    assert known(run).key == names[2] and known(run).rows


def test_a_tracker_that_is_not_there_is_said_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(track, "find_spec", lambda name: None)
    for command in ("reproduce", "train"):
        words = [command, "--preset", "smoke", "--track", "trackio", "--out", str(tmp_path / "run")]
        found = CliRunner().invoke(app, words)
        said = " ".join(found.stderr.split())
        assert found.exit_code == 2 and "trackio, which is not installed: pip install" in said
    assert not (tmp_path / "run").exists()


def test_wandb_writes_offline_and_without_being_asked_sends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real one: its own file on this disk holds settings and curves, and no program."""
    pytest.importorskip("wandb")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("WANDB_SILENT", "true")
    run = tmp_path / "grid" / "seed-0"
    synthetic_run.make(run, count=12, items_per_family=2)
    source = "def keep(batch): return [True] * len(batch)  # my secret"
    stored = artefacts.read_json(run / "run.json")
    stored["preset"]["solver"] |= {"filter": "own", "selection_source": source}
    artefacts.write_json(run / "run.json", stored)
    with track.tracking("wandb", read_preset(run), run):
        pass
    (file,) = (run / "wandb").glob("offline-run-*/*.wandb")
    for _ in range(1200):  # wandb's own process writes its file after we are told that the run is finished
        records = _records(file)
        if any(one.WhichOneof("record_type") == "exit" for one in records):
            break
        time.sleep(0.1)
    assert b"my secret" not in file.read_bytes()
    (named,) = (one.run for one in records if one.WhichOneof("record_type") == "run")
    assert (named.project, named.display_name) == ("vzero-pocket", f"grid-seed-0-{known(run).key}")
    history = [
        {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in one.history.item}
        for one in records
        if one.WhichOneof("record_type") == "history"
    ]
    curve = [
        point["02-train-questioner-1/loss"] for point in history if "02-train-questioner-1/loss" in point
    ]
    assert curve == [row["loss"] for row in rows(run, "02-train-questioner-1")]


def _records(file: Path) -> list[Any]:
    """What wandb has written so far."""
    from wandb.proto import wandb_internal_pb2
    from wandb.sdk.internal.datastore import DataStore

    store, records = DataStore(), []
    store.open_for_scan(str(file))
    with suppress(AssertionError):  # the last record is half written
        while (data := store.scan_data()) is not None:
            records.append(wandb_internal_pb2.Record())
            records[-1].ParseFromString(data)
    return records
