"""A trained checkpoint out of a run: a plain Hugging Face folder with a model card."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from harness.analysis.results import FILE, read_results
from harness.report.card import HUB_ID, card
from harness.runs.sealed import SealedStage, read_run
from vzero import __version__
from vzero.errors import InputError
from vzero.runtime import artefacts, owned

CARD, CHECKPOINT = "README.md", "checkpoint"


@dataclass(frozen=True)
class Export:
    """What is exported: the sealed stage that made the checkpoint, and the text of the card."""

    made: SealedStage
    card: str


def prepare(run: Path, role: str, iteration: int | None) -> Export:
    """The checkpoint of `role` ("solver" or "questioner") after `iteration`, by default the last one.

    Raises:
        InputError: no run, or no such finished stage.
    """
    found = read_run(run)
    done = [one for one in found.of_kind(f"train-{role}") if iteration in (None, one.stage.iteration)]
    if not done:
        wanted = "" if iteration is None else f" of iteration {iteration}"
        planned = found.preset.iterations
        raise InputError(f"{run} has no finished {role}{wanted} ({planned} planned); run it to there first.")
    made = done[-1]
    results = read_results(run / FILE) if (run / FILE).exists() else None
    text = card(found.preset, role, made.stage, made.manifest, results)
    return Export(made, text)


def to_folder(export: Export, target: Path) -> None:
    """Copy the checkpoint and its card into a new folder.

    Raises:
        InputError: the folder is there already, or cannot be written.
    """
    if target.exists() and any(target.iterdir() if target.is_dir() else [target]):
        raise InputError(f"{target} is there already; choose another folder.")
    prefix = f"{CHECKPOINT}/"
    files = export.made.manifest["files"].items()
    sealed = {name.removeprefix(prefix): digest for name, digest in files if name.startswith(prefix)}
    try:
        with artefacts.atomic_folder(target) as staging:
            owned.refuse_links(export.made.folder)
            shutil.copytree(export.made.folder / CHECKPOINT, staging, dirs_exist_ok=True)
            if artefacts.folder_hashes(staging) != sealed:
                raise InputError(
                    f"The checkpoint of {export.made.stage.name} is not the one that was sealed; run the same"
                    " command again to fix it."
                )
            artefacts.write_text(staging / CARD, export.card)
    except OSError as error:
        raise InputError(f"Cannot write {target}: {error.strerror}; choose another folder.") from None


def to_hub(export: Export, name: str, public: bool) -> str:
    """Upload to the hub as `name` (ORG/NAME), private unless `public`; the address.

    Raises:
        InputError: a name that is none, no permission, or no hub.
    """
    if not HUB_ID.fullmatch(name):
        raise InputError(f"{name!r} is no name on the hub; write --to hub:ORG/NAME.")
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    with tempfile.TemporaryDirectory() as folder:
        staged = Path(folder) / CHECKPOINT
        to_folder(export, staged)
        api, said = HfApi(), f"Export by vzero-harness {__version__}"
        try:
            api.create_repo(name, private=not public, exist_ok=True)
            api.upload_folder(repo_id=name, folder_path=staged, commit_message=said)
        except (HfHubHTTPError, OSError) as error:
            raise InputError(
                f"The hub did not take {name} ({type(error).__name__}); log in with `hf auth login` to an "
                "account that may write there."
            ) from None
    return f"https://huggingface.co/{name}"
