"""Progress as it is read from a stage's file and shown to the user."""

from __future__ import annotations

import io
import json
import re
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from harness.commands import grid as command
from harness.commands.grid import foresee
from harness.commands.running import Runner
from harness.runs import display
from harness.runs.folder import Busy, held, locked
from harness.runs.forecast import Forecast, Running
from harness.runs.grid import Grid, grid_runs
from harness.runs.progress import Position, ProgressReader
from vzero.arms import ARMS
from vzero.config import Preset
from vzero.errors import InputError, VZeroError
from vzero.presets import load_preset
from vzero.runtime.progress import Progress
from vzero.selfplay import plan

SMOKE = load_preset("smoke")
STAGES = plan(SMOKE)


def of_smoke() -> display.Plan:
    return display.Plan(SMOKE, STAGES, Forecast())


def write(path: Path, *rows: tuple[float, int, int, str]) -> None:
    with open(path, "a") as stream:
        for time, done, total, unit in rows:
            stream.write(
                json.dumps(
                    {"time": time, "done": done, "total": total, "unit": unit, "metrics": {"reward": 0.25}}
                )
                + "\n"
            )


def test_the_rate_is_of_this_attempt_only(tmp_path: Path) -> None:
    path = tmp_path / "progress.jsonl"
    watch = ProgressReader(path, begin=100.0)
    assert watch.refresh() is None
    write(path, (10.0, 1, 20, "steps"), (11.0, 4, 20, "steps"))
    assert watch.refresh() is None  # rows of an earlier attempt
    write(path, (103.0, 5, 20, "steps"))
    assert watch.refresh() == Position(5, 20, "steps", {"reward": 0.25}, None)
    write(path, (109.0, 8, 20, "steps"))
    assert watch.refresh().whole == pytest.approx(40.0)  # 3 steps in 6 s, 20 steps in all


def test_another_unit_begins_a_rate_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "progress.jsonl"
    write(
        path,
        (1.0, 0, 10, "questions"),
        (2.0, 10, 10, "questions"),
        (50.0, 0, 100, "votes"),
        (60.0, 50, 100, "votes"),
    )
    assert ProgressReader(path, begin=0.0).refresh().whole == pytest.approx(20.0)


def test_torn_hostile_and_restarted_files_are_harmless(tmp_path: Path) -> None:
    path = tmp_path / "progress.jsonl"
    watch = ProgressReader(path, begin=0.0)
    path.write_bytes(b'\xff\xfe\n[1]\nnull\n{"time": "x"}\n{"time": 1, "done": 3, "total": 9, "unit": "st')
    assert watch.refresh() is None
    with open(path, "ab") as stream:
        stream.write(b'eps", "metrics": {}}\n')
    assert watch.refresh() == Position(3, 9, "steps", {}, None)
    path.write_text("")
    write(path, (5.0, 1, 9, "steps"))
    assert watch.refresh().done == 1
    path.unlink()
    assert watch.refresh().done == 1


def test_it_reads_what_a_stage_writes(tmp_path: Path) -> None:
    Progress(tmp_path / "work" / "p.jsonl").update(2, 7, "images", {"reward": 0.5})
    assert ProgressReader(tmp_path / "work" / "p.jsonl", begin=0.0).refresh() == Position(
        2, 7, "images", {"reward": 0.5}, None
    )


def test_lines_are_few_and_plain(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("harness.runs.display.time.monotonic", lambda: now)
    stream = io.StringIO()
    with display.shown(
        of_smoke(), Console(file=stream, width=40), plain=False
    ) as view:  # a StringIO is no terminal
        view.reused(STAGES[0], {"seconds": 2.0, "images": 96})
        view.started(STAGES[1], 1)
        for quarter in range(400):  # 100 seconds of polling
            now += 0.25
            view.moved(STAGES[1], Position(quarter // 160, 8, "items", {"tokens_per_second": 12345.6}, None))
        for _ in range(4 * 130):  # and 130 without a step
            now += 0.25
            view.moved(STAGES[1], Position(2, 8, "items", {"tokens_per_second": 12345.6}, None))
        view.ended(STAGES[1], 185.0, {"answers": 1584, "kept_answers": 0, "tokens_per_second": 12.0})
        view.started(STAGES[2], 2)
    lines = stream.getvalue().splitlines()
    assert [line.split(", about")[0] for line in lines] == [
        "[1/7] 00-images already done (2 s)",
        "[2/7] 01-evaluate-base started",
        "[2/7] 01-evaluate-base 0/8 items, 12.3k tok/s",
        "[2/7] 01-evaluate-base 1/8 items, 12.3k tok/s",  # half a minute on
        "[2/7] 01-evaluate-base 2/8 items, 12.3k tok/s",
        "[2/7] 01-evaluate-base 2/8 items, 12.3k tok/s",  # the sign of life
        "[2/7] 01-evaluate-base done in 3 min 05 s: 1,584 answers",
        "[3/7] 02-train-questioner-1 resumed (attempt 2)",
    ]
    assert all(line.endswith(" left") for line in lines if "tok/s" in line)


@pytest.mark.slow
@pytest.mark.parametrize("width", [80, 120])
def test_a_stage_of_the_panel_is_one_line_and_a_long_plan_fits_the_terminal(width: int) -> None:
    """A preset of 43 stages on 24 lines, a note far too long: nothing wraps, the running stage is seen."""
    preset = load_preset("pocket", ["iterations=8"])
    stages = plan(preset)
    stream = io.StringIO()
    console = Console(file=stream, width=width, height=24, force_terminal=True, color_system=None)
    with display.shown(display.Plan(preset, stages, Forecast()), console, plain=False) as view:
        assert isinstance(view, display.Panel)
        for stage in stages[:30]:
            view.started(stage, 1)
            view.ended(stage, 3725.0, {"note": "a remark\x1b[31m that goes on " * 9})
        view.started(stages[30], 1)
        view.moved(
            stages[30], Position(1200, 2400, "steps", {"reward": 0.5, "tokens_per_second": 987.6}, 9.0)
        )
    console.file = last = io.StringIO()
    console.print(view.render())
    lines = last.getvalue().splitlines()
    assert len(lines) < 24 and all(cell_len(line) < width for line in lines)
    assert "\x1b[31m" not in last.getvalue()
    [running] = [line for line in lines if line.startswith("▶")]
    assert stages[30].name in running and "1,200/2,400 steps, reward 0.50, 988 tok/s" in running
    assert "stage 31 of 43" in lines[-1] and lines[-1].rstrip().endswith("left")


def near(left: float, truth: float, total: float) -> bool:
    """Within half of the truth, and at a run's end within a twentieth of the whole."""
    return 1 / 1.5 < left / truth < 1.5 or abs(left - truth) < total / 20


# Seconds of the stages of real runs on a quiet machine, out of their ledgers.
LEDGERS = {
    "pocket": [8.0, 29.7, 81.0, 23.1, 57.1, 78.3, 41.2, 121.2, 28.1, 72.9, 47.0, 46.6, 44.5],
    "smoke": [0.8, 16.6, 20.4, 10.4, 13.4, 19.2, 19.4],
    "smoke again": [1.0, 25.9, 25.3, 11.0, 14.0, 16.6, 18.2],
}


@pytest.mark.parametrize("name", LEDGERS)
@pytest.mark.parametrize("slower", [0.1, 1.0, 25.0])
def test_what_is_left_is_within_half_of_the_truth_after_a_tenth_of_the_run(name: str, slower: float) -> None:
    """A recorded run told again on any machine. A stage starts for some seconds, which is most of smoke's,
    and then goes on evenly; an evaluation says 0 of 1 before it knows how much it asks."""
    preset = load_preset(name.split()[0])
    stages, took = plan(preset), [slower * seconds for seconds in LEDGERS[name]]
    counts = {"04-label-1": {"kept": 1641}, "09-label-2": {"kept": 645}} if name == "pocket" else {}
    forecast, total, gone = Forecast(forking=False), sum(took), 0.0
    keys = forecast.add("", preset, stages)
    assert forecast.left("") is None  # nothing was measured
    for stage, seconds in zip(stages, took, strict=True):
        start = min(12.0 * slower, seconds * 0.6)
        for part in range(20):
            now, position = part / 20 * seconds, None
            if now > start:
                done = round(1000 * (now - start) / (seconds - start))
                position = Position(done, 1000, "steps", {}, seconds - start if done else None)
            elif now > start / 2 and "evaluate" in stage.name:
                position = Position(0, 1, "answers", {}, None)
            left, truth = forecast.left("", Running(keys[stage.name], now, position)), total - gone - now
            if gone + now > total / 10:
                assert left and near(left[0], truth, total), (stage.name, part, left[0] / truth)
        gone += seconds
        answers = 14850 if name == "pocket" else 1584
        forecast.finished(keys[stage.name], seconds, {"answers": answers, **counts.get(stage.name, {})})
    assert forecast.left("") == (0.0, 0.0)


# Runs whose stages were forked, with the rows of their progress files: answers come in batches. "smoke" as it
# went on a busy machine; "pocket": stages of a quiet one, the rows of another run stretched to them.
TRACES = json.loads((Path(__file__).parents[1] / "fixtures" / "progress_traces.json").read_text())


@pytest.mark.parametrize("name", TRACES)
def test_stages_that_are_forked_are_forecast_as_well(name: str, tmp_path: Path) -> None:
    preset, path = load_preset(name), tmp_path / "progress.jsonl"
    stages, trace = plan(preset), TRACES[name]
    forecast, total, gone = Forecast(forking=True), sum(one["seconds"] for one in trace), 0.0
    keys = forecast.add("", preset, stages)
    for stage, told in zip(stages, trace, strict=True):
        path.unlink(missing_ok=True)
        reader, rows = ProgressReader(path, begin=0.0), list(told["rows"])
        forecast.began(keys[stage.name])
        for part in range(40):
            now = part / 40 * told["seconds"]
            while rows and rows[0][0] <= now:
                write(path, (*rows.pop(0), "steps"))
            left = forecast.left("", Running(keys[stage.name], now, reader.refresh()))
            truth = total - gone - now
            if gone + now > total / 10:
                assert left and near(left[0], truth, total), (stage.name, part, left[0] / truth)
        gone += told["seconds"]
        forecast.finished(keys[stage.name], told["seconds"], told["facts"])


def test_stages_that_runs_share_are_counted_once_and_failed_runs_not_at_all() -> None:
    base = load_preset("smoke")
    other = load_preset("smoke", ["solver.filter=none", "arm=no-filter"])
    forecast, alone = Forecast(forking=False), Forecast(forking=False)
    for one in (forecast, alone):
        keys = one.add("a", base, plan(base))
        for stage in plan(base):
            one.finished(keys[stage.name], 10.0, {})
    assert alone.left("a") == (0.0, 0.0)
    forecast.add("b", other, plan(other))
    unshared = [stage.kind for stage in plan(other) if "select" in stage.inputs.values() or stage.iteration]
    own, every = forecast.left("a") or (0.0, 0.0)
    assert own == 0.0 and 0 < every < 10.0 * len(unshared)  # images and the base's answers are shared
    assert forecast.left("b") == (every, every)
    forecast.workers = 2
    assert forecast.left("a") == (0.0, every / 2)  # two processes do what waits
    assert forecast.left("b") == (every, every)  # one does a run
    forecast.drop("b")
    assert forecast.left("a") == (0.0, 0.0)


def test_a_run_whose_stages_were_all_done_earlier_has_no_time_left() -> None:
    console = Console(file=io.StringIO(), width=80, height=24, force_terminal=True, color_system=None)
    with display.shown(of_smoke(), console, plain=False) as view:
        for stage in STAGES:
            view.reused(stage, {"seconds": 60.0})
    assert view.left() == ("", "")


def test_a_run_of_several_says_what_is_left_of_it_and_of_all() -> None:
    """Ten runs of a minute for each stage: the first, half done, and the nine others."""
    presets = {f"arm/seed-{seed}": load_preset("smoke", [f"seed={seed}"]) for seed in range(10)}
    forecast = Forecast()
    for name, preset in presets.items():
        forecast.add(name, preset, plan(preset))
    name, preset = next(iter(presets.items()))
    stream = io.StringIO()
    console = Console(file=stream, width=80, height=24, force_terminal=True, color_system=None)
    one = display.Plan(preset, plan(preset), forecast, name, f"Run 1 of 10: {name}")
    with display.shown(one, console, plain=False) as view:
        assert isinstance(view, display.Panel)
        lines = len(console.render_lines(view.render()))
        for stage in plan(preset)[:4]:
            view.started(stage, 1)
            view.ended(stage, 60.0, {})
    console.file = last = io.StringIO()
    console.print(view.render())
    assert lines == len(last.getvalue().splitlines()), "nothing jumps"
    *_, bar, every = last.getvalue().splitlines()
    found = re.search(r"stage 5 of 7, \d+ s, about (\d+) min left$", bar.rstrip())
    assert found and 2 <= int(found[1]) <= 4, bar
    found = re.fullmatch(r"all runs: about (?:(\d+) h)?(?: ?(\d+) min)? left", every.rstrip())
    assert found and 40 <= 60 * int(found[1] or 0) + int(found[2] or 0) <= 90, every


def test_a_grid_counts_the_runs_that_wait_and_the_processes_that_work_in_it(tmp_path: Path) -> None:
    """One run is done, another process has one, one died in its own: two are left to the two of us."""
    base = load_preset("smoke")
    grid, wanted = Grid(tmp_path, base, lambda *_: {}, print), grid_runs([ARMS["v-zero"]], range(4))
    grid.prepare(wanted, fresh=False)
    grid.pending.extend(wanted)
    for run, state in zip(wanted, ("done", "running", "running", "waiting"), strict=True):
        grid._update([run], state)
        (tmp_path / run.name).mkdir(parents=True)
        (tmp_path / run.name / ".lock").touch()
    forecast, alone = Forecast(forking=False), Forecast(forking=False)
    with locked(tmp_path / wanted[1].name):
        foresee(forecast, grid, wanted, fresh=False)
    preset = grid.preset_of(wanted[2])
    left = []
    for one in (forecast, alone):
        keys = one.add(wanted[2].name, preset, plan(preset))
        one.finished(keys["00-images"], 5.0, {})
        left.append(one.left(wanted[2].name))
    (own, every), (single, _) = left
    assert own == pytest.approx(single) and every == pytest.approx(1.5 * single, rel=0.05)
    foresee(forecast, grid, wanted, fresh=True)  # all of them anew, by this process alone
    assert (forecast.left(wanted[2].name) or (0, 0))[1] == pytest.approx(4 * single, rel=0.1)


def test_a_process_that_works_is_counted_as_long_as_it_does_and_a_run_until_it_failed(tmp_path: Path) -> None:
    """Another process has the first run, and ends; the second fails, and so does what is matched to it."""
    folder, seen = tmp_path / "grid", dict[str, Any]()
    taken = folder / "v-zero" / "seed-0"
    taken.mkdir(parents=True)

    def run_one(runner: Runner, preset: Preset, place: Path, shared: object) -> Any:
        assert runner.forecast is not None
        seen[runner.name] = (runner.forecast.workers, {*runner.forecast._runs})
        if runner.name == "recycled-beside/seed-0":
            other.close()
        elif place == taken and held(taken):
            raise Busy("Another run is working in it.")
        raise InputError("no")

    arms, one = (
        "v-zero,recycled-step-matched,recycled-beside",
        Runner("reproduce", Console(quiet=True), plain=True),
    )
    with ExitStack() as other, pytest.raises(VZeroError, match="6 of 6 runs failed"):
        other.enter_context(locked(taken))
        command.run(one, load_preset("smoke"), arms, range(2), folder, run_one, json=False, verbose=False)
    matched = [f"recycled-step-matched/seed-{seed}" for seed in range(2)]
    ahead = [matched[0], "recycled-beside/seed-0", "recycled-beside/seed-1"]
    assert seen["v-zero/seed-1"] == (2, {"v-zero/seed-1", *matched, *ahead})
    assert seen["recycled-beside/seed-0"] == (2, {*ahead})
    assert seen["recycled-beside/seed-1"] == (1, {"v-zero/seed-0", matched[0], "recycled-beside/seed-1"})
