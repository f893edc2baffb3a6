"""A trained checkpoint out of a run: a plain Hugging Face folder with a model card, loaded to see that it
does."""

from __future__ import annotations

import errno
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from harness.analysis.results import FILE, read_results
from harness.report import hub
from harness.report.card import card
from harness.report.forms import AS_IT_IS, Form, check_loads, rewrite, write_adapter
from harness.runs.sealed import SealedStage, read_run
from vzero.errors import InputError, machine_failure
from vzero.runtime import artefacts, checkpoints, owned
from vzero.runtime.hub import is_id

CARD, CHECKPOINT, ADAPTER = "README.md", "checkpoint", "adapter"


@dataclass(frozen=True)
class Export:
    """What is exported.

    Attributes:
        made: the sealed stage that made the checkpoint.
        card: the text of its card.
        model: the base of the run, as its preset names it.
        base: its name without the place it lies in.
        trained: all stages that trained this role, up to `made`.
    """

    made: SealedStage
    card: str
    model: str
    base: str
    trained: tuple[SealedStage, ...]


def prepare(run: Path, role: str, iteration: int | None) -> Export:
    """The checkpoint of `role` ("solver" or "questioner") after `iteration`, by default the last one.

    Raises:
        InputError: no run, or no such finished stage.
    """
    found = read_run(run)
    trained = [
        one for one in found.of_kind(f"train-{role}") if one.stage.iteration <= (iteration or sys.maxsize)
    ]
    if not trained or iteration not in (None, trained[-1].stage.iteration):
        wanted = "" if iteration is None else f" of iteration {iteration}"
        planned = found.preset.iterations
        raise InputError(f"{run} has no finished {role}{wanted} ({planned} planned); run it to there first.")
    made = trained[-1]
    results = read_results(run / FILE) if (run / FILE).exists() else None
    text = card(found, role, made.stage, made.manifest, results)
    return Export(made, text, found.preset.model, found.model, tuple(trained))


def to_folder(export: Export, target: Path, form: Form = AS_IT_IS) -> float:
    """Write the checkpoint and its card into a new folder, and load it from there.

    Returns: how far its logits are from those of the run's checkpoint (`forms.check_loads`).

    Raises:
        InputError: the folder is there already or cannot be written, the run was trained without adapters, or
            what was written does not load as what it is.
    """
    with new_folder(target) as staging:
        owned.refuse_links(export.made.folder)
        if form.adapter_only:
            parts = _adapters(export)
            write_adapter(parts, export.base, staging)
        else:
            _copy_checkpoint(export.made, staging)
            rewrite(staging, form)
        base = checkpoints.resolve(export.model) if form.adapter_only else None
        change = check_loads(staging, export.made.folder / CHECKPOINT, form, base)
        artefacts.write_text(staging / CARD, export.card)
        return change


def require_new(target: Path) -> None:
    """Raises InputError where there is something at `target` but an empty folder."""
    if target.exists() and any(target.iterdir() if target.is_dir() else [target]):
        raise InputError(f"{target} is there already; choose another folder.")


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A folder that appears as a whole, or not at all."""
    require_new(target)
    try:
        owned.sweep_dead(target)
        with artefacts.atomic_folder(target) as staging:
            yield staging
    except OSError as error:
        if error.errno != errno.EROFS and (failure := machine_failure(error, target)):
            raise failure from None
        raise InputError(f"Cannot write {target}: {error}; choose another folder.") from None


def _copy_checkpoint(made: SealedStage, staging: Path) -> None:
    prefix = f"{CHECKPOINT}/"
    files = made.manifest["files"].items()
    sealed = {name.removeprefix(prefix): digest for name, digest in files if name.startswith(prefix)}
    shutil.copytree(made.folder / CHECKPOINT, staging, dirs_exist_ok=True)
    if artefacts.folder_hashes(staging) != sealed:
        raise InputError(
            f"The checkpoint of {made.stage.name} is not the one that was sealed; run the same command again"
            " to fix it."
        )


def _adapters(export: Export) -> list[Path]:
    """The adapter of each training that took a step, which together make the checkpoint of the base."""
    names = ("adapter_config.json", "adapter_model.safetensors")
    parts = []
    for stage in export.trained:
        if stage.manifest["facts"].get("steps") == 0:
            continue
        if not stage.has(f"{ADAPTER}/{names[0]}"):
            raise InputError(
                f"{stage.stage.name} has no adapter: it was trained whole, or before adapters were written"
                " down; export it without --adapter-only."
            )
        for name in names:
            stage.file(f"{ADAPTER}/{name}")
        parts.append(stage.folder / ADAPTER)
    if not parts:
        raise InputError("Nothing was trained, so there is no adapter; export it without --adapter-only.")
    return parts


def merge(adapter: Path, base: str | None, target: Path, form: Form = AS_IT_IS) -> str:
    """Add an adapter to its base, `base` or the one that it names, and write the whole model into a new
    folder.

    Returns: the base.

    Raises:
        InputError: no adapter, no base, or the folder cannot be written.
    """
    from vzero.grpo.adapters import load_adapted

    named = base or _named_base(adapter)
    if not isinstance(named, str) or not named:
        raise InputError(f"{adapter} does not say what it is an adapter of; name its base with --base.")
    if base is None and not found_by_name(named) and checkpoints.folder_of(named) is None:
        raise InputError(
            f"{adapter} is an adapter of {named!r}, and no such folder is here; name its base with --base."
        )
    source = checkpoints.resolve(named)
    with new_folder(target) as staging:
        whole = staging / "whole"
        checkpoints.save(load_adapted(source, adapter), checkpoints.load_processor(source), whole)
        shutil.copytree(whole, staging, dirs_exist_ok=True)
        rewrite(staging, form)
        check_loads(staging, whole, form)
        shutil.rmtree(whole)
    return named


def found_by_name(base: str) -> bool:
    """Whether a base is found by its name wherever somebody merges its adapter."""
    return base == "pocket" or is_id(base)


def _named_base(adapter: Path) -> object:
    try:
        return artefacts.read_json(adapter / "adapter_config.json").get("base_model_name_or_path")
    except (OSError, ValueError, AttributeError) as error:
        refused = InputError(f"{adapter} is no adapter: it has no readable adapter_config.json.")
        raise machine_failure(error, adapter) or refused from None


def to_hub(export: Export, name: str, public: bool, form: Form = AS_IT_IS) -> str:
    """Upload to the hub as `name` (ORG/NAME), private unless `public`; the address.

    Raises:
        InputError: as `to_folder` and `hub.upload`.
    """
    hub.require_name(name)
    with tempfile.TemporaryDirectory() as folder:
        staged = Path(folder) / CHECKPOINT
        to_folder(export, staged, form)
        return hub.upload(staged, name, "model", public)
