"""What one GPU proves in eight minutes, without vLLM and without a model's weights:

    python tools/gpu_check.py                      # into results/gpu/CARD/
    python tools/gpu_check.py --only vision,parity --fresh
    python tools/gpu_check.py --dry-run --out FOLDER   # tiny shapes on the CPU, the same code

Eleven sections, each a process of its own with a limit of time, each saved when it ends: a kill loses the
one that runs, and the same command goes on with the others. `gpu_check.json` and `gpu_check.md` name the
card, the versions and what is out of range; `rates.json` holds the shares of the card's peak that
`vzero-harness plan` then uses for this card in place of its assumptions. Exit code 0: all in range; 1:
something is not, or is missing; 2: wrong input.

It proves numerics, kernels, memory and speed of training and of the transformers engine at the shapes
of Qwen2.5-VL-3B with random weights (fewer layers where the card is too small for all). Nothing about vLLM,
several GPUs, or a model's quality.

It runs from the source tree, without installing it, on torch 2.11 or newer; versions outside the ranges
of pyproject.toml are listed. Packages that a machine without network lacks are carried as wheels, in the
versions of requirements/cpu.txt and for its Python:

    pip download --no-deps --only-binary=:all: --python-version 3.12 -d wheels \
        trl datasets multiprocess dill pydantic pydantic-core annotated-types typing-inspection peft  # pinned
    pip install --no-deps --no-index --target carried wheels/*.whl        # on that machine
    PYTHONPATH=carried python tools/gpu_check.py

Qwen's processor needs torchvision, of any build for that torch (0.26 for 2.11): carry it where it is missing.
Without it, and without any other package that only some sections import, the others still run.

Real token ids and prompts come from the folder of `tools/qwen_tokenizer.py`, copied as well and named by
`--processor`; without it words of the pocket world stand in, which changes lengths a little.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
if TYPE_CHECKING:
    from tools.gpu_check_report import Report, Section

# Seconds that each may take. In the order of their worth: whoever has three minutes gets the first ones.
LIMITS = {
    "facts": 60, "weights": 120, "vision": 60, "attention": 120, "parity": 90, "questioner": 150,
    "solver": 150, "decode": 60, "stock": 120, "lora": 120, "smoke": 150,
}  # fmt: skip
LEAST = 15.0  # seconds left that are worth beginning another
DYING = 3.0  # seconds that a section out of time has to say where it is
NEEDED = "torch transformers trl accelerate peft datasets pydantic numpy PIL safetensors tokenizers packaging"


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Eight minutes on one GPU, section by section.")
    parser.add_argument("--out", type=Path, help="default: results/gpu/CARD in the source tree")
    parser.add_argument("--only", default="", help=f"of {','.join(LIMITS)}")
    parser.add_argument("--fresh", action="store_true", help="run finished sections again")
    parser.add_argument("--dry-run", action="store_true", help="tiny shapes on the CPU")
    parser.add_argument("--seconds", type=float, help="for all sections; default 480, in a dry run no limit")
    parser.add_argument("--layers", type=int, help="of the language model; default: as many as fit")
    parser.add_argument("--processor", type=Path, help="folder of tools/qwen_tokenizer.py")
    parser.add_argument("--scratch", type=Path, help="9 GB for checkpoints; default: a temporary folder")
    parser.add_argument("--section", help=argparse.SUPPRESS)  # what a child process runs
    return parser.parse_args(given)


def main() -> int:
    begin, given = time.monotonic(), arguments()
    missing = _missing()
    if missing:
        lacking = " ".join(missing)
        return _refuse(f"these packages cannot be imported: {lacking}; see how to carry wheels in {__file__}")
    from vzero.runtime import compat

    compat.install()
    if given.section:
        return _child(given)
    names = [name for name in given.only.split(",") if name] or list(LIMITS)
    if unknown := [name for name in names if name not in LIMITS]:
        return _refuse(f"there is no section {unknown[0]!r}; choose from {', '.join(LIMITS)}")
    card = _card(given.dry_run)
    if card is None:
        return _refuse("no GPU is visible to torch; --dry-run tries the program on the CPU")
    signal.signal(signal.SIGTERM, _stop)
    out = given.out or ROOT / "results" / "gpu" / card[0]
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return _refuse(f"{out} cannot be written ({error.strerror}); choose another --out")
    with tempfile.TemporaryDirectory(prefix="vzero-gpu-check-") as scratch:
        given.scratch = given.scratch or Path(scratch)
        given.scratch.mkdir(parents=True, exist_ok=True)
        left = given.seconds or (float("inf") if given.dry_run else 480.0)
        return _sections(given, names, out, card, begin + left)


def _sections(
    given: argparse.Namespace, names: Sequence[str], out: Path, card: tuple[str, str], end: float
) -> int:
    """Run what is not finished until `end`, saving after each."""
    from tools.gpu_check_report import Report
    from vzero.runtime import artefacts

    report = Report(
        card=card[0], device=card[1], dry=given.dry_run, provenance=artefacts.provenance(), sections={}
    )
    earlier = out / "gpu_check.json"
    if earlier.exists():
        before = Report.model_validate_json(earlier.read_text("utf-8"))
        if (before.device, before.dry) != (report.device, report.dry):
            return _refuse(f"{out} holds results of {before.device}; choose another --out")
        kept = {name: one for name, one in before.sections.items() if not (given.fresh and name in names)}
        report = report.model_copy(update={"sections": kept})
    for name in names:
        done = report.sections.get(name)
        if done is not None and done.state == "done":
            print(f"{name}: done before")
            continue
        limit = min(float("inf") if given.dry_run else LIMITS[name], end - time.monotonic())
        if limit < LEAST:
            print(f"{name}: not begun, {max(0.0, limit):.0f} s are left")
            continue
        found = _run(given, name, limit)
        ordered = {one: {**report.sections, name: found}.get(one) for one in LIMITS}
        sections: dict[str, Section] = {one: section for one, section in ordered.items() if section}
        report = report.model_copy(update={"sections": sections})
        _save(report, out)
        print(
            f"{name}: {found.state} in {found.seconds:.0f} s" + ("" if found.in_range else ", out of range")
        )
    print(out / "gpu_check.md")
    whole = all(name in report.sections and report.sections[name].in_range for name in names)
    return 0 if whole else 1


def _save(report: Report, out: Path) -> None:
    from harness.perf.hardware import RATES
    from tools.gpu_check_report import markdown
    from vzero.runtime import artefacts

    artefacts.write_json(out / "gpu_check.json", report.model_dump(mode="json"))
    artefacts.write_text(out / "gpu_check.md", markdown(report, tuple(LIMITS)) + "\n")
    if report.rates and not report.dry:
        source = {"device": report.device, "provenance": report.provenance}
        artefacts.write_json(out / RATES, {"rates": report.rates, **source})


def _run(given: argparse.Namespace, name: str, limit: float) -> Section:
    """One section in a process group of its own, which ends with it, on one GPU and without a network."""
    from tools.gpu_check_report import Section

    target = given.scratch / f"{name}.json"
    target.unlink(missing_ok=True)
    command = [sys.executable, "-X", "faulthandler", __file__, "--section", name]
    command += ["--scratch", str(given.scratch)]
    command += ["--dry-run"] if given.dry_run else []
    command += ["--layers", str(given.layers)] if given.layers else []
    command += ["--processor", str(given.processor)] if given.processor else []
    one = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]  # with two, Trainer would split batches
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": one, "HF_HUB_OFFLINE": "1"}
    start, late = time.monotonic(), False
    with (given.scratch / f"{name}.log").open("w+b") as log:
        child = subprocess.Popen(
            command, env=environment, start_new_session=True, stdout=subprocess.DEVNULL, stderr=log
        )
        try:
            child.wait(None if limit == float("inf") else limit)
        except subprocess.TimeoutExpired:
            late = True
            child.send_signal(signal.SIGABRT)  # says where it is
            with suppress(subprocess.TimeoutExpired):
                child.wait(DYING)
        finally:
            _end(child)
            log.seek(0)
            said = log.read().decode("utf-8", "replace")
            print(said, end="", file=sys.stderr)
    seconds, lines = round(time.monotonic() - start, 1), said.strip().splitlines() or ["nothing said"]
    if late:
        where = [line.strip() for line in lines if line.startswith("  File ")]
        return Section(state="out of time", seconds=seconds, error="; ".join(where[:3]))
    if not target.exists():
        error = f"the process ended with {child.returncode}: {lines[-1][:300]}"
        return Section(state="failed", seconds=seconds, error=error)
    return Section.model_validate_json(target.read_text("utf-8"))


def _end(child: subprocess.Popen[bytes]) -> None:
    """Kill the child and all that it started; the card must be free for the next."""
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _child(given: argparse.Namespace) -> int:
    from tools import gpu_check_sections as sections
    from tools import qwen_tokenizer
    from tools.gpu_check_models import Setup, layers_that_fit
    from vzero.runtime import artefacts

    processor = given.processor
    if processor is None and not given.dry_run and (qwen_tokenizer.cache() / "tokenizer.json").exists():
        processor = qwen_tokenizer.cache()
    layers = given.layers or (None if given.dry_run else layers_that_fit())
    found = sections.run(given.section, Setup(given.dry_run, given.scratch, processor, layers))
    artefacts.write_json(given.scratch / f"{given.section}.json", found.model_dump(mode="json"))
    return 0


def _card(dry: bool) -> tuple[str, str] | None:
    """Its kind, as `plan --gpu` calls it, and the driver's name; asked in another process, since one that has
    asked holds memory of the card."""
    if dry:
        return "dry-run", "the CPU, dry run"
    program = "import torch; p = torch.cuda.get_device_properties(0); print(p.total_memory, p.name, sep='|')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    if done.returncode:
        return None
    from harness.perf.hardware import kind_of

    memory, _, name = done.stdout.strip().partition("|")
    return kind_of(name, float(memory)), name


def _missing() -> list[str]:
    from importlib.util import find_spec

    return [name for name in NEEDED.split() if find_spec(name) is None]


def _stop(number: int, frame: FrameType | None) -> None:
    """A polite kill unwinds, so that the running section's processes end too."""
    raise SystemExit(128 + number)


def _refuse(reason: str) -> int:
    print(f"error: {reason}.", file=sys.stderr)
    return 2


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("interrupted; the same command goes on with what is missing", file=sys.stderr)
        sys.exit(75)
