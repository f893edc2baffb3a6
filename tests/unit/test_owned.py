"""Links, pipes and torn writes among the names that the program made itself: nothing passes through them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.commands.evaluate import _rescored
from harness.evals import folder as evaluations
from harness.report.export import new_folder
from harness.runs import ledger
from harness.runs.directory import RUN, opened
from harness.runs.grid import Grid, grid_runs
from tests.fixtures.evaluations import run_folder
from vzero.arms import chosen
from vzero.errors import InputError
from vzero.presets import load_preset
from vzero.runtime import artefacts, owned
from vzero.runtime.progress import Progress
from vzero.runtime.stage import run_stage

SMOKE = load_preset("smoke")
STAGE = "00-images"
TEMPORARY = ".one.json.77.tmp"  # as a killed write of ours leaves it


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """A folder of the user's that nothing may touch, by whatever name it looks like ours."""
    folder = tmp_path / "outside"
    folder.mkdir()
    for name in ("precious", TEMPORARY, "spec.json", artefacts.MANIFEST):
        (folder / name).write_text("mine")
    yield folder
    assert {path.name: path.read_text() for path in folder.iterdir()} == dict.fromkeys(
        ("precious", TEMPORARY, "spec.json", artefacts.MANIFEST), "mine"
    )


def start(run: Path, fresh: bool = False) -> None:
    with opened(run, SMOKE, "reproduce", fresh):
        pass


def put(place: Path, make: Callable[[Path], Any]) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    owned.remove(place)
    make(place)


@pytest.mark.parametrize("name", [".lock", "run.json", *RUN.content])
@pytest.mark.parametrize("target", ["precious", "", "absent"])
def test_a_run_with_a_link_among_its_names_is_refused_by_name(
    tmp_path: Path, outside: Path, name: str, target: str
) -> None:
    run = tmp_path / "run"
    start(run)
    put(run / name, lambda place: place.symlink_to(outside / target))
    with pytest.raises(InputError, match=f"{name} is a link"):
        start(run)
    if name not in (".lock", "run.json"):
        start(run, fresh=True)
        assert not (run / name).is_symlink()


@pytest.mark.parametrize(
    "name",
    [f"stages/{STAGE}", f"stages/{STAGE}/work", f"stages/{STAGE}/work/trainer", "logs/a.log", "ranks/1"],
)
def test_so_is_one_further_down(tmp_path: Path, outside: Path, name: str) -> None:
    run = tmp_path / "run"
    start(run)
    put(run / name, lambda place: place.symlink_to(outside))
    with pytest.raises(InputError, match=f"{name} is a link"):
        start(run)
    if name.startswith("stages"):
        with pytest.raises(InputError, match=f"{name} is a link"):
            run_stage(run, STAGE, {"images": lambda context: {}})


@pytest.mark.parametrize("name", [".lock", "run.json", "ledger.jsonl"])
def test_a_pipe_in_the_place_of_a_file_does_not_hang_it(tmp_path: Path, name: str) -> None:
    run = tmp_path / "run"
    start(run)
    put(run / name, os.mkfifo)
    with pytest.raises(InputError, match=f"{name} is no regular file"):
        start(run)


@pytest.mark.parametrize("name", ["metrics.jsonl", "work/trainer/checkpoint-2/trainer_state.json"])
def test_nor_does_one_in_a_stage(tmp_path: Path, name: str) -> None:
    """Libraries open what lies there by its name."""
    run = tmp_path / "run"
    start(run)
    put(run / "stages" / STAGE / name, os.mkfifo)
    for go_on in (lambda: start(run), lambda: run_stage(run, STAGE, {"images": lambda context: {}})):
        with pytest.raises(InputError, match=f"{name} is no regular file"):
            go_on()


def test_an_evaluation_is_held_to_the_same(tmp_path: Path, outside: Path) -> None:
    run = run_folder(tmp_path / "run", [], [])
    put(run / "official", lambda place: place.symlink_to(outside))
    with pytest.raises(InputError, match="official is a link"):
        _rescored(run, None, None, False)
    with (
        pytest.raises(InputError, match="official is a link"),
        evaluations.opened(run, evaluations.settings(run), False),
    ):
        pass


@pytest.mark.parametrize("name", ["grid.json", "stages-shared", "stages-shared/locks", "v-zero"])
def test_a_grid_is_held_to_the_same(tmp_path: Path, outside: Path, name: str) -> None:
    grid = Grid(tmp_path / "grid", SMOKE, lambda *_: {}, lambda _: None)
    wanted = grid_runs(chosen("v-zero"), [0])
    assert grid.run(wanted, fresh=False).runs["v-zero/seed-0"].state == "done"
    put(tmp_path / "grid" / name, lambda place: place.symlink_to(outside))
    try:
        found = grid.run(wanted, fresh=False).runs["v-zero/seed-0"]
    except InputError as error:
        assert f"{name} is a link" in str(error)
    else:  # of one run alone
        assert name == "v-zero" and found.state == "failed" and "v-zero is a link" in str(found.reason)


WRITES: dict[str, Callable[[Path], object]] = {
    "append": lambda path: artefacts.append_jsonl(path, {"a": 1}),
    "progress": lambda path: Progress(path).update(1, 2, "steps"),
    "read": artefacts.read_json,
    "rows": artefacts.read_jsonl,
}


@pytest.mark.parametrize("act", WRITES)
@pytest.mark.parametrize("target", ["precious", "absent"])
def test_no_write_and_no_read_passes_a_link(tmp_path: Path, outside: Path, act: str, target: str) -> None:
    (tmp_path / "own").symlink_to(outside / target)
    with pytest.raises(InputError, match="own is a link"):
        WRITES[act](tmp_path / "own")


def test_a_whole_file_takes_a_links_place_and_a_link_at_its_temporary_name_is_not_written(
    tmp_path: Path, outside: Path
) -> None:
    path = tmp_path / "results.json"
    for place in (path, owned.temporary(path)):
        place.symlink_to(outside / "precious")
    artefacts.write_json(path, {"a": 1})
    with artefacts.atomic_folder(tmp_path / "folder"):
        pass
    owned.temporary(tmp_path / "folder").symlink_to(outside)
    with artefacts.atomic_folder(tmp_path / "folder") as staging:
        artefacts.write_text(staging / "new", "x")
    assert artefacts.read_json(path) == {"a": 1} and not path.is_symlink()
    assert [one.name for one in (tmp_path / "folder").iterdir()] == ["new"]


def test_temporary_files_of_our_own_naming_are_swept_and_no_others(tmp_path: Path) -> None:
    run = tmp_path / "run"
    start(run)
    ours = (".run.json.5.tmp", ".results.json.5.tmp", ".stages.old.5.tmp", "stages/.a.5.tmp",
            f"stages/{STAGE}/work/deep/.x.jsonl.123.tmp")  # fmt: skip
    theirs = (".notes.tmp", ".mine.5.tmp", "a.5.tmp", f"stages/{STAGE}/.cache.tmp", f"stages/{STAGE}/x.5.tmp")
    for name in (*ours, *theirs):
        put(run / name, lambda place: place.write_text(""))
    put(run / "logs" / ".folder.9.tmp" / "file", lambda place: place.write_text(""))
    start(run)
    assert [name for name in ours if (run / name).exists()] == []
    assert [name for name in theirs if not (run / name).exists()] == []
    assert not (run / "logs" / ".folder.9.tmp").exists()
    assert [row["event"] for row in ledger.read(run)] == ["run-started", "run-resumed"]


def test_what_a_killed_writer_left_beside_a_new_folder_goes_and_no_one_elses(tmp_path: Path) -> None:
    """Another process may be writing the same folder now."""
    dead = subprocess.Popen(["true"])
    dead.wait()
    gone, alive = (f"{pid}.tmp" for pid in (dead.pid, os.getppid()))
    kept = {f".new.{alive}", f".newer.{gone}", f"new.{gone}", ".new.tmp"}
    for name in (f".new.{gone}", f".new.old.{gone}", *kept):
        (tmp_path / name).mkdir()
        (tmp_path / name / "weights").write_text("torn")
    with new_folder(tmp_path / "new") as staging:
        (staging / "file").write_text("whole")
    assert {path.name for path in tmp_path.iterdir()} == {"new", *kept}
