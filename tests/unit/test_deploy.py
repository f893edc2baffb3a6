"""Containers and launch files: what can be held true without an engine, a cluster or a GPU. `make image-test`
builds and runs the image."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
import tomllib
from collections.abc import Callable
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


KUBERNETES = ["deploy/kubernetes.yaml", "deploy/kubernetes-cluster.yaml"]


def job_of(name: str) -> Any:
    return next(one for one in read(name) if one["kind"] == "Job")


@pytest.mark.parametrize("name", KUBERNETES)
def test_the_job_of_kubernetes_tries_again_after_75_only(name: str) -> None:
    job = job_of(name)
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


def test_pods_of_several_machines_meet_and_nobody_else_meets_them() -> None:
    service, policy, job = read("deploy/kubernetes-cluster.yaml")
    spec, pod = job["spec"], job["spec"]["template"]["spec"]
    container = pod["containers"][0]
    preset = load_preset(container["args"][3], [container["args"][-1]])
    assert spec["completions"] == spec["parallelism"] == preset.launch.nodes
    assert preset.launch.join_seconds > 600, "a machine may have to pull the image first"
    selected = {"batch.kubernetes.io/job-name": job["metadata"]["name"]}  # Kubernetes labels its pods so
    allowed = policy["spec"]["ingress"][0]["from"][0]["podSelector"]["matchLabels"]
    assert selected == service["spec"]["selector"] == policy["spec"]["podSelector"]["matchLabels"] == allowed
    assert pod["subdomain"] == service["metadata"]["name"] and service["spec"]["clusterIP"] == "None"
    first = f"{job['metadata']['name']}-0.{pod['subdomain']}:6379"
    assert f"--address={first} " in container["command"][-2]
    variables = {one["name"]: one.get("value", one.get("valueFrom")) for one in container["env"]}
    assert variables["RAY_AUTH_MODE"] == "token" and "secretKeyRef" in variables["RAY_AUTH_TOKEN"]


@pytest.mark.parametrize(
    ("index", "head", "code", "ended"),
    [("0", 0, 0, 0), ("0", 0, 2, 2), ("0", 0, 75, 75), ("0", 1, 0, 75), ("1", 0, 0, 75), ("1", 1, 0, 75)],
)
def test_a_pod_gives_the_command_or_joins(
    tmp_path: Path, index: str, head: int, code: int, ended: int
) -> None:
    """`head`: the exit code of `ray`. A pod that only joins never ends the Job."""
    for name, end in (("ray", head), ("vzero-harness", code)):
        (tmp_path / name).write_text(f'#!/bin/bash\necho "{name} $@" >> {tmp_path}/given\nexit {end}\n')
        (tmp_path / name).chmod(0o755)
    container = job_of("deploy/kubernetes-cluster.yaml")["spec"]["template"]["spec"]["containers"][0]
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "JOB_COMPLETION_INDEX": index}
    words = [*container["command"][2:], "train", "--out", "a b"]
    assert subprocess.run(words, env=path, check=False).returncode == ended
    given = (tmp_path / "given").read_text().splitlines()
    joined = ["ray start --address=vzero-ray-0.vzero-ray:6379 --num-cpus=16 --block"]
    begun = ["ray start --head --port=6379 --num-cpus=16 --include-dashboard=false"]
    asked = [] if head else ["vzero-harness train --out a b --cluster auto"]
    assert given == (joined if index == "1" else begun + asked)


@pytest.fixture
def slurm(tmp_path: Path) -> dict[str, str]:
    """An environment in which `vzero-harness` ends as CODE says, or waits to be told to stop, and the others
    note what they were asked."""
    programs = {
        "vzero": '[ "$1" = doctor ] && exit 0\necho "$@" >> tasked\n[ "$CODE" = wait ] || exit "$CODE"\n'
        'trap "exit 75" TERM\ntouch started\nsleep 30 & wait',
        "scontrol": 'echo "$@" >> requeued',
        "ray": 'echo "$@" > headed\necho "$RAY_AUTH_MODE $RAY_AUTH_TOKEN" > token',
        "srun": 'echo "$@" > joined',
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
def test_the_slurm_job_on_three_nodes_starts_a_cluster_with_a_token_of_its_own(
    tmp_path: Path, slurm: dict[str, str], code: str, requeued: bool
) -> None:
    there = {**slurm, "CODE": code, "SLURM_NNODES": "3", "SLURMD_NODENAME": "n1", "SLURM_CPUS_PER_TASK": "4"}
    words = ["bash", str(ROOT / "deploy" / "slurm.sh"), "--preset", "a b"]
    tokens = []
    for _ in range(2):
        assert subprocess.run(words, env=there, cwd=tmp_path, check=False).returncode == int(code)
        until(lambda: (tmp_path / "joined").exists() and (tmp_path / "joined").read_text().endswith("\n"))
        tasked = (tmp_path / "tasked").read_text().splitlines()
        there_is = "--cluster n1:6379 --set launch.join_seconds=300"
        assert tasked == [f"train --plain --out {tmp_path}/runs/slurm-7 {there_is} --preset a b"]
        assert (tmp_path / "headed").read_text().startswith("start --head --port=6379 --num-cpus=4 ")
        joined = "ray start --address=n1:6379 --num-cpus=4 --block\n"
        srun = "--nodes=2 --ntasks-per-node=1 --exclude=n1 "
        assert (tmp_path / "joined").read_text() == srun + joined
        tokens.append((tmp_path / "token").read_text().split())
        for name in ("tasked", "joined"):
            (tmp_path / name).unlink()
    assert (tmp_path / "requeued").exists() is requeued
    assert [mode for mode, _ in tokens] == ["token"] * 2 and all(len(token) == 64 for _, token in tokens)
    assert tokens[0] != tokens[1]


def until(condition: Callable[[], bool]) -> None:
    """Wait until `condition` holds; generous, for a busy machine."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)
