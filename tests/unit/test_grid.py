"""The grid over the real runner and store, with stages that only write down that they ran: what is shared,
matched, noted and resumed."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from harness.analysis.compute import compute
from harness.runs import grid, orchestrate
from harness.runs.directory import opened
from harness.runs.display import Display, Plan
from harness.runs.folder import Busy, locked
from harness.runs.forecast import Forecast
from harness.runs.grid import Grid, GridRun, RunOne, differences, grid_runs
from harness.runs.sealed import read_run
from harness.runs.shared_stages import SharedStages
from vzero.arms import ARMS, chosen, matched
from vzero.config import Preset
from vzero.errors import InputError, InterruptedRun, VZeroError
from vzero.presets import load_preset
from vzero.runtime import artefacts
from vzero.runtime.stage import StageContext, run_stage
from vzero.selfplay import plan

BASE = load_preset("smoke", ["iterations=2"])
KINDS = (
    "images",
    "evaluate",
    "train-questioner",
    "write-questions",
    "label",
    "check-options",
    "select",
    "train-solver",
)


def settle(ctx: StageContext, kept: int) -> dict[str, Any]:
    """Write something that depends on the spec, as every stage does, and facts of the right names."""
    read = {
        role: artefacts.folder_hashes(folder)
        for role, folder in ctx.inputs.items()
        if folder.is_relative_to(ctx.folder.parent)
    }
    text = json.dumps([ctx.stage.kind, ctx.stage.iteration, ctx.stage.config, read], sort_keys=True)
    target = "checkpoint/weights.txt" if ctx.stage.kind.startswith("train") else "rows.txt"
    artefacts.write_text(ctx.folder / target, text)
    if ctx.stage.kind in ("label", "select"):
        artefacts.write_jsonl(ctx.folder / "labels.jsonl", [])
    if ctx.stage.kind == "train-questioner":
        rows = [{"step": n + 1, "generation": n // 2 + 1, "loss": 0.0, "valid": 0.75} for n in range(4)]
        artefacts.write_jsonl(ctx.folder / "metrics.jsonl", rows)
        return {"prompts": 32, "prompts_used": 32, "generations": 2, "steps": 4}
    if ctx.stage.kind == "train-solver":
        return {
            "prompts": kept,
            "prompts_used": kept - kept % 16,
            "generations": kept // 16,
            "steps": kept // 8,
        }
    return {"images": 96, "questions": 96, "valid": 90, "checked": 20, "tokens": 1000}


class Runner:
    """`run_one` of a grid: the real `run_plan`, its stages done in this process; `ran` is what was not
    shared."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, break_at: Callable[[str, str], None] = lambda run, stage: None
    ) -> None:
        self.ran: list[tuple[str, str]] = []
        self.break_at = break_at
        monkeypatch.setattr(orchestrate, "_execute", self.execute)
        monkeypatch.setattr(grid, "PAUSE", 0.01)
        monkeypatch.setattr(
            artefacts, "provenance", lambda: {"git": None}
        )  # two calls of git for each of many stages

    def execute(self, run: Any, preset: Preset, stage: Any, *_: object) -> Iterator[None]:
        name = f"{run.folder.parent.name}/{run.folder.name}"
        self.break_at(name, stage.name)
        self.ran.append((name, stage.name))
        kept = 40 if stage.iteration == 1 else 20
        kept = (
            preset.step_matched[stage.iteration - 1]
            if preset.step_matched and len(preset.step_matched) >= stage.iteration
            else kept + (preset.arm == "frozen-questioner") * 16
        )
        run_stage(run.folder, stage.name, dict.fromkeys(KINDS, lambda ctx: settle(ctx, kept)))
        yield

    def __call__(self, folder: Path, preset: Preset, shared: SharedStages) -> Mapping[str, int]:
        from rich.console import Console

        stages = plan(preset)
        with opened(folder, preset, "test") as run:
            orchestrate.run_plan(
                run, preset, stages, Display(Plan(preset, stages, Forecast()), Console(quiet=True)), shared
            )
            return compute(read_run(folder)).flat()


def grid_in(folder: Path, run_one: RunOne, base: Preset = BASE, say: Callable[[str], None] = print) -> Grid:
    return Grid(folder, base, run_one, say)


def go(folder: Path, runner: Runner, arms: str, seeds: int = 1) -> dict[str, Any]:
    index = grid_in(folder, runner).run(grid_runs(chosen(arms), range(seeds)), False)
    return index.model_dump(mode="json", exclude_none=True)


def test_runs_are_arm_by_arm_with_the_reference_first() -> None:
    assert [run.name for run in grid_runs(chosen("random-label,v-zero"), [0, 1])] == [
        "v-zero/seed-0",
        "v-zero/seed-1",
        "random-label/seed-0",
        "random-label/seed-1",
    ]
    assert [run.name for run in grid_runs(chosen("no-filter"), [2])] == [
        "v-zero/seed-2",
        "no-filter/seed-2",
    ]  # it is matched to v-zero
    assert [run.name for run in grid_runs(chosen("zero-sum"), [0])] == ["zero-sum/seed-0"]


@pytest.mark.slow
def test_every_stage_runs_once_and_every_run_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = Runner(monkeypatch)
    index = go(
        tmp_path,
        runner,
        "v-zero,frozen-questioner,one-iteration,random-label,shuffled-images,majority-voting",
        2,
    )
    assert {entry["state"] for entry in index["runs"].values()} == {"done"} and len(index["runs"]) == 12
    digests = Counter()
    for name, stage in runner.ran:
        digests[artefacts.sealed(tmp_path / name / "stages" / stage)["spec_digest"]] += 1
    assert set(digests.values()) == {1}
    of = Counter(name for name, _ in runner.ran)
    assert (of["v-zero/seed-0"], of["frozen-questioner/seed-0"], of["one-iteration/seed-0"]) == (12, 8, 0)
    assert of["shuffled-images/seed-0"] == 3  # the base and two Solvers, evaluated otherwise
    assert of["random-label/seed-0"] == 9  # select, train, evaluate; then a whole second iteration of six
    assert of["majority-voting/seed-0"] == 6  # both sets of questions are the frozen Questioner's
    for name in index["runs"]:
        run = read_run(tmp_path / name)
        assert (
            not run.missing
            and json.loads((tmp_path / name / "run.json").read_text())["preset"]["arm"] == name.split("/")[0]
        )
    assert json.loads((tmp_path / "grid.json").read_text()) == index
    again = Runner(monkeypatch)
    assert go(tmp_path, again, "v-zero,frozen-questioner", 2) == index and again.ran == []


def test_compute_is_counted_and_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = go(
        tmp_path,
        Runner(monkeypatch),
        "v-zero,frozen-questioner,one-iteration,frozen-intuition,no-filter,sft-votes",
    )
    runs = {name.split("/")[0]: entry for name, entry in index["runs"].items()}
    # Two trainings of the Questioner: 2 generations x 16 prompts x 4 completions, three in four valid, 10
    # votes each; labels 2 x 90 x 10.
    assert runs["v-zero"]["compute"] == {
        "images": 96,
        "written": 192,
        "rollouts.questioner": 256,
        "rollouts.solver": (32 + 16) * 5,
        "votes.reward": 2 * 2 * 48 * 10,
        "votes.label": 1800,
        "votes.check": 0,
        "imitated": 0,
        "steps.questioner": 8,
        "steps.solver": 7,
        "tokens": 5000,
    }
    assert runs["v-zero"]["compute_differs"] == {}
    assert runs["frozen-intuition"]["compute"]["votes.reward"] == 2 * 2 * 48 * 11
    frozen = runs["frozen-questioner"]["compute_differs"]
    assert frozen["rollouts.questioner"] == {"value": 0, "reference": 256, "ratio": 0.0}
    assert frozen["steps.solver"] == {"value": 7 + 4, "reference": 7, "ratio": round(11 / 7, 4)}
    assert (
        "steps.solver" not in runs["no-filter"]["compute_differs"]
    )  # step_matched: (40, 20) questions, as v-zero's
    assert runs["one-iteration"]["compute_differs"]["written"] == {
        "value": 96,
        "reference": 192,
        "ratio": 0.5,
    }
    assert runs["sft-votes"]["compute"]["rollouts.solver"] == 0
    assert json.loads((tmp_path / "no-filter" / "seed-0" / "run.json").read_text())["preset"][
        "step_matched"
    ] == [40, 20]


def test_differences_by_hand() -> None:
    found = differences({"a": 3, "b.c": 0, "b.d": 5}, {"a": 2, "b.c": 0, "b.d": 0})
    assert found == {
        "a": {"value": 3, "reference": 2, "ratio": 1.5},
        "b.d": {"value": 5, "reference": 0, "ratio": None},
    }
    assert differences({"a": 1, "counted since": 2}, {"a": 1}) == {}


def test_a_run_that_fails_does_not_stop_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(run: str, stage: str) -> None:
        if run == "zero-sum/seed-0" and stage.startswith("03"):
            raise InputError("a\x1b[31m fault\nof two lines")

    index = go(tmp_path, Runner(monkeypatch, breaks), "v-zero,zero-sum,random-label")
    assert {name: entry["state"] for name, entry in index["runs"].items()} == {
        "v-zero/seed-0": "done",
        "zero-sum/seed-0": "failed",
        "random-label/seed-0": "done",
    }
    assert index["runs"]["zero-sum/seed-0"]["reason"] == "a\\x1b[31m fault of two lines"
    fixed = go(tmp_path, Runner(monkeypatch), "zero-sum")
    assert {entry["state"] for entry in fixed["runs"].values()} == {"done"} and len(fixed["runs"]) == 3


def test_what_is_matched_to_a_failed_reference_fails_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(run: str, stage: str) -> None:
        raise VZeroError("no") if run.startswith("v-zero") else None

    index = go(tmp_path, Runner(monkeypatch, breaks), "no-filter")
    assert "matched to v-zero" in index["runs"]["no-filter/seed-0"]["reason"]


def test_an_interrupted_grid_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calm = Runner(monkeypatch)
    whole = go(tmp_path / "calm", calm, "v-zero,random-label,no-filter")

    def stops(run: str, stage: str) -> None:
        if (run, stage) == ("random-label/seed-0", "06-train-solver-1"):
            raise InterruptedRun("Stopped by Ctrl-C.")

    first = Runner(monkeypatch, stops)
    with pytest.raises(InterruptedRun):
        go(tmp_path / "cut", first, "v-zero,random-label,no-filter")
    noted = json.loads((tmp_path / "cut" / "grid.json").read_text())["runs"]
    assert {name.split("/")[0]: entry["state"] for name, entry in noted.items()} == {
        "v-zero": "done",
        "no-filter": "done",
        "random-label": "waiting",
    }
    second = Runner(monkeypatch)
    assert go(tmp_path / "cut", second, "v-zero,random-label,no-filter") == whole
    assert sorted(first.ran + second.ran) == sorted(calm.ran)


@pytest.mark.parametrize("looked_again", [True, False])
def test_what_another_process_has_done_stays_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looked_again: bool
) -> None:
    """A worker that is ended while it looks at a run which another has finished, before or meanwhile."""
    run, runner = GridRun(ARMS["zero-sum"], 0), Runner(monkeypatch)

    def finish() -> None:
        grid_in(tmp_path, runner).run([run], False)

    def ended(folder: Path, preset: Preset, shared: SharedStages) -> Mapping[str, int]:
        if not looked_again:
            finish()
        raise InterruptedRun("Stopped by SIGTERM.")

    if looked_again:
        finish()
    with pytest.raises(InterruptedRun):
        grid_in(tmp_path, ended).run([run], False)
    (entry,) = json.loads((tmp_path / "grid.json").read_text())["runs"].values()
    assert entry["state"] == "done" and entry["compute"]


def test_a_run_of_another_process_is_left_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner, told = Runner(monkeypatch), []
    tries = []

    def busy_twice(folder: Path, preset: Preset, shared: SharedStages) -> Mapping[str, int]:
        tries.append(folder.parent.name)
        if folder.parent.name == "zero-sum" and tries.count("zero-sum") < 3:
            raise Busy("Another run is working there.")
        return runner(folder, preset, shared)

    wanted = [GridRun(ARMS["zero-sum"], 0), GridRun(ARMS["visplay"], 0)]
    index = grid_in(tmp_path, busy_twice, say=told.append).run(wanted, False)
    assert tries == ["zero-sum", "visplay", "zero-sum", "zero-sum"]
    assert {entry.state for entry in index.runs.values()} == {"done"}
    waiting = "Waiting for other processes, which do or hold up 1 run."
    assert [text for text in told if "other processes" in text] == [waiting]
    assert sum(ARMS["zero-sum"].summary in text for text in told) == 1, "said once, however long it waits"


def test_foreign_folders_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = Runner(monkeypatch)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text("{}")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("x")
    (tmp_path / "file").write_text("x")
    for name, words in (("run", "single run"), ("other", "not a grid"), ("file", "not a folder")):
        with pytest.raises(InputError, match=words):
            go(tmp_path / name, runner, "v-zero")
    assert runner.ran == [] and (tmp_path / "other" / "thesis.tex").exists()


def test_other_settings_are_refused_run_by_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = Runner(monkeypatch)
    go(tmp_path, runner, "v-zero")
    other = load_preset("smoke", ["iterations=2", "images.count=5"])
    index = grid_in(tmp_path, runner, other).run(grid_runs(chosen("v-zero"), [0]), False)
    assert "other settings (images.count)" in str(index.runs["v-zero/seed-0"].reason)


def test_results_of_other_runs_are_left_to_their_owners(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process holds the reference's run, and writes its results, while the grid goes on."""
    go(tmp_path, Runner(monkeypatch), "v-zero")
    results = tmp_path / "v-zero" / "seed-0" / "results.json"
    with locked(results.parent):
        results.write_text('{"compute": "half wri')
        index = go(tmp_path, Runner(monkeypatch), "zero-sum")
        assert results.read_text() == '{"compute": "half wri'
    assert index["runs"]["zero-sum/seed-0"]["compute_differs"] == {}


@pytest.mark.slow
def test_a_grid_matched_by_compute_knows_each_iteration_before_it_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner, told, asked = Runner(monkeypatch), [], []

    def afford(
        place: Path, preset: Preset, stages: Any, reference: Path, shared: Any, anew: bool
    ) -> tuple[int, int]:
        from rich.console import Console

        display = Display(Plan(preset, stages, Forecast()), Console(quiet=True))
        with opened(place, preset, "test", anew) as run:
            orchestrate.run_plan(run, preset, stages, display, shared)
        done = [path.name for path in (place / "stages").iterdir() if (path / "manifest.json").exists()]
        asked.append((stages[-1].iteration, preset.step_matched, sorted(done)[-1]))
        return {1: (48, 60), 2: (32, 20)}[stages[-1].iteration]

    arms = [matched(arm, "compute") for arm in chosen("v-zero,single-uncertainty")]
    index = Grid(tmp_path, BASE, runner, told.append, afford).run(grid_runs(arms, [0]), False)
    entry = index.runs["single-uncertainty-compute-matched/seed-0"]
    assert entry.state == "done" and entry.category == "paper"
    assert asked == [(1, (), "04-label-1"), (2, (48,), "10-label-2")], "one iteration after the other"
    place = tmp_path / "single-uncertainty-compute-matched" / "seed-0"
    run = read_run(place)
    limits = [one.stage.config["at_most"] for one in run.of_kind("select")]
    assert not run.missing and limits == [48, 32] and run.preset.step_matched == (48, 32)
    first = run.preset.model_copy(update={"step_matched": (48,)}).model_dump(mode="json")
    assert [line for line in told if "it stays below" in line and "20 were kept" in line]
    ran = len(runner.ran)
    index = Grid(tmp_path, BASE, runner, told.append, afford).run(grid_runs(arms, [0]), False)
    assert index.runs["single-uncertainty-compute-matched/seed-0"].state == "done"
    assert len(runner.ran) == ran and len(asked) == 2, "the same command does nothing anew"
    artefacts.write_json(place / "run.json", {**artefacts.read_json(place / "run.json"), "preset": first})
    index = Grid(tmp_path, BASE, runner, told.append, afford).run(grid_runs(arms, [0]), False)
    assert index.runs["single-uncertainty-compute-matched/seed-0"].state == "done"
    assert asked[2:] == [(2, (48,), "13-evaluate-2")], "killed before the second count was known"
    index = Grid(tmp_path, BASE, runner, told.append, afford).run(grid_runs(arms, [0]), True)
    assert index.runs["single-uncertainty-compute-matched/seed-0"].state == "done"
    assert [one[:2] for one in asked[3:]] == [(1, ()), (2, (48,))], "--fresh counts anew"


def test_any_arm_has_a_matched_form() -> None:
    one = {name: ARMS[name] for name in ("single-uncertainty", "no-filter", "zero-sum", "v-zero")}
    assert matched(one["single-uncertainty"], "steps") is ARMS["single-uncertainty-step-matched"]
    assert (
        matched(one["no-filter"], "steps") is one["no-filter"]
        and matched(one["v-zero"], "compute") is ARMS["v-zero"]
    )
    both = [matched(ARMS[name], "compute") for name in ("frozen-questioner", "frozen-twice")]
    assert [one.name for one in both] == [
        f"frozen-{name}-compute-matched" for name in ("questioner", "twice")
    ]
    assert both[0].changes != both[1].changes
    form = matched(one["zero-sum"], "steps")
    assert (form.name, form.step_matched, form.matched_form_of) == ("zero-sum-step-matched", True, "zero-sum")
    assert form.changes == one["zero-sum"].changes
    again = matched(ARMS["single-uncertainty-step-matched"], "compute")
    assert (again.name, again.matched_form_of) == ("single-uncertainty-compute-matched", "single-uncertainty")
    assert again.compute_matched and not again.step_matched


def test_an_arm_of_fewer_iterations_is_not_matched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arms = [matched(arm, "steps") for arm in chosen("v-zero,one-iteration,zero-sum")]
    index = Grid(tmp_path, BASE, Runner(monkeypatch), lambda text: None).run(grid_runs(arms, [0]), False)
    assert {name: run.state for name, run in index.runs.items()} == {
        "v-zero/seed-0": "done",
        "one-iteration-step-matched/seed-0": "failed",
        "zero-sum-step-matched/seed-0": "done",
    }
    assert "It has 1 iteration and v-zero 2" in str(index.runs["one-iteration-step-matched/seed-0"].reason)
