"""`vzero-harness export`: a trained checkpoint out of a run, with its model card."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from typer import Argument, Option

from harness.commands import options
from vzero.errors import InputError

Dtype = Annotated[
    Literal["bf16", "fp32"] | None, Option("--dtype", help="Of the weights; default: as the run has them.")
]
For = Annotated[
    Literal["transformers4"] | None, Option("--for", help="Write the files that transformers 4 reads, too.")
]
AdapterOnly = Annotated[
    bool, Option("--adapter-only", help="Of a run with lora: one PEFT adapter over the base, no whole model.")
]
Merge = Annotated[
    bool, Option("--merge", help="RUN is a folder with a PEFT adapter: write it merged into its base.")
]
Base = Annotated[
    str | None,
    Option("--base", metavar="MODEL", help="With --merge: the base; default: as the adapter says."),
]
Role = Annotated[Literal["solver", "questioner"], Option("--role", help="Whose checkpoint.")]


def export(
    run: Annotated[Path, Argument(help="A run directory, or with --merge an adapter's folder.")],
    to: options.To,
    role: Role = "solver",
    iteration: Annotated[
        int | None, Option("--iteration", min=1, help="After which iteration; default: the last.")
    ] = None,
    dtype: Dtype = None,
    form: For = None,
    adapter_only: AdapterOnly = False,
    merge: Merge = False,
    base: Base = None,
    public: options.Public = False,
    json: options.Json = False,
) -> None:
    """Write a trained checkpoint as a plain Hugging Face folder with a model card, and load it.

    Example: vzero-harness export runs/seed-0 --to exported/solver --dtype bf16 --for transformers4
    """
    from harness.report import hub

    on_hub = to.startswith("hub:")
    if adapter_only and (merge or dtype or form):
        raise InputError("--adapter-only writes no model: leave --merge, --dtype and --for out.")
    if merge and (on_hub or iteration or role != "solver"):
        raise InputError("--merge writes a folder of one adapter: give --to DIR, no --role, no --iteration.")
    if base and not merge:
        raise InputError("--base is the base of what --merge merges; leave it out, or add --merge.")
    if public and not on_hub:
        raise InputError("--public is of a repository on the hub; leave it out, or give --to hub:ORG/NAME.")
    if on_hub:
        hub.require_name(to.removeprefix("hub:"))
    with options.working("Loading what reads a checkpoint"):
        from transformers.utils import logging

        from harness.report import export as exports
        from harness.report.forms import Form

        logging.disable_progress_bar()
    wanted = Form(dtype, form is not None, adapter_only)
    if merge:
        with options.working("Merging, and loading what was written"):
            source = exports.merge(run, base, options.path_option(to), wanted)
        _say(f"{run} merged into {source}: {to}", {"base": source, "to": to}, json)
        return
    found = exports.prepare(run, role, iteration)
    name = found.made.stage.name
    if on_hub:
        with options.working("Writing, loading and sending it"):
            place = exports.to_hub(found, to.removeprefix("hub:"), public, wanted)
        _say(f"{name}: {place}", {"stage": name, "to": place}, json)
        return
    with options.working("Writing, and loading what was written"):
        change = exports.to_folder(found, options.path_option(to), wanted)
    said = f"{name}: {to}; it loads, its logits differ from the run's by {change:.2g} of their spread"
    if adapter_only and not exports.found_by_name(found.base):
        said += f"; it names its base {found.base}, not the folder: to merge it, give that with --base"
    _say(said, {"stage": name, "to": to, "logits_change": change}, json)


def _say(sentence: str, facts: dict[str, object], json: bool) -> None:
    options.out_json(facts, None) if json else options.out(sentence)
