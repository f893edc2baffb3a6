"""The step of action.yml that checks a run, as the runner of GitHub Actions runs it in another repository."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Step:
    """What the step left: exit code, log, the page of the run, and its folder of findings."""

    code: int
    log: str
    page: str
    findings: Path


def check_step(place: Path, run: Path, no_reference: bool = False) -> Step:
    """Run it in `place`, an empty folder, for the finished run in `run`."""
    (step,) = (
        one
        for one in yaml.safe_load((ROOT / "action.yml").read_text())["runs"]["steps"]
        if one.get("id") == "check"
    )
    program = place / "bin" / "vzero-harness"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m harness "$@"\n')
    program.chmod(0o755)
    files = {name: place / name.lower() for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
    environment = {
        **os.environ,
        **{name: str(path) for name, path in files.items()},
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "RUNNER_TEMP": str(place),
        "RUN": str(run),
        "REFERENCE": "",
        "NO_REFERENCE": str(no_reference).lower(),
    }
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
    done = subprocess.run(command, env=environment, cwd=place, capture_output=True, text=True, timeout=1500)
    outputs = dict(line.split("=", 1) for line in files["GITHUB_OUTPUT"].read_text().splitlines())
    page = files["GITHUB_STEP_SUMMARY"]
    return Step(
        done.returncode,
        done.stdout + done.stderr,
        page.read_text() if page.exists() else "",
        Path(outputs["findings"]),
    )
