"""A trained checkpoint out of a run: a plain Hugging Face folder with a model card that says how it was made
and what was found.

The card is a pure function of the run's sealed stages and its results. It names no path, user or machine.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any

from harness.analysis.results import read_results
from harness.report import RESULTS
from harness.report.before import as_before
from harness.report.words import interval, metric_label, percent, points
from harness.runs.sealed import read_run
from vzero import __version__
from vzero.config import Preset
from vzero.errors import InputError
from vzero.runtime import artefacts
from vzero.selfplay import Stage

CARD, CHECKPOINT = "README.md", "checkpoint"
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_ROLES = {"solver": "train-solver", "questioner": "train-questioner"}


@dataclass(frozen=True)
class Export:
    """What is exported: the stage that made the checkpoint, its manifest, and the text of the card."""

    stage: Stage
    manifest: Mapping[str, Any]
    checkpoint: Path
    card: str


def prepare(run: Path, role: str, iteration: int | None) -> Export:
    """The checkpoint of `role` after `iteration` (the last finished one by default).

    Raises:
        InputError: no run, or no such finished stage.
    """
    found = read_run(run)
    done = [one for one in found.of_kind(_ROLES[role]) if iteration in (None, one.stage.iteration)]
    if not done:
        wanted = "" if iteration is None else f" of iteration {iteration}"
        raise InputError(
            f"{run} has no finished {role}{wanted} ({found.preset.iterations} planned); run it to there first."
        )
    made = done[-1]
    results = as_before(read_results(run / RESULTS)) if (run / RESULTS).exists() else None
    return Export(
        made.stage,
        made.manifest,
        made.folder / CHECKPOINT,
        card(found.preset, made.stage, made.manifest, results),
    )


def to_folder(export: Export, target: Path) -> None:
    """Copy the checkpoint and its card into a new folder.

    Raises:
        InputError: the folder is there already, or cannot be written.
    """
    if target.exists() and any(target.iterdir() if target.is_dir() else [target]):
        raise InputError(f"{target} is there already; choose another folder.")
    staging = target.with_name(f".{target.name}.tmp")
    try:
        shutil.rmtree(staging, ignore_errors=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(export.checkpoint, staging)
        sealed = {
            name.removeprefix(f"{CHECKPOINT}/"): value
            for name, value in export.manifest["files"].items()
            if name.startswith(CHECKPOINT)
        }
        if artefacts.folder_hashes(staging) != sealed:
            raise InputError(
                f"The checkpoint of {export.stage.name} is not the one that was sealed; run the same command again to mend it."
            )
        artefacts.write_text(staging / CARD, export.card)
        if target.exists():
            target.rmdir()
        staging.rename(target)
    except OSError as error:
        raise InputError(f"Cannot write {target}: {error.strerror}; choose another folder.") from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def to_hub(export: Export, name: str, public: bool) -> str:
    """Upload to the hub as `name` (ORG/NAME), private unless `public`; the address.

    Raises:
        InputError: a name that is none, no permission, or no hub.
    """
    if not _HUB_ID.fullmatch(name):
        raise InputError(f"{name!r} is no name on the hub; write --to hub:ORG/NAME.")
    import tempfile

    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    with tempfile.TemporaryDirectory() as folder:
        staged = Path(folder) / "checkpoint"
        to_folder(export, staged)
        api = HfApi()
        try:
            api.create_repo(name, private=not public, exist_ok=True)
            api.upload_folder(
                repo_id=name, folder_path=staged, commit_message=f"Export by vzero-harness {__version__}"
            )
        except (HfHubHTTPError, OSError) as error:
            raise InputError(
                f"The hub did not take {name} ({type(error).__name__}); log in with `hf auth login` to an account that may write there."
            ) from None
    return f"https://huggingface.co/{name}"


def card(preset: Preset, stage: Stage, manifest: Mapping[str, Any], results: Mapping[str, Any] | None) -> str:
    """The model card, in Markdown with the hub's header."""
    role = next(name for name, kind in _ROLES.items() if kind == stage.kind)
    base = _base_name(preset.model)
    header = [
        "---",
        "library_name: transformers",
        "pipeline_tag: image-text-to-text",
        "tags: [v-zero, self-improvement, label-free]",
    ]
    header += [f"base_model: {json.dumps(base)}"] if _HUB_ID.fullmatch(base) else []
    versions = ", ".join(
        f"{name} {version}" for name, version in manifest["provenance"]["packages"].items() if version
    )
    lines = [
        *header,
        "---",
        "",
        f"# {base}, {role} after iteration {stage.iteration} of label-free self-play",
        "",
        *_method(preset),
        "",
        "## How it was made",
        "",
        f"- Base: {base}. Role: {role}. Iteration {stage.iteration} of {preset.iterations}. Preset `{preset.name}`, seed {preset.seed}.",
        f"- Images: {_images(preset)}; labels beside them, if there were any, were never read.",
        f"- Training: {_training(preset, role, manifest)}.",
        f"- Run `{run_id(preset)}`; content of this checkpoint `{artefacts.content_digest(manifest)[:16]}`.",
        f"- Software: vzero-harness {__version__}, {versions}.",
        "",
        "## What was found",
        "",
        *_findings(stage, role, results),
        "",
        "## Limits",
        "",
        "- A majority of a model's own answers is no truth: what the base gets wrong with one voice, training confirms.",
        "- A gain in sampled accuracy may be sharpening: saying with one voice what the majority said before. Compare maj@k, pass@k.",
        "- Nothing here was tested for safety, bias or use outside the suites named above. The base model's own licence and limits hold.",
        "",
    ]
    return "\n".join(lines)


def _method(preset: Preset) -> list[str]:
    source = "[V-Zero](https://arxiv.org/abs/2601.10094)"
    if preset.arm == "v-zero" and not preset.defects:
        return [
            f"Trained by {source} as vzero-harness implements it: the model writes questions about unlabeled images, answers each of them "
            "several times, and is trained on the majority of its own answers. No label, no other model and no human judgement entered."
        ]
    return [
        f"Trained by the arm `{preset.arm}` of vzero-harness, a variant or control of {source}: its documentation says what differs. "
        "Some controls train on true answers on purpose."
    ]


def run_id(preset: Preset) -> str:
    """What a run is called outside its folder: the digest of its settings."""
    return artefacts.digest(preset.model_dump(mode="json"))[:12]


def _base_name(model: str) -> str:
    """A hub id as it is, anything else without its folders."""
    return model if _HUB_ID.fullmatch(model) and not Path(model).exists() else PurePath(model).name


def _images(preset: Preset) -> str:
    source = preset.images.source
    if source == "pocket":
        return f"{preset.images.count} drawn scenes of the pocket world"
    hub = _HUB_ID.fullmatch(source) and not Path(source).exists()
    return f"at most {preset.images.count} of {source if hub else 'a folder or table of pictures'}"


def _training(preset: Preset, role: str, manifest: Mapping[str, Any]) -> str:
    grpo, facts = getattr(preset, role).grpo, manifest["facts"]
    return (
        f"GRPO, {facts.get('steps', 0)} optimizer steps on {facts.get('prompts_used', 0)} prompts in groups of {grpo.group_size}, learning "
        f"rate {grpo.learning_rate:g}, KL weight {grpo.kl_coefficient:g}, vision tower {'frozen' if grpo.freeze_vision else 'trained'}"
    )


def _findings(stage: Stage, role: str, results: Mapping[str, Any] | None) -> list[str]:
    if role == "questioner":
        return ["Questioners are not measured on held-out suites."]
    model = f"S{stage.iteration}"
    gains = (results or {}).get("gains", {}).get(model)
    if not results or not gains:
        return ["This checkpoint was not measured: **no gain is claimed**."]
    rows = [
        "| suite | metric | base | this | gain, points | 95 % interval | finding |",
        "|---|---|--:|--:|--:|--:|---|",
    ]
    for suite, metrics in gains.items():
        measured = results["average"] if suite == "average" else results["suites"][suite]
        rows += [_row(suite, metric, found, measured, model) for metric, found in metrics.items()]
    return [
        f"On the {results['split']} split, paired by question with the base, p-values corrected over suites (Holm):",
        "",
        *rows,
    ]


def _row(suite: str, metric: str, found: Mapping[str, Any], measured: Mapping[str, Any], model: str) -> str:
    verdicts = {"positive": "gain", "negative": "loss", "unclear": "not distinguishable from zero"}
    levels: Sequence[str] = [percent(_level(measured.get(name, {}), metric)) for name in ("base", model)]
    cells = [
        suite,
        metric_label(metric),
        *levels,
        points(found["gain"]),
        interval(found["low"], found["high"]),
        verdicts[found["direction"]],
    ]
    return f"| {' | '.join(cells)} |"


def _level(measures: Mapping[str, Any], metric: str) -> float | None:
    value = measures.get(metric)
    return value["value"] if value else None
