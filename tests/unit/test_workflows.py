"""The workflows and the action that GitHub runs: read-only, pinned, no secrets, of things that exist."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
ACTION = ROOT / "action.yml"
WORKFLOWS = [*sorted((ROOT / ".github" / "workflows").glob("*.yml")), ROOT / "docs" / "ci-example.yml"]
FILES = [ACTION, *WORKFLOWS]


def read(path: Path) -> dict[Any, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def steps(path: Path) -> list[dict[str, Any]]:
    """Every step of a workflow's jobs, or of the action."""
    found = read(path)
    jobs = found["jobs"].values() if "jobs" in found else [found["runs"]]
    return [step for job in jobs for step in job["steps"]]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_may_read_and_nothing_else(path: Path) -> None:
    found = read(path)
    assert found["permissions"] == {"contents": "read"}
    assert not any("permissions" in job for job in found["jobs"].values())
    assert all(0 < job["timeout-minutes"] <= 60 for job in found["jobs"].values())
    triggers = found[True]  # YAML 1.1 reads the bare key `on` as true
    assert set(triggers) <= {"push", "pull_request", "schedule"}
    checkouts = [one for one in steps(path) if one.get("uses", "").startswith("actions/checkout@")]
    assert checkouts and all(one["with"]["persist-credentials"] is False for one in checkouts)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_what_it_uses_is_pinned_and_no_secret_is_asked_for(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert "secrets" not in re.findall(r"\$\{\{\s*(\w+)", text) and "GITHUB_TOKEN" not in text
    uses = re.findall(r"uses:\s*(\S+)(.*)", text)
    assert len(uses) == sum("uses" in step for step in steps(path)) > 0
    for name, comment in uses:
        if not name.startswith("./") and not name.startswith("OWNER/"):
            assert re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40}", name) and re.match(r" # v\d+\.\d+", comment)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_its_scripts_are_bash_into_which_no_input_is_pasted(path: Path) -> None:
    for step in steps(path):
        if script := step.get("run"):
            assert not set(re.findall(r"\$\{\{\s*(\w+)", script)) - {"matrix"}, step
            plain = re.sub(r"\$\{\{.*?\}\}", "x", script)
            assert subprocess.run(["bash", "-n"], input=plain, text=True, check=False).returncode == 0
            if path == ACTION:
                assert step["shell"] == "bash" and script.startswith("set -euo pipefail\n")


def test_every_input_of_the_action_has_a_use_a_default_and_a_word_on_its_page() -> None:
    found, page = read(ACTION), (ROOT / "docs" / "ci.md").read_text(encoding="utf-8")
    used = set(re.findall(r"inputs\.([\w-]+)", ACTION.read_text(encoding="utf-8")))
    assert used == set(found["inputs"])
    assert all(one["default"] is not None and one["description"] for one in found["inputs"].values())
    assert all(f"`{name}`" in page for name in (*found["inputs"], *found["outputs"]))


def test_the_project_s_own_workflow_calls_what_is_there() -> None:
    jobs = read(ROOT / ".github" / "workflows" / "ci.yml")["jobs"]
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    targets = jobs["make"]["strategy"]["matrix"]["target"]
    assert {"lint", "test", "unlocked"} <= set(targets)
    assert all(re.search(rf"^{name}:", makefile, re.MULTILINE) for name in targets)
    images = jobs["image"]["strategy"]["matrix"]["target"]
    assert all(re.search(rf" AS {name}$", dockerfile, re.MULTILINE) for name in images)


def test_the_action_finds_the_torch_of_the_project() -> None:
    (install,) = (step for step in steps(ACTION) if step.get("id") == "install")
    line = next(one for one in install["run"].splitlines() if one.startswith("torch="))
    script = f'GITHUB_ACTION_PATH={ROOT}\n{line}\necho "$torch"'
    said = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout
    assert re.fullmatch(r"torch==2\.\d+\.\d+ torchvision==0\.\d+\.\d+\n", said)
