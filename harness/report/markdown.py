"""report.md: the same tables as GitHub-flavoured Markdown. Whatever a model or a user wrote is escaped
character by character."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from harness.report import answers, asked, compared, elicitation, held_out, training
from harness.report.collect import Material, Sample
from harness.report.flips import Flip
from harness.report.table import Table
from harness.report.words import alarms, caveats, findings, not_run, number, run_name, visible

_PUNCTUATION = re.compile(r"([!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~])")


def escape(text: str, limit: int = 600) -> str:
    """Hostile text as one line of inert Markdown: `&` and angle brackets as entities, all other ASCII
    punctuation behind backslashes."""
    line = " ".join(visible(text, limit).split())
    entities = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "|": "&#124;"}
    return _PUNCTUATION.sub(lambda match: entities.get(match[1], "\\" + match[1]), line)


def plain(text: str) -> str:
    """Our own words, with names from the run in them: only what could build a table, tag, link or emphasis is
    escaped."""
    line = re.sub(r"([\\`*_\[\]])", r"\\\1", visible(text, 4000).replace("\n", " "))
    return line.replace("&", "&amp;").replace("<", "&lt;").replace("|", "&#124;")


def render(results: Mapping[str, Any], material: Material) -> str:
    """The whole file."""
    parts = [f"# V-Zero: {plain(', '.join(run_name(results)))}"]
    parts += [plain(sentence) for sentence in findings(results)]
    parts += [f"**Warning.** {plain(warning)}" for warning in results["warnings"]]
    parts += [f"**Warning.** {plain(sentence)}" for sentence in alarms(results)]
    parts += [table(compared.claims(results["claims"])), table(held_out.accuracy(results))]
    parts += ["\n".join(f"- {plain(sentence)}" for sentence in caveats(results))]
    shown = (
        held_out.lenses(results),
        answers.by_samples(results),
        answers.flips(results),
        elicitation.elicitation(results),
        asked.iterations(results),
        asked.calibration(results),
        asked.asked_families(results),
        training.training(results),
        held_out.held_out_families(results),
        held_out.counts(results),
        held_out.tests(results),
        training.cost(material.cost),
    )
    parts += [table(one) for one in shown if one is not None]
    if material.samples:
        parts += ["## Questions to look at", *(_sample(one) for one in material.samples)]
    if material.flips:
        parts += ["## Answers that changed sides", "\n".join(_flip(one) for one in material.flips)]
    parts += ["## What was not run", "\n".join(f"- {plain(sentence)}" for sentence in not_run(results))]
    parts += ["## Provenance", _provenance(results, material)]
    return "\n\n".join(parts) + "\n"


def table(table: Table) -> str:
    """One table under its title."""
    lines = [
        f"## {plain(table.title)}",
        "",
        "| " + " | ".join(plain(column) for column in table.columns) + " |",
        "|"
        + "|".join("---" if index < table.text_columns else "--:" for index in range(len(table.columns)))
        + "|",
    ]
    for row in table.rows:
        lines.append(
            "| "
            + " | ".join(
                plain(cell.text) + (f" ({plain(cell.detail)})" if cell.detail else "") for cell in row
            )
            + " |"
        )
    return "\n".join([*lines, *(f"\n{plain(note)}" for note in table.notes)])


def _sample(sample: Sample) -> str:
    head = f"**{escape(sample.question_id)}**, iteration {sample.iteration}, {sample.state}"
    if sample.label is None:
        written = sample.question["text"] if sample.question["valid"] else sample.question["raw"]
        return f"- {head}: {escape(written)}"
    votes = " ".join(escape(vote) if vote is not None else "?" for vote in sample.label["votes"])
    said = (
        f"intuitive {escape(sample.label['intuitive'])}, votes {votes}, majority {escape(sample.label['answer'] or 'none')}, "
        f"c = {sample.label['confidence']:.2f}"
    )
    if sample.truth is not None:
        said += f", truth: {escape(sample.truth.answer) if sample.truth.well_posed and sample.truth.answer else 'ill-posed'}"
    return f"- {head}: {escape(sample.question['text'])} ({said})"


def _flip(flip: Flip) -> str:
    said = "wrong, then right" if flip.gained else "right, then wrong"
    asked = "" if flip.question is None else f": {escape(flip.question)}"
    before, after = (escape(one["answer"] or "none") for one in (flip.before, flip.after))
    return f"- **{escape(flip.suite)} {escape(flip.item_id)}**, {said}{asked} (base {before}, after {after}, right {escape(flip.gold)})"


def _provenance(results: Mapping[str, Any], material: Material) -> str:
    images = results["images"]
    lines = [
        f"- preset {plain(results['preset'])}, seed {results['seed']}, {results['iterations']} iterations, model "
        f"{plain(results['model'])}, {results['split']} split"
    ]
    if images:
        lines.append(
            f"- images: {number(images['used'])} used, {number(images['skipped'])} skipped ({images['source']})"
        )
    for state in material.software:
        git = state["git"]
        commit = (
            "no git"
            if git is None
            else git["commit"][:12] + (" with uncommitted changes" if git["dirty"] else "")
        )
        packages = ", ".join(f"{name} {version}" for name, version in state["packages"].items() if version)
        lines.append(
            f"- {len(state['stages'])} stages by commit {commit}; Python {state['python']}, {state['system']} {state['machine']}; "
            f"{plain(packages)}"
        )
    lines += [f"- {one['name']}: manifest {one['manifest'][:16]}" for one in material.stages]
    return "\n".join(lines)
