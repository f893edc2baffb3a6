"""`lmms-eval --model vzero`: found by its entry point, run by lmms-eval's own command line on a task of its
own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import yaml

from harness.evals.tasks import tasks_folder
from tests.fixtures import suite_rows

ROOT = Path(__file__).resolve().parents[2]


def test_lmms_evals_own_command_line_runs_a_checkpoint_of_ours(tmp_path):
    """The entry point is read from pyproject.toml into a distribution of its own, as an install would leave
    it."""
    group = "lmms_eval.models"
    entries = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"][group]
    about = tmp_path / "site" / "vzero_entry-0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: vzero-entry\nVersion: 0\n")
    (about / "entry_points.txt").write_text(
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in entries.items())
    )
    suite_rows.write(tmp_path / "data")
    task = {
        "include": str(tasks_folder() / "mmstar" / "mmstar.yaml"),
        "task": "mmstar_here",
        "dataset_path": str(tmp_path / "data" / "mmstar"),
        "dataset_kwargs": {"load_from_disk": True},
        "generation_kwargs": {"max_new_tokens": 12},
    }
    (tmp_path / "tasks").mkdir()
    (tmp_path / "tasks" / "mmstar_here.yaml").write_text(yaml.safe_dump(task))
    words = [
        "-m",
        "lmms_eval",
        "--model",
        "vzero",
        "--model_args",
        "pretrained=pocket,threads=1",
        "--tasks",
        "mmstar_here",
    ]
    words += [
        "--include_path",
        str(tmp_path / "tasks"),
        "--batch_size",
        "1",
        "--log_samples",
        "--output_path",
        str(tmp_path / "out"),
    ]
    path = os.pathsep.join([str(ROOT), str(tmp_path / "site")])
    env = {
        **os.environ,
        "PYTHONPATH": path,
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(tmp_path / "hub"),
    }
    done = subprocess.run(
        [sys.executable, *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=900,
        env=env,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    (samples,) = (tmp_path / "out").rglob("*samples_mmstar_here.jsonl")
    (row,) = [json.loads(line) for line in samples.read_text().splitlines()]
    assert row["target"] == "B" and row["filtered_resps"]  # something was said
    (results,) = (tmp_path / "out").rglob("*results.json")
    assert json.loads(results.read_text())["results"]["mmstar_here"]["average,none"] in (0, 1)
