"""Runs on a real terminal (a pty) of 80 and 120 columns: nothing wraps, no line stands twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from harness.runs.signals import SIGNALS, held_back, interruptible
from tests.terminal import Screen, on_terminal
from vzero.errors import InterruptedRun
from vzero.presets import load_preset
from vzero.selfplay import plan

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
HARNESS = [sys.executable, "-m", "harness", "reproduce", "--preset", "smoke"]
STAGES = [stage.name for stage in plan(load_preset("pocket"))]
# The display as the runner drives it, without the stages' work; how it ends is the argument.
PROGRAM = """
import sys
from rich.console import Console
from harness.cli import explain
from harness.commands.options import say_line
from harness.runs.display import Plan, shown
from harness.runs.forecast import Forecast
from harness.runs.progress import Position
from vzero.errors import InterruptedRun, VZeroError
from vzero.presets import load_preset
from vzero.selfplay import plan
preset, how = load_preset("pocket"), sys.argv[1]
stages, forecast, console = plan(preset), Forecast(), Console()
def go(name, title):
    with shown(Plan(preset, stages, forecast, name, title), console, False) as display:
        for number, stage in enumerate(stages):
            display.started(stage, 1)
            for step in range(0, 3000, 500):
                metrics = {"reward": -0.123, "tokens_per_second": 15812.0}
                display.moved(stage, Position(step, 2500, "questions", metrics, 4000.0))
            if number == 5 and how == "interrupted":
                raise InterruptedRun("Stopped by Ctrl-C; run the same command again to resume.")
            if number == 5 and how == "failed":
                raise VZeroError(f"Stage 05 failed: {'because of many things ' * 9}(log: /a/very/long.log)")
            display.ended(stage, 4000.0, {"answers": 14850, "images": 3072, "note": "a note " * 20})
try:
    if how == "grid":
        for number, arm in enumerate(("v-zero", "random-label"), 1):
            say_line(f"{arm}/seed-0: " + "what the arm is for " * 9, console)
            go(arm, f"Run {number} of 2: {arm}/seed-0")
            say_line(f"{arm}/seed-0: done in 3 s", console)
    else:
        go("", "")
except Exception as error:
    sys.exit(explain(error))
"""


def shown(how: str, width: int) -> tuple[int, Screen]:
    code, screen, _ = on_terminal(
        [sys.executable, "-c", PROGRAM, how], width, {"PYTHONPATH": str(ROOT)}, ROOT, seconds=300
    )
    return code, screen


def of_stages(screen: Screen) -> list[str]:
    return [name for line in screen.lines for name in STAGES if f" {name} " in line]


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize(
    ("how", "mark", "code"), [("done", "✓", 0), ("interrupted", "‖", 75), ("failed", "✗", 1)]
)
def test_every_stage_stands_there_once_and_nothing_wraps(how: str, mark: str, code: int, width: int) -> None:
    ended, screen = shown(how, width)
    assert ended == code, screen.lines
    assert screen.wrapped == [] and of_stages(screen) == STAGES
    [line] = [line for line in screen.lines if f" {STAGES[5]} " in line]
    assert line.startswith(mark)
    [bar] = [line for line in screen.lines if " of 13, " in line]
    assert ("stage 13 of 13" if how == "done" else "stage 6 of 13") in bar
    if how == "failed":
        text = " ".join(screen.lines)
        assert "error: Stage 05 failed: because" in text and "/a/very/long.log)" in text


@pytest.mark.parametrize("width", [80, 120])
def test_a_grid_leaves_two_lines_a_run(width: int) -> None:
    code, screen = shown("grid", width)
    assert code == 0 and screen.wrapped == [] and of_stages(screen) == []
    lines = [line for line in screen.lines if line.strip()]
    assert [line.split(":")[0] for line in lines] == ["v-zero/seed-0"] * 2 + ["random-label/seed-0"] * 2
    assert lines[0].endswith("…") and lines[1] == "v-zero/seed-0: done in 3 s"


def test_an_interruption_waits_for_the_end_of_a_frame_whichever_thread_the_kernel_asks() -> None:
    """A signal that the main thread blocks goes to another one, and Python runs its handler in the
    main thread all the same."""
    end, reached = threading.Event(), []
    other = threading.Thread(target=end.wait)
    other.start()
    before = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        with pytest.raises(InterruptedRun, match="SIGTERM"), interruptible():
            with held_back():
                os.kill(os.getpid(), signal.SIGTERM)
                time.sleep(0.05)
                reached.append("the end of the frame")
            reached.append("beyond it")
        for number in before:  # the program is ending: its exit code is decided
            signal.raise_signal(number)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        end.set()
        other.join()
    assert reached == ["the end of the frame"]


def test_without_an_interruption_signals_are_as_they_were() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    with interruptible():
        assert [signal.getsignal(number) for number in SIGNALS] != before
    assert [signal.getsignal(number) for number in SIGNALS] == before


IMPATIENT = """
import os, signal, sys
from harness.cli import explain
from harness.runs.signals import SIGNALS, interruptible
class Last:
    kill, me, numbers = staticmethod(os.kill), os.getpid(), tuple(SIGNALS)
    def __del__(self):
        for number in self.numbers:
            self.kill(self.me, number)
last = Last()  # deleted where Python ends
try:
    with interruptible():
        os.kill(os.getpid(), signal.SIGTERM)
except Exception as error:
    sys.exit(explain(error))
"""


def test_signals_while_python_ends_change_no_exit_code() -> None:
    done = subprocess.run([sys.executable, "-c", IMPATIENT], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 75 and done.stderr.startswith("Stopped by SIGTERM"), done


def test_ctrl_c_leaves_a_clean_panel_and_one_sentence(tmp_path: Path) -> None:
    code, screen, _ = on_terminal(
        [*HARNESS, "--out", str(tmp_path / "run")],
        80,
        {"PYTHONPATH": str(ROOT)},
        tmp_path,
        stop=lambda written: "01-evaluate-base" in written and "▶" in written,
        seconds=300,
    )
    assert code == 75 and screen.wrapped == [], screen.lines
    assert sum("00-images" in line for line in screen.lines) == 1
    assert "interrupted" in " ".join(screen.lines)
    assert "Stopped by Ctrl-C; run the same command again to resume." in screen.lines


def test_a_failed_run_says_why_below_its_panel(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "broken.png").write_text("no picture")
    code, screen, _ = on_terminal(
        [*HARNESS, "--images", "pictures", "--out", "run"],
        80,
        {"PYTHONPATH": str(ROOT)},
        tmp_path,
        seconds=300,
    )
    assert code == 2 and screen.wrapped == []
    [line] = [line for line in screen.lines if "00-images" in line and ".log" not in line]
    assert line.startswith("✗") and line.rstrip().endswith("failed")
    assert "No usable picture in" in " ".join(screen.lines)
