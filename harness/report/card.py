"""The model card of a checkpoint: how it was made and what was found. A pure function of the sealed stages
and the results; it names no path, user or machine."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader

from harness.analysis.results import BASE, Results
from harness.report.findings import metric_label
from harness.report.held_out import levels, shares
from harness.runs.sealed import Run
from harness.tables.markdown import escape, render
from harness.tables.table import Row, Table, numbers, texts
from harness.tables.words import interval, points
from vzero import __version__
from vzero.arms import REFERENCE
from vzero.config import Preset
from vzero.runtime import artefacts
from vzero.runtime.hub import is_id
from vzero.selfplay import Stage

FINDING = {"positive": "gain", "negative": "loss", "unclear": "not significant"}


def card(run: Run, role: str, stage: Stage, manifest: Mapping[str, Any], results: Results | None) -> str:
    """In Markdown, with the header that the hub reads."""
    preset, template = run.preset, templates().get_template("card.md.j2")
    return template.render(
        on_hub=is_id(run.model),
        base=run.model,
        role=role,
        stage=stage,
        preset=preset,
        reference=REFERENCE,
        images=images(preset),
        grpo=getattr(preset, role).grpo,
        facts=manifest["facts"],
        run=artefacts.digest(preset.model_dump(mode="json"))[:12],
        content=artefacts.content_digest(manifest)[:16],
        version=__version__,
        packages=manifest.get("provenance", {}).get("packages", {}),
        findings=_findings(stage, role, results),
    )


@cache
def templates() -> Environment:
    """Of Markdown cards: the filter `text` is for names that somebody else chose."""
    found = Environment(loader=PackageLoader("harness.report"), trim_blocks=True, lstrip_blocks=True)
    found.filters["text"] = escape
    return found


def images(preset: Preset) -> str:
    """Where the pictures are from, in words that name no folder."""
    place, count = preset.images.source, preset.images.count
    if place == "pocket":
        return f"{count} drawn scenes of the pocket world"
    return f"at most {count} of {place if is_id(place) else 'a folder or table of pictures'}"


def _findings(stage: Stage, role: str, results: Results | None) -> str:
    """The gains over the base as a table, or why there are none."""
    title, model = "What was found", f"S{stage.iteration}"
    if role == "questioner":
        return f"## {title}\n\nQuestioners are not measured on held-out suites."
    gains = results.gains.get(model) if results else None
    if results is None or not gains:
        return f"## {title}\n\nThis checkpoint was not measured: **no gain is claimed**."
    rows: list[Row] = [
        (
            place,
            metric_label(metric),
            *shares(measured, metric),
            points(gain.gain),
            interval(gain.low, gain.high),
            FINDING[gain.direction],
        )
        for place, found in gains.items()
        for measured in ([levels(results, place, one) for one in (BASE, model)],)
        for metric, gain in found.items()
    ]
    measures = (*numbers("base", "this", unit="%"), *numbers("gain, points", "95 % interval"))
    note = f"On the {results.split} split, paired by question; p corrected over the run's gains."
    return render(Table(title, (*texts("suite", "metric"), *measures, *texts("finding")), [rows], [note]))
