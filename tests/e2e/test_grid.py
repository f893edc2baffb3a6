"""A grid of three arms through the command line, killed in the middle and gone on with: every stage run once,
every run whole."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import psutil
import pytest

from tests import small_grid
from vzero.runtime import artefacts
from vzero.runtime.checkpoints import POCKET

ROOT = Path(__file__).resolve().parents[2]
MODEL = os.environ.get("VZERO_TEST_MODEL", "pocket")
ARMS = ("v-zero", "one-iteration", "random-label")
SETTINGS = (*small_grid.SETTINGS, *small_grid.BATCHES, "images.count=24", f"model={MODEL}")
pytestmark = pytest.mark.skipif(
    MODEL == "pocket" and not (POCKET / "config.json").exists(), reason="there is no pocket checkpoint yet"
)


def start(out: Path, *words: str, arms: tuple[str, ...] = ARMS) -> subprocess.Popen[str]:
    settings = [word for setting in SETTINGS for word in ("--set", setting)]
    grid = ["--arms", ",".join(arms), "--out", str(out), "--plain"]
    return subprocess.Popen(
        [sys.executable, "-m", "harness", "reproduce", "--preset", "smoke", *settings, *grid, *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
    )


def events(out: Path) -> list[tuple[str, str, str]]:
    """(arm, stage, event) of every stage in every ledger."""
    return [
        (arm, row["stage"], row["event"])
        for arm in ARMS
        if (out / arm / "seed-0" / "ledger.jsonl").exists()
        for row in artefacts.read_jsonl(out / arm / "seed-0" / "ledger.jsonl")
        if row["event"].startswith("stage-")
    ]


def test_three_arms_share_stages_and_survive_a_kill(tmp_path: Path) -> None:
    out = tmp_path / "grid"
    process = start(out)
    trained = out / "random-label" / "seed-0" / "stages" / "06-train-solver-1" / "work" / "spec.json"
    limit = time.monotonic() + 1500
    while not trained.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < limit
        time.sleep(0.05)
    for one in psutil.Process(process.pid).children(recursive=True):
        if one.name() == "06-train-solver":  # else a fast one ends before it is killed
            one.suspend()
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=300)
    assert json.loads((out / "grid.json").read_text())["runs"]["random-label/seed-0"]["state"] == "running"

    shown, err = start(out, "--json").communicate(timeout=1500)
    index = json.loads(shown)
    assert {entry["state"] for entry in index["runs"].values()} == {"done"}, err
    counts = Counter(event for _, _, event in events(out))
    ran = Counter((arm, event) for arm, _, event in events(out) if event == "stage-finished")
    # V-Zero's seven stages ran once; one iteration is all of them; random labels add select, train and
    # evaluate.
    assert ran == {("v-zero", "stage-finished"): 7, ("random-label", "stage-finished"): 3}
    assert counts["stage-shared"] == 7 + 5 and counts["stage-started"] == 7 + 3 + 1  # one was begun twice
    assert (
        Counter(
            stage for arm, stage, event in events(out) if event == "stage-started" and arm == "v-zero"
        ).most_common(1)[0][1]
        == 1
    )

    runs = {arm: out / arm / "seed-0" for arm in ARMS}
    results = {arm: json.loads((run / "results.json").read_text()) for arm, run in runs.items()}
    assert {arm: (one["arm"], one["seed"], one["complete"]) for arm, one in results.items()} == {
        arm: (arm, 0, True) for arm in ARMS
    }
    assert results["one-iteration"]["gains"] == results["v-zero"]["gains"]
    assert index["runs"]["random-label/seed-0"]["compute_differs"] == {}
    labels = {
        arm: artefacts.read_jsonl(next(run.glob("stages/*-label-1/labels.jsonl")))
        for arm, run in runs.items()
    }
    assert labels["random-label"] == labels["v-zero"]
    drawn = artefacts.read_jsonl(next(runs["random-label"].glob("stages/*-select-1/labels.jsonl")))
    assert [row["votes"] for row in drawn] == [row["votes"] for row in labels["v-zero"]]
    assert [row["answer"] for row in drawn] != [row["answer"] for row in labels["v-zero"]]
    same = (
        run / "stages" / "02-train-questioner-1" / "checkpoint" / "model.safetensors" for run in runs.values()
    )
    assert len({path.stat().st_ino for path in same}) == 1
    for run in runs.values():
        assert (run / "report.html").stat().st_size > 1000 and not list(run.glob("stages/*/work"))

    # In the same folder an arm that draws no questions of its own, held to V-Zero's total compute.
    shown, err = start(out, "--json", "--matched", "compute", arms=("v-zero", "recycled")).communicate(
        timeout=1500
    )
    entry = json.loads(shown)["runs"]["recycled-compute-matched/seed-0"]
    assert entry["state"] == "done", err
    matched = json.loads((out / "recycled-compute-matched" / "seed-0" / "results.json").read_text())
    total = {one["arm"]: one["compute"]["flop"] for one in (results["v-zero"], matched)}
    assert matched["matched"] and matched["compute"]["written"] == matched["compute"]["votes"]["label"] == 0
    assert 0 < total["recycled-compute-matched"] <= 1.02 * total["v-zero"]
