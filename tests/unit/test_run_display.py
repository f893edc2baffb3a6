"""Progress as it is read from a stage's file and shown to the user."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from harness.runs import display
from harness.runs.progress import Position, ProgressReader
from vzero.presets import load_preset
from vzero.runtime.progress import Progress
from vzero.selfplay import plan

STAGES = plan(load_preset("smoke"))


def write(path: Path, *rows: tuple[float, int, int, str]) -> None:
    with open(path, "a") as stream:
        for time, done, total, unit in rows:
            stream.write(
                json.dumps(
                    {"time": time, "done": done, "total": total, "unit": unit, "metrics": {"reward": 0.25}}
                )
                + "\n"
            )


def test_time_left_follows_from_this_attempt_only(tmp_path: Path) -> None:
    path = tmp_path / "progress.jsonl"
    watch = ProgressReader(path, begin=100.0)
    assert watch.refresh() is None
    write(path, (10.0, 1, 20, "steps"), (11.0, 4, 20, "steps"))
    assert watch.refresh() is None  # rows of an earlier attempt
    write(path, (103.0, 5, 20, "steps"))
    assert watch.refresh() == Position(5, 20, "steps", {"reward": 0.25}, None)
    write(path, (109.0, 8, 20, "steps"))
    assert watch.refresh().eta == pytest.approx(24.0)  # 3 steps in 6 s, 12 steps left


def test_another_unit_begins_a_rate_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "progress.jsonl"
    write(
        path,
        (1.0, 0, 10, "questions"),
        (2.0, 10, 10, "questions"),
        (50.0, 0, 100, "votes"),
        (60.0, 50, 100, "votes"),
    )
    assert ProgressReader(path, begin=0.0).refresh().eta == pytest.approx(10.0)


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
        STAGES, Console(file=stream, width=40), plain=False
    ) as view:  # a StringIO is no terminal
        view.reused(STAGES[0], 2.0)
        view.started(STAGES[1], 1)
        for quarter in range(100):  # 25 seconds of polling
            now += 0.25
            view.moved(STAGES[1], Position(quarter // 40, 8, "items", {"tokens_per_second": 1234.5}, 61.0))
        for _ in range(4 * 69):  # and 69 without a step
            now += 0.25
            view.moved(STAGES[1], Position(2, 8, "items", {"tokens_per_second": 1234.5}, 61.0))
        view.ended(STAGES[1], 185.0, {"items": 24, "accuracy": 0.51234, "seconds": 3, "name": "x"})
        view.started(STAGES[2], 2)
    assert stream.getvalue().splitlines() == [
        "[1/7] 00-images already done (2 s)",
        "[2/7] 01-evaluate-base started",
        "        01-evaluate-base 0/8 items, tokens/s 1234, 1 min 01 s left",
        "        01-evaluate-base 1/8 items, tokens/s 1234, 1 min 01 s left",
        "        01-evaluate-base 2/8 items, tokens/s 1234, 1 min 01 s left",  # ten seconds on
        "        01-evaluate-base 2/8 items, tokens/s 1234, 1 min 01 s left",  # the sign of life
        "        01-evaluate-base done in 3 min 05 s: items 24, accuracy 0.5123",
        "[3/7] 02-train-questioner-1 resumed (attempt 2)",
    ]


def test_the_panel_shows_every_stage_and_the_time_left() -> None:
    stages = plan(load_preset("smoke", ["iterations=2"]))
    stream = io.StringIO()
    console = Console(file=stream, width=120, height=40, force_terminal=True, color_system=None)
    with display.shown(stages, console, plain=False) as view:
        assert isinstance(view, display.Panel)
        for stage in stages[:7]:
            view.started(stage, 1)
            view.ended(stage, 60.0, {})
        view.started(stages[7], 1)
        view.moved(stages[7], Position(1, 2, "steps", {"reward": 0.5}, 30.0))
        console.file = last = io.StringIO()
        console.print(view.render())
    text = last.getvalue()
    assert all(stage.name in text for stage in stages)
    assert "1/2 steps, reward 0.5, 30 s left" in text
    assert (
        "stage 8 of 12" in text and "about 4 min 30 s left" in text
    )  # 30 s here, then four stages of known kinds, a minute each
