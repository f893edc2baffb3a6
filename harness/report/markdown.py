"""report.md. Whatever a model or a user wrote is escaped character by character."""

from __future__ import annotations

from collections.abc import Sequence

from harness.analysis.results import Results
from harness.report import sections
from harness.report.answer import answer
from harness.report.examples import ChangedAnswer
from harness.report.findings import alarms, caveats, findings, not_run, run_name
from harness.report.material import Material
from harness.report.questions import WrittenQuestion, sample
from harness.tables.markdown import escape, plain
from harness.tables.markdown import render as table
from harness.tables.words import counted, number


def render(results: Results, material: Material) -> str:
    """The whole file."""
    tables = sections.tables(results, material.cost)
    first = [table(one) for name in ("claims", "accuracy") if (one := tables.pop(name))]
    parts = [
        f"# V-Zero: {plain(', '.join(run_name(results)))}",
        *map(plain, dict.fromkeys((answer(results), *findings(results)))),
        *(f"**Warning.** {plain(warning)}" for warning in (*results.warnings, *alarms(results))),
        *first,
        _list(caveats(results)),
        *(table(one) for one in tables.values() if one),
    ]
    if material.questions:
        parts += ["## Questions to look at", *map(_question, sample(material.questions))]
    if material.changed:
        parts += ["## Answers that changed", "\n".join(map(_changed, material.changed))]
    parts += ["## What was not run", _list(not_run(results))]
    parts += ["## Provenance", _list(provenance(results, material))]
    return "\n\n".join(parts) + "\n"


def _list(sentences: Sequence[str]) -> str:
    return "\n".join(f"- {plain(sentence)}" for sentence in sentences)


def _question(one: WrittenQuestion) -> str:
    head = f"- **{escape(one.question_id)}**, iteration {one.iteration}, {one.state}: {escape(one.text)}"
    if one.label is None:
        return head
    votes = " ".join("?" if vote is None else escape(vote) for vote in one.label.votes)
    said = [
        f"intuitive {escape(one.intuitive or 'none')}",
        f"votes {votes}",
        f"majority {escape(one.label.majority or 'none')}",
        f"c = {number(one.label.confidence, 2)}",
    ]
    if other := one.label.other:
        said.append(f"label {escape(other)}")
    if one.truth is not None:
        known = one.truth.answer if one.truth.well_posed else None
        said.append(f"truth: {escape(known) if known else 'ill-posed'}")
    return f"{head} ({', '.join(said)})"


def _changed(one: ChangedAnswer) -> str:
    said = "wrong, then right" if one.gained else "right, then wrong"
    asked = "" if one.question is None else f": {escape(one.question)}"
    before, after = (escape(letter or "none") for letter, _ in (one.before, one.after))
    letters = f"base {before}, after {after}, right {escape(one.gold)}"
    return f"- **{escape(one.suite)} {escape(one.item_id)}**, {said}{asked} ({letters})"


def provenance(results: Results, material: Material) -> list[str]:
    """Where the numbers come from."""
    said = [
        f"preset {results.preset}, seed {results.seed}, {counted(results.iterations, 'iteration')}, "
        f"model {results.model}, {results.split} split"
    ]
    if images := results.images:
        said.append(f"images: {images.used:,} used, {images.skipped:,} skipped ({images.source})")
    said += material.software
    return said + [f"{name}: manifest {digest[:16]}" for name, digest in material.manifests.items()]
