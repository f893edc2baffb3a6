"""Runs and evaluations refuse the same foreign folders in the same words, and delete only what they wrote."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from harness.evals.folder import opened as open_evaluation
from harness.runs.directory import opened as open_run
from tests.fixtures.evaluations import SETTINGS
from vzero.errors import InputError
from vzero.presets import load_preset


def run(folder: Path, fresh: bool = False) -> None:
    with open_run(folder, load_preset("smoke"), "reproduce", fresh):
        pass


def evaluation(folder: Path, fresh: bool = False) -> None:
    with open_evaluation(folder, SETTINGS, fresh):
        pass


BOTH = pytest.mark.parametrize("begin", [run, evaluation])


@BOTH
def test_a_file_and_a_place_below_one_are_refused(begin: Callable[..., None], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match="file is a file, not a folder"):
        begin(tmp_path / "file")
    with pytest.raises(InputError, match="Cannot create"):
        begin(tmp_path / "file" / "below")


@BOTH
def test_a_folder_of_others_is_refused_and_left(begin: Callable[..., None], tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="is not empty and not"):
        begin(tmp_path, fresh=True)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


@pytest.mark.parametrize(("first", "second"), [(run, evaluation), (evaluation, run)])
def test_neither_takes_the_other_for_its_own(
    first: Callable[..., None], second: Callable[..., None], tmp_path: Path
) -> None:
    first(tmp_path)
    before = (tmp_path / "run.json").read_bytes()
    with pytest.raises(InputError):
        second(tmp_path, fresh=True)
    assert (tmp_path / "run.json").read_bytes() == before


@BOTH
def test_fresh_keeps_what_it_did_not_write(begin: Callable[..., None], tmp_path: Path) -> None:
    begin(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "results.json").write_text("{}")
    begin(tmp_path, fresh=True)
    assert (tmp_path / "notes.txt").exists() and not (tmp_path / "results.json").exists()


@BOTH
@pytest.mark.parametrize("fresh", [False, True])
def test_a_record_of_another_program_is_no_damaged_one(
    begin: Callable[..., None], fresh: bool, tmp_path: Path
) -> None:
    """Also where a file beside it has a name that ours have too."""
    for name in ("ledger.jsonl", "responses/mine.jsonl", "data/precious", "stages/mine"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
    (tmp_path / "run.json").write_text('{"my": 1}')
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=r"no run\.json of one"):
        begin(tmp_path, fresh=fresh)
    assert sorted(tmp_path.rglob("*")) == before
