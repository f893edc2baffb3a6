"""Opening run directories: what is created, resumed, emptied and refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness.runs import ledger
from harness.runs.directory import opened
from vzero.errors import InputError
from vzero.presets import load_preset

SMOKE = load_preset("smoke")


def start(folder: Path, *changes: str, fresh: bool = False) -> bool:
    with opened(folder, load_preset("smoke", changes), "reproduce", fresh) as run:
        return run.created


def test_a_new_run_records_its_preset_and_is_resumed_later(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "run"
    assert start(folder) is True
    stored = json.loads((folder / "run.json").read_text())
    assert stored["preset"]["name"] == "smoke" and stored["preset"]["images"]["count"] == 96
    assert "packages" in stored["provenance"] and stored["created"].endswith("+00:00")
    before = (folder / "run.json").read_bytes()
    assert start(folder) is False
    assert (folder / "run.json").read_bytes() == before
    assert [row["event"] for row in ledger.read(folder)] == ["run-started", "run-resumed"]


def test_other_settings_are_refused_by_name_and_change_nothing(tmp_path: Path) -> None:
    start(tmp_path / "run")
    with pytest.raises(InputError) as caught:
        start(tmp_path / "run", "solver.grpo.learning_rate=2e-6", "seed=7")
    assert "(seed, solver.grpo.learning_rate)" in str(caught.value) and "--fresh" in str(caught.value)
    assert caught.value.exit_code == 2
    assert len(ledger.read(tmp_path / "run")) == 1


def test_fresh_deletes_the_run_and_nothing_else(tmp_path: Path) -> None:
    start(tmp_path)
    (tmp_path / "stages" / "00-images").mkdir(parents=True)
    (tmp_path / "results.json").write_text("{}")
    (tmp_path / "notes.txt").write_text("mine")
    assert start(tmp_path, "seed=7", fresh=True) is True
    assert {path.name for path in tmp_path.iterdir()} == {".lock", "run.json", "ledger.jsonl", "notes.txt"}
    assert json.loads((tmp_path / "run.json").read_text())["preset"]["seed"] == 7
    assert [row["event"] for row in ledger.read(tmp_path)] == ["run-started"]


@pytest.mark.parametrize("fresh", [False, True])
@pytest.mark.parametrize(
    "content", [{"thesis.tex": "x"}, {"run.json": "[]"}, {"run.json": "{torn"}, {"run.json": '{"name": 1}'}]
)
def test_a_folder_that_is_no_run_is_left_alone(tmp_path: Path, content: dict[str, str], fresh: bool) -> None:
    for name, text in content.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match="choose another --out"):
        start(tmp_path, fresh=fresh)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == content


def test_a_kill_before_run_json_was_written_does_not_block_the_folder(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text("123\n")
    (tmp_path / ".run.json.123.tmp").write_text("{")
    assert start(tmp_path) is True


def test_fresh_does_not_follow_a_link_out_of_the_run(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").touch()
    start(tmp_path / "run")
    (tmp_path / "run" / "stages").symlink_to(outside)
    start(tmp_path / "run", fresh=True)
    assert (outside / "precious").exists() and not (tmp_path / "run" / "stages").exists()


def test_a_second_opening_is_refused_while_the_first_lasts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.runs.folder.LOCK_TIMEOUT", 0.0)
    with opened(tmp_path, SMOKE, "reproduce"):
        for fresh in (False, True):
            with pytest.raises(InputError, match="Another run"), opened(tmp_path, SMOKE, "reproduce", fresh):
                pass
        assert (tmp_path / "run.json").exists()
    assert start(tmp_path) is False


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(InputError, match="choose another --out"):
            start(folder)


def test_a_torn_ledger_row_is_cut_off_before_the_next(tmp_path: Path) -> None:
    ledger.append(tmp_path, {"event": "one"})
    with open(tmp_path / "ledger.jsonl", "a") as stream:
        stream.write('{"event": "tor')
    ledger.append(tmp_path, {"event": "two"})
    assert [row["event"] for row in ledger.read(tmp_path)] == ["one", "two"]
    assert all("time" in row for row in ledger.read(tmp_path))
    assert (tmp_path / "ledger.jsonl").read_text().count("\n") == 2


def test_attempts_are_counted_per_stage(tmp_path: Path) -> None:
    assert ledger.attempts(tmp_path, "a") == 0
    for stage in ("a", "b", "a"):
        ledger.append(tmp_path, {"event": "stage-started", "stage": stage})
    ledger.append(tmp_path, {"event": "stage-finished", "stage": "a"})
    assert ledger.attempts(tmp_path, "a") == 2


def test_a_run_from_before_a_setting_existed_is_resumed(tmp_path: Path) -> None:
    start(tmp_path / "run")
    path = tmp_path / "run" / "run.json"
    stored = json.loads(path.read_text())
    for section, name in (
        (stored["preset"], "arm"),
        (stored["preset"], "step_matched"),
        (stored["preset"]["solver"], "objective"),
    ):
        del section[name]
    path.write_text(json.dumps(stored))
    assert start(tmp_path / "run") is False
    with pytest.raises(InputError, match=r"\(solver\.objective\)"):
        start(tmp_path / "run", "solver.objective=format")
    stored["preset"]["gone"] = 1  # a setting this version does not know
    path.write_text(json.dumps(stored))
    with pytest.raises(InputError, match="gone"):
        start(tmp_path / "run")
