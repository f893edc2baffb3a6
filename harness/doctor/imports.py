"""Import what the stages import, in a process of its own: `python -m harness.doctor.imports`.

Prints a line of JSON per module, {"module": its name, "error": why it failed or null}, and last
{"cuda": whether torch sees a GPU}. A library that takes the process down is the one after the last line.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
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


def failures(limit: float = LIMIT) -> tuple[dict[str, str], bool | None]:
    """Modules that cannot be imported and why, and whether torch sees a GPU (None: it was not asked).

    A module whose import takes longer than `limit` seconds is UNFINISHED; those after it were not tried.
    """
    package_root = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join(filter(None, (os.environ.get("PYTHONPATH"), package_root)))
    command, environment = [sys.executable, "-m", __name__], {**os.environ, "PYTHONPATH": path}
    try:
        program = subprocess.run(command, capture_output=True, timeout=limit, env=environment, check=False)
        output, reason = program.stdout, f"its import ended Python with exit code {program.returncode}"
    except subprocess.TimeoutExpired as error:
        output, reason = error.stdout or b"", UNFINISHED
    lines = [json.loads(line) for line in output.splitlines() if line.startswith(b"{")]
    tried = [line for line in lines if "module" in line]
    found = {line["module"]: line["error"] for line in tried if line["error"] is not None}
    if len(tried) < len(MODULES):
        found[MODULES[len(tried)]] = reason
    return found, lines[-1].get("cuda") if lines else None


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
