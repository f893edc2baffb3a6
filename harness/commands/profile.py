"""`vzero-harness profile`: where the time of rollouts, votes and GRPO goes on this machine, and against stock
libraries."""

from __future__ import annotations

import os
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from typer import Argument, Option

from harness.commands import options
from vzero.errors import InputError

if TYPE_CHECKING:
    from harness.perf.profile.results import Options, Profile
    from vzero.config import Preset

TRACE = "trace.json.gz"


Target = Annotated[
    Literal["rollout", "votes", "grpo", "all"],
    Argument(help="Question rollouts, votes on them, a GRPO generation batch of both roles, or all."),
]
Out = Annotated[
    Path | None,
    Option("--out", help="Folder for profile.json, profile.md and profile.html; default: none written."),
]
Other = Annotated[
    Literal["stock"] | None,
    Option("--against", help="Measure stock transformers and TRL in turn with ours, in this process."),
]
Repetitions = Annotated[int, Option("--repetitions", min=1, help="Timed repetitions; medians are reported.")]
Prompts = Annotated[
    int | None,
    Option("--prompts", min=2, help="Pictures to ask about; default: a generation batch of the preset."),
]
StockBatch = Annotated[
    int | None,
    Option("--stock-batch", min=1, help="Sequences that stock decodes together; default: as ours."),
]
Trace = Annotated[
    bool, Option("--trace", help="Write OUT/trace.json.gz too, a flame chart for ui.perfetto.dev.")
]


def profile(
    target: Target,
    preset: options.PresetName = "pocket",
    images: options.Images = None,
    out: Out = None,
    against: Other = None,
    repetitions: Repetitions = 5,
    prompts: Prompts = None,
    stock_batch: StockBatch = None,
    trace: Trace = False,
    seed: options.Seed = None,
    set_: options.Set = None,
    json: options.Json = False,
) -> None:
    """Measure seconds, tokens, padding, image-encoder passes, memory and utilisation by phase.

    Example: vzero-harness profile all --preset pocket --against stock --out runs/profile
    """
    resolved = options.resolve(preset, images, seed, set_)
    if resolved.lora is not None:
        raise InputError(
            f"A profile measures the training of all weights; {resolved.name} trains low-rank adapters: "
            "profile it without lora."
        )
    if resolved.engine.name != "transformers":
        raise InputError(
            f"A profile measures the transformers engine, and engine.name is {resolved.engine.name!r}; "
            "give --set engine.name=transformers."
        )
    one = resolved.engine.model_copy(update={"processes": 1})  # what counts is in this process
    resolved = resolved.model_copy(update={"engine": one})
    if trace and out is None:
        raise InputError("--trace writes a file; say where with --out FOLDER.")
    if out is not None:
        _make(out)
    with options.working("starting"):
        from vzero.runtime.checkpoints import resolve

        resolve(resolved.model)  # refused before anything heavy is imported
        from harness.perf.profile.results import Options

    asked = Options(
        target=target,
        stock=against is not None,
        repetitions=repetitions,
        prompts=prompts,
        stock_batch=stock_batch,
    )
    found = _measure(resolved, asked, out / TRACE if out is not None and trace else None)
    if out is not None:
        _write(found, out)
    if json:
        options.out_json(found.as_json())
    else:
        from harness.perf.profile import tables

        tables.show(found, options.console(json=False))


def _make(out: Path) -> None:
    """Refuse a folder that cannot be written before minutes are spent."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise InputError(f"{out} is a file, not a folder; choose another --out.") from None
    except OSError as error:
        raise InputError(f"Cannot create {out}: {error.strerror}; choose another --out.") from None


def _measure(preset: Preset, asked: Options, trace: Path | None) -> Profile:
    """With its libraries told how to behave before the first of them is imported."""
    if preset.model == "pocket":
        os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from vzero.runtime import compat

    compat.install()
    terminal = options.console(json=True)  # progress goes to stderr: stdout is for the result
    with redirect_stdout(sys.stderr), terminal.status("starting") as status:
        from transformers.utils import logging

        from harness.perf.profile.profile import measure

        logging.set_verbosity_error()
        logging.disable_progress_bar()

        def say(step: str) -> None:
            status.update(step)
            if not terminal.is_terminal:
                terminal.print(step, markup=False, highlight=False)

        return measure(preset, asked, trace, say)


def _write(found: Profile, out: Path) -> None:
    from harness.perf.profile import page, tables
    from vzero.runtime import artefacts

    artefacts.write_text(out / "profile.md", tables.as_markdown(found))
    artefacts.write_text(out / "profile.html", page.render(found))
    artefacts.write_json(out / "profile.json", found.as_json())
