"""How many stages are alive at once, what is said of them meanwhile, and how long they take together."""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from harness.runs import concurrency, ledger
from harness.runs.directory import opened
from harness.runs.display import Panel, Plan, shown
from harness.runs.forecast import Forecast, Running
from harness.runs.progress import Position
from harness.watch.view import Watch
from tests.fixtures import synthetic_run
from vzero.errors import InputError, InterruptedRun
from vzero.presets import content_differences, load_preset
from vzero.runtime import machine
from vzero.runtime.progress import Progress
from vzero.runtime.stage import read_preset
from vzero.selfplay import MEASUREMENTS, plan

POCKET = load_preset("pocket")
STAGES = plan(POCKET)
NAMES = [stage.name for stage in STAGES]
GIB, TWO = 1 << 30, "launch.max_concurrent_stages=2"


@pytest.mark.parametrize(
    ("cores", "quota", "gib", "words", "expected"),
    [
        (2, None, 16, [], 2),
        (16, None, 16, [], 2),
        (1, None, 16, [], 1),
        (4, 1.5, 16, [], 1),
        (2, None, 2, [], 1),
        (2, None, None, [], 1),
        (8, None, 16, ["launch.max_concurrent_stages=1"], 1),
        (8, None, 16, ["launch.max_concurrent_stages=3"], 3),
        (8, None, 16, ["launch.cluster=local"], 1),
        (8, None, 16, ["engine.name=server"], 1),
        (8, None, 16, ["launch.gpus=1"], 1),
        (8, None, 16, ["model=Qwen/Qwen2.5-VL-3B-Instruct"], 1),
        (8, None, 16, ["model=~a-user-that-nobody-is/x"], 1),
        (8, None, 16, ["model=" + "x" * 300], 1),
    ],
)
def test_each_stage_has_a_core_and_memory(
    monkeypatch: pytest.MonkeyPatch, cores: int, quota: Any, gib: Any, words: list[str], expected: int
) -> None:
    monkeypatch.setattr(concurrency, "DRIVERS", ())
    monkeypatch.setattr(machine, "cores", lambda: cores)
    monkeypatch.setattr(machine, "cpu_quota", lambda: quota)
    monkeypatch.setattr(machine, "free_memory", lambda: gib and gib * GIB)
    assert concurrency.stages_at_once(load_preset("pocket", [TWO, *words])) == expected


def test_a_large_model_has_the_machine_for_one_stage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """bfloat16 on disk; float32 weights, gradient, two moments and a reference in a training."""
    monkeypatch.setattr(machine, "cpu_quota", lambda: None)
    monkeypatch.setattr(concurrency, "DRIVERS", ())
    monkeypatch.setattr(machine, "cores", lambda: 8)
    monkeypatch.setattr(machine, "free_memory", lambda: 30 * GIB)
    with open(tmp_path / "model.safetensors", "wb") as stream:
        stream.truncate(GIB)
    preset = load_preset("pocket", [f"model={tmp_path}", "launch.max_concurrent_stages=4"])
    assert concurrency.stages_at_once(preset) == 2
    with open(tmp_path / "more.safetensors", "wb") as stream:
        stream.truncate(GIB)
    assert concurrency.stages_at_once(preset) == 1


def test_it_decides_no_result() -> None:
    """A run goes on with another number of stages, and no stage is made of it."""
    other = load_preset("pocket", [TWO])
    assert plan(other) == STAGES
    assert content_differences(POCKET.model_dump(mode="json"), other.model_dump(mode="json")) == []


def test_free_memory_is_what_the_machine_and_its_container_leave() -> None:
    lines = dict(line.split(":") for line in Path("/proc/meminfo").read_text().splitlines())
    free = machine.free_memory()
    assert free is not None and 0 < free <= int(lines["MemTotal"].split()[0]) << 10


@pytest.mark.parametrize("old", [False, True], ids=["cgroup 2", "cgroup 1"])
def test_a_container_has_what_is_left_of_its_limit(monkeypatch: pytest.MonkeyPatch, old: bool) -> None:
    """8 GiB, of which programs hold 7 and cached files, which can be given back, the rest."""
    names = ("memory/memory.limit_in_bytes", "memory/memory.stat", "total_rss") if old else (
        "memory.max", "memory.stat", "anon"
    )  # fmt: skip
    files = {
        "/proc/meminfo": f"MemTotal: {99 << 20} kB\nMemAvailable: {64 << 20} kB\n",
        f"/sys/fs/cgroup/{names[0]}": f"{8 * GIB}\n",
        f"/sys/fs/cgroup/{names[1]}": f"file {GIB}\n{names[2]} {7 * GIB}\n",
    }
    monkeypatch.setattr(machine, "_read", lambda path: files.get(path, ""))
    assert machine.free_memory() == GIB
    files["/proc/meminfo"] = "MemAvailable: 1000 kB\n"
    assert machine.free_memory() == 1000 << 10


def test_stages_beside_the_chain_cost_no_time_of_their_own() -> None:
    """All stages of a kind take as long as the reference says: evaluations are hidden behind what trains, but
    for the last two, which nothing is left to hide."""
    beside, alone = Forecast(at_once=2, forking=False), Forecast(forking=False)
    for one in (beside, alone):
        keys = one.add("", POCKET, STAGES)
        one.finished(keys[NAMES[0]], 8.0, {"images": 3072})
    costs = {
        name: 8.0 / 7.8728 * (c.start + c.work) for name, c in zip(NAMES, alone._costs.values(), strict=True)
    }
    hidden = [stage.name for stage in STAGES if stage.kind in MEASUREMENTS][:2]
    total = sum(costs[name] for name in NAMES[1:])
    assert alone.left("")[0] == pytest.approx(total, rel=0.01)
    assert beside.left("")[0] == pytest.approx(total - sum(costs[name] for name in hidden), rel=0.01)
    running = [Running(keys[name], 1.0, Position(0, 10, "steps", {}, None)) for name in NAMES[1:3]]
    assert beside.left("", *running) < alone.left("", *running)


def test_the_panel_shows_both_and_what_came_of_each() -> None:
    console = Console(file=io.StringIO(), width=80, height=24, force_terminal=True, color_system=None)
    error = InterruptedRun("Stopped by Ctrl-C.")
    with pytest.raises(InterruptedRun), shown(Plan(POCKET, STAGES, Forecast(2)), console, False) as view:
        assert isinstance(view, Panel)
        for number, done in ((1, 20), (2, 30)):
            view.started(STAGES[number], 1)
            view.moved(STAGES[number], Position(done, 40, "steps", {"reward": 0.5}, 9.0))
        alive = {name: line.split()[4:] for name, line in rows(view).items() if line.startswith("▶")}
        assert alive == {
            NAMES[1]: ["20/40", "steps,", "reward", "0.50"],
            NAMES[2]: ["30/40", "steps,", "reward", "0.50"],
        }
        view.failed(NAMES[1], InputError("No such suite."), [NAMES[2]])
        assert rows(view)[NAMES[1]].startswith("✗") and rows(view)[NAMES[2]].startswith("▶")
        raise error
    assert rows(view)[NAMES[1]].endswith(f"failed; awaiting {NAMES[2]}")
    assert rows(view)[NAMES[2]].startswith("‖") and rows(view)[NAMES[2]].endswith("interrupted")


def rows(view: Panel) -> dict[str, str]:
    """The lines of the stages by their names, as they are printed; none is longer than the terminal."""
    stream = io.StringIO()
    Console(file=stream, width=80, height=24).print(view.render())
    lines = stream.getvalue().splitlines()
    assert all(len(line) < 80 for line in lines) and len(lines) == len(NAMES) + 1
    return {line.split()[1]: line.rstrip() for line in lines[:-1]}


def test_plain_lines_say_of_which_stage_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("harness.runs.display.time.monotonic", lambda: now)
    stream = io.StringIO()
    with shown(Plan(POCKET, STAGES, Forecast(2)), Console(file=stream, width=80), True) as view:
        for number in (1, 2):
            view.started(STAGES[number], 1)
        for step in range(300):  # 60 seconds
            now += 0.2
            for number in (1, 2):
                view.moved(STAGES[number], Position(step, 400, "steps", {}, None))
        view.ended(STAGES[2], 60.0, {"steps": 400})
    said = [line.split(",")[0].split() for line in stream.getvalue().splitlines()]
    assert [line[1] for line in said[:2]] == [line[1] for line in said[2:4]] == NAMES[1:3]
    assert [line[0] for line in said[:2]] == ["[2/13]", "[3/13]"] and said[-1][1:3] == [NAMES[2], "done"]
    assert len(said) in (5, 7), "a line for each half minute"


def test_the_live_page_follows_both(tmp_path: Path) -> None:
    run = tmp_path / "run"
    synthetic_run.make(run, stop_after="05-train-solver-1", count=12, hostile=False)
    first, second = "06-evaluate-1", "07-train-questioner-2"
    with opened(run, read_preset(run), "reproduce"):
        for number, name in enumerate((first, second)):
            ledger.append(run, {"event": "stage-started", "stage": name, "attempt": 1})
            time.sleep(0.01)  # rows of the same instant would be of before
            progress = Progress(run / "stages" / name / "work" / "progress.jsonl")
            progress.update(10 + number, 40, "steps")
        watch = Watch(run)
        for _ in range(2):
            found = {one.name: one for one in watch.look().stages}
            assert (found[first].state, found[first].note) == ("running", "10/40 steps")
            assert (found[second].state, found[second].note) == ("running", "11/40 steps")
