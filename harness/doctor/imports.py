"""Import what the stages import, in a process of its own: `python -m harness.doctor.imports`.

Prints a line of JSON per module, {"module": its name, "error": why it failed or null}, and last
{"cuda": whether torch sees a GPU}. A library that takes the process down is the one after the last line.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from importlib import import_module
from pathlib import Path

MODULES = (
    "filelock._api",  # lmms-eval's evaluator imports it when it starts; filelock 4.3 has none
    "torch",
    "torchvision",  # the image processors need it; its build must fit torch's
    "transformers",
    "datasets",
    "peft",
    "lmms_eval.evaluator",
    "vzero.grpo.train",  # TRL's trainer and all that ours takes from it
)
LIMIT = 60.0  # seconds; a first import from a cold disk can take longer
UNFINISHED = "its import was not finished"


def failures(
    limit: float = LIMIT, begin: Callable[[str], None] = lambda module: None
) -> tuple[dict[str, str], bool | None]:
    """Modules that cannot be imported and why, and whether torch sees a GPU (None: it was not asked).

    Modules that are not imported within `limit` seconds in all: the one at work is UNFINISHED, those after it
    were not tried. `begin` hears each module before it is tried.
    """
    package_root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), package_root)))
    command, environment = [sys.executable, "-m", __name__], {**os.environ, "PYTHONPATH": path}
    found: dict[str, str] = {}
    cuda: bool | None = None
    left, late = list(MODULES), threading.Event()
    quiet = subprocess.DEVNULL
    with subprocess.Popen(
        command, env=environment, text=True, stdout=subprocess.PIPE, stderr=quiet
    ) as program:

        def end() -> None:
            late.set()
            program.kill()

        timer = threading.Timer(limit, end)
        timer.start()
        begin(left[0])
        for line in program.stdout or ():
            said = json.loads(line) if line.startswith("{") else {}
            cuda = said.get("cuda", cuda)
            if "module" in said:
                left.pop(0)
                begin(left[0] if left else "CUDA")
                if said["error"] is not None:
                    found[said["module"]] = said["error"]
        code = program.wait()
        timer.cancel()
    if left:
        ended = f"its import ended Python with exit code {code}"
        found[left[0]] = UNFINISHED if late.is_set() else ended
    return found, cuda


def main() -> None:
    """Try every module."""
    from vzero.runtime import compat

    compat.install()
    for module in MODULES:
        error = None
        try:
            import_module(module)
        except Exception as problem:  # a broken build raises nearly anything
            error = f"{type(problem).__name__}: {problem}".splitlines()[0]
        print(json.dumps({"module": module, "error": error}), flush=True)
    torch = sys.modules.get("torch")
    print(json.dumps({"cuda": torch.cuda.is_available() if torch else None}), flush=True)


if __name__ == "__main__":
    main()
