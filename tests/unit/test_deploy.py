"""Containers and launch files: what can be held true without an engine, a cluster or a GPU. `make image-test`
builds and runs the image."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from vzero.presets import load_preset

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


def read(name: str) -> list[Any]:
    return list(yaml.safe_load_all((ROOT / name).read_text(encoding="utf-8")))


def test_the_dockerfile_keeps_to_what_every_builder_reads() -> None:
    code = "\n".join(line for line in DOCKERFILE.splitlines() if not line.startswith("#"))
    assert not re.search(r"<<|COPY --link|RUN --mount|^# syntax", code, re.M)
    assert code.rstrip().splitlines()[-1].startswith("USER ") and "USER root" not in code
    assert re.findall(r"AS (\w[\w-]*)", code)[-1] == "cpu", "the last stage is what `docker build .` makes"


def test_everything_the_dockerfile_copies_enters_its_context() -> None:
    let_in = {
        line[1:].split("/")[0]
        for line in (ROOT / ".dockerignore").read_text().splitlines()
        if line.startswith("!")
    }
    for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.M):
        for source in line.split()[:-1]:
            assert source == "." or (ROOT / source).exists(), source
            assert source == "." or source.split("/")[0] in let_in, source


def test_a_stage_takes_from_stages_before_it_what_was_made_there() -> None:
    made: dict[str, list[str]] = {}
    for line in DOCKERFILE.splitlines():
        if begun := re.match(r"FROM (\S+) AS (\S+)", line):
            base, name = begun.groups()
            assert base in made or base == "${BASE}", line
            made[name] = []
        elif taken := re.match(r"COPY --from=(\S+) (\S+) ", line):
            stage, source = taken.groups()
            assert stage in list(made)[:-1] and source == "/app/.venv", line


def test_both_locks_hold_what_builds_the_package() -> None:
    """The stages install it without isolation."""
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["build-system"]["requires"]
    for lock in ("cpu.txt", "cuda.txt"):
        text = (ROOT / "requirements" / lock).read_text("utf-8")
        pinned = dict(re.findall(r"^([a-z0-9._-]+)==([^\s;\\]+)", text, re.M))
        for one in map(Requirement, wanted):
            assert one.specifier.contains(pinned[one.name]), (lock, one.name)


def test_no_file_names_a_package_index() -> None:
    for name in (
        "Dockerfile",
        "compose.yaml",
        "compose.cpu.yaml",
        "requirements/cuda.txt",
        "requirements/cuda.in",
        "tools/image_test.py",
    ):
        text = (ROOT / name).read_text(encoding="utf-8")
        assert not re.search(r"https?://(?!127\.0\.0\.1|solver:)", text), name


def test_the_cuda_lock_pins_what_the_cpu_lock_pins() -> None:
    pins = [
        dict(
            re.findall(
                r"^([a-z0-9._-]+)==([^\s;\\]+)",
                (ROOT / "requirements" / name).read_text(encoding="utf-8"),
                re.M,
            )
        )
        for name in ("cpu.txt", "cuda.txt")
    ]
    cpu, cuda = pins
    assert cuda["torch"] == "2.13.0" and cuda["vllm"] == "0.31.0"
    shared = {name for name in cpu if name in cuda}
    assert {"transformers", "trl", "lmms-eval", "numpy"} <= shared
    assert {name: (cpu[name], cuda[name]) for name in shared if cpu[name] != cuda[name]} == {}


@pytest.mark.parametrize("name", ["compose.yaml", "compose.cpu.yaml"])
def test_services_have_no_rights_and_publish_nothing(name: str) -> None:
    (tree,) = read(name)
    for service in tree["services"].values():
        assert service["read_only"] is True and service["cap_drop"] == ["ALL"]
        assert "ports" not in service and "privileged" not in service and service.get("ipc") is None
        assert all(
            source.split(":")[0] in tree["volumes"] or source.endswith(":ro") for source in service["volumes"]
        )


def test_the_solvers_network_leads_nowhere_else() -> None:
    (tree,) = read("compose.yaml")
    assert (
        tree["services"]["solver"]["networks"] == ["solver"]
        and tree["networks"]["solver"]["internal"] is True
    )
    devices = [
        tree["services"][name]["deploy"]["resources"]["reservations"]["devices"][0]
        for name in ("harness", "solver")
    ]
    assert devices[0]["device_ids"] != devices[1]["device_ids"]


def test_the_job_of_kubernetes_tries_again_after_75_only() -> None:
    job = read("deploy/kubernetes.yaml")[1]
    rules = job["spec"]["podFailurePolicy"]["rules"]
    actions = {
        code: rule["action"] for rule in rules for code in rule.get("onExitCodes", {}).get("values", ())
    }
    assert actions == {75: "Ignore", 1: "FailJob", 2: "FailJob"}
    pod = job["spec"]["template"]["spec"]
    assert (
        pod["securityContext"]["runAsNonRoot"]
        and pod["containers"][0]["securityContext"]["readOnlyRootFilesystem"]
    )


@pytest.fixture
def slurm(tmp_path: Path) -> dict[str, str]:
    """An environment in which `vzero-harness` ends as CODE says, or waits to be told to stop, and `scontrol`
    notes what it was asked."""
    programs = {
        "vzero": '[ "$1" = doctor ] && exit 0\necho "$SLURM_NODEID at $MASTER_ADDR: $@" >> tasked\n'
        '[ "$CODE" = wait ] || exit "$CODE"\n'
        'trap "exit 75" TERM\ntouch started$SLURM_NODEID\nsleep 30 & wait',
        "scontrol": 'echo "$@" >> requeued',
        # Two tasks with their numbers; the highest of their exit codes. A real srun kills its tasks when it
        # is sent SIGTERM.
        "srun": """
            trap 'kill -9 $a $b; exit 137' TERM
            while [ "${1#--}" != "$1" ]; do shift; done
            SLURM_NODEID=0 "$@" & a=$!
            SLURM_NODEID=1 "$@" & b=$!
            echo "$a $b" > tasks
            wait $a; first=$?; wait $b; second=$?
            exit $((first > second ? first : second))""",
        "scancel": 'echo "$@" > cancelled\nkill -TERM $(cat tasks)',
    }
    for name, text in programs.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n", encoding="utf-8")
        (tmp_path / name).chmod(0o755)
    return {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "VZERO": "vzero", "SLURM_JOB_ID": "7"}


@pytest.mark.parametrize(("code", "requeued"), [("0", False), ("1", False), ("2", False), ("75", True)])
def test_the_slurm_job_is_queued_again_when_it_can_be_resumed(
    tmp_path: Path, slurm: dict[str, str], code: str, requeued: bool
) -> None:
    done = subprocess.run(
        ["bash", str(ROOT / "deploy" / "slurm.sh")], env={**slurm, "CODE": code}, cwd=tmp_path, check=False
    )
    assert done.returncode == int(code)
    assert (tmp_path / "requeued").exists() is requeued


def test_the_slurm_job_hands_its_signal_on(tmp_path: Path, slurm: dict[str, str]) -> None:
    running = subprocess.Popen(
        ["bash", str(ROOT / "deploy" / "slurm.sh")], env={**slurm, "CODE": "wait"}, cwd=tmp_path
    )
    while running.poll() is None and not (tmp_path / "started").exists():
        time.sleep(0.02)
    running.send_signal(signal.SIGTERM)
    assert running.wait(25) == 75
    assert (tmp_path / "requeued").read_text() == "requeue 7\n"


@pytest.mark.parametrize(("code", "requeued"), [("0", False), ("2", False), ("75", True)])
def test_the_slurm_job_on_two_nodes_runs_one_command_on_each(
    tmp_path: Path, slurm: dict[str, str], code: str, requeued: bool
) -> None:
    there = {**slurm, "CODE": code, "SLURM_NNODES": "2", "SLURMD_NODENAME": "n1"}
    words = ["bash", str(ROOT / "deploy" / "slurm.sh"), "--preset", "a b"]
    assert subprocess.run(words, env=there, cwd=tmp_path, check=False).returncode == int(code)
    assert (tmp_path / "requeued").exists() is requeued
    command = f"at n1: train --plain --out {tmp_path}/runs/slurm-7 --preset a b"
    assert sorted((tmp_path / "tasked").read_text().splitlines()) == [f"0 {command}", f"1 {command}"]


def test_the_slurm_job_on_two_nodes_hands_its_signal_to_the_tasks(
    tmp_path: Path, slurm: dict[str, str]
) -> None:
    there = {**slurm, "CODE": "wait", "SLURM_NNODES": "2"}
    running = subprocess.Popen(["bash", str(ROOT / "deploy" / "slurm.sh")], env=there, cwd=tmp_path)
    while running.poll() is None and not (
        (tmp_path / "started0").exists() and (tmp_path / "started1").exists()
    ):
        time.sleep(0.02)
    running.send_signal(signal.SIGTERM)
    assert running.wait(25) == 75
    assert (tmp_path / "cancelled").read_text() == "--signal=TERM 7\n"
    assert (tmp_path / "requeued").read_text() == "requeue 7\n"


def test_the_job_on_several_nodes_is_the_one_on_one_node_with_a_rank_each() -> None:
    claim, job = read("deploy/kubernetes-nodes.yaml")
    one = read("deploy/kubernetes.yaml")[1]
    spec = job["spec"]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    assert (
        spec["completionMode"] == "Indexed"
        and spec["completions"] == spec["parallelism"] == load_preset(preset_of(job)).launch.nodes
    )
    assert spec["podFailurePolicy"] == one["spec"]["podFailurePolicy"]
    own, other = spec["template"]["spec"], one["spec"]["template"]["spec"]
    assert own["securityContext"] == other["securityContext"] and not own["automountServiceAccountToken"]
    assert own["containers"][0]["securityContext"] == other["containers"][0]["securityContext"]
    launch = load_preset(preset_of(job)).launch
    assert own["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == launch.gpus + launch.solver_gpus


def preset_of(job: Any) -> str:
    words = job["spec"]["template"]["spec"]["containers"][0]["args"]
    return words[words.index("--preset") + 1]
