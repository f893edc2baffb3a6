"""The results of an evaluation as tables: in the terminal and in Markdown, both from results.json."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

HEAD = ("suite", "n", "official", "95 %", "strict", "parsed", "official if parsed", "cut off")


def show(found: Mapping[str, Any], console: Console) -> None:
    """Print everything a reader needs to judge the numbers."""
    table = Table(*HEAD, box=None, pad_edge=False, header_style="bold")
    table.columns[0].no_wrap = True
    for column in table.columns[1:]:
        column.justify = "right"
    for row in _rows(found):
        table.add_row(*row)
    console.print(table)
    for line in [*_details(found), *_remarks(found)]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def markdown(found: Mapping[str, Any]) -> str:
    """results.md."""
    settings = found["evaluation"]
    lines = [f"# {settings['model']}: {', '.join(settings['suites'])}", "", _sentence(found), ""]
    lines += ["| " + " | ".join(HEAD) + " |", "|---|" + "--:|" * (len(HEAD) - 1)]
    lines += ["| " + " | ".join(row) + " |" for row in _rows(found)]
    for suite in found["suites"].values():
        if suite["status"] == "complete" and suite["by"].get(suite["table"]):
            lines += [
                "",
                f"## {suite['title']} by {suite['table']}",
                "",
                f"| {suite['table']} | n | official | strict | parsed |",
                "|---|--:|--:|--:|--:|",
            ]
            lines += [
                f"| {clean(value)} | {one['n']} | {percent(one['official'])} | {percent(one['strict'])} | {percent(one['parsed'])} |"
                for value, one in suite["by"][suite["table"]].items()
            ]
    lines += ["", "## Remarks", "", *[f"- {line}" for line in _remarks(found)]]
    return "\n".join(lines) + "\n"


def percent(value: float | None) -> str:
    """A share as a percentage with one decimal."""
    return "-" if value is None else f"{100 * value:.1f}"


def clean(text: str) -> str:
    """A name that a dataset gives, fit for a terminal and for a cell of Markdown."""
    shown = "".join(c if c.isprintable() else " " for c in text)
    return shown.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def _sentence(found: Mapping[str, Any]) -> str:
    settings = found["evaluation"]
    least, most = settings["pixels"]["least"], settings["pixels"]["most"]
    return (
        f"Profile {settings['profile']}, prompt_format {settings['prompt_format']}, engine {settings['engine']['name']}, at most "
        f"{settings['greedy']['max_new_tokens']} new tokens, pictures of {least:,} to {most:,} pixels, checkpoint sha256 "
        f"{settings['checkpoint_sha256'][:16]}. Answers read by {found['answers_read_by']}. Percent; greedy answers."
    )


def _rows(found: Mapping[str, Any]) -> list[tuple[str, ...]]:
    rows = []
    for name, suite in found["suites"].items():
        if suite["status"] != "complete":
            rows.append(
                (
                    name,
                    f"{suite['answered']} of {suite['rows'] or suite['rows_expected']}",
                    *["incomplete"],
                    *["-"] * 5,
                )
            )
            continue
        one = suite["greedy"]
        low, high = one["official_interval"] or (None, None)
        rows.append(
            (
                name,
                str(one["n"]),
                percent(one["official"]),
                f"{percent(low)}-{percent(high)}",
                percent(one["strict"]),
                percent(one["parsed"]),
                percent(one["official_given_parsed"]),
                percent(one["truncated"]),
            )
        )
    for name, group in found["groups"].items():
        if len(group["members"]) > 1:
            rows.append(
                (
                    f"average {name}",
                    f"{len(group['members'])} suites",
                    percent(group["official"]),
                    "",
                    percent(group["strict"]),
                    "",
                    "",
                    "",
                )
            )
    return rows


def _details(found: Mapping[str, Any]) -> list[str]:
    lines = []
    for name, suite in found["suites"].items():
        values = suite.get("by", {}).get(suite.get("table"), {})
        if len(values) > 1:
            parts = [
                f"{clean(value)} {percent(one['official'])}/{percent(one['strict'])} ({one['n']})"
                for value, one in values.items()
            ]
            lines.append(f"{name} by {suite['table']}, official/strict (n): {', '.join(parts)}")
    return lines


def _remarks(found: Mapping[str, Any]) -> list[str]:
    lines = []
    for name, suite in found["suites"].items():
        if suite["deviations"]:
            lines.append(f"PROTOCOL DEVIATION, {name}: {'; '.join(suite['deviations'])}.")
        if suite["without_gold"]:
            lines.append(
                f"{name}: {', '.join(map(clean, suite['without_gold']))} without gold, asked and not scored."
            )
        if suite["status"] != "complete":
            continue
        for what, one in suite["together"].items():
            lines.append(
                f"{name}, all of a {what} right: official {percent(one['official'])}, strict {percent(one['strict'])} (n = {one['n']})."
            )
        for what, one in suite["extra"].items():
            lines.append(
                f"{name}, {what}: official {percent(one['official'])}, strict {percent(one['strict'])}."
            )
        if suite["sampled"]:
            lines.append(f"{name}, {suite['sampled']['k']} samples: {_lenses(suite['sampled'])}.")
        if figures := suite["published"]["figures"]:
            low, high = suite["published"]["span"]
            lines.append(
                f"{name}: {len(figures)} published figures of this base, {low:g} to {high:g} % ({suite['published']['metric']})."
            )
        if found["evaluation"]["profile"] == "stock":
            values = {
                key: value
                for results in suite["lmms_eval"]["results"].values()
                for key, value in results.items()
            }
            lines.append(
                f"{name}, lmms-eval's own numbers: {', '.join(f'{key} {value:g}' for key, value in values.items()) or 'none'}."
            )
    if seen := found["decontamination"]:
        lines.append(
            f"{seen['evaluation_pictures_seen']} of {seen['evaluation_pictures']} evaluation pictures have a near-duplicate among "
            f"{seen['training_pictures']} training pictures ({seen['of_those_pixel_for_pixel']} pixel for pixel)."
        )
    for name, group in found["groups"].items():
        missing = f"; not evaluated: {', '.join(group['missing'])}" if group["missing"] else ""
        lines.append(f"Group {name}: {', '.join(group['members'])}{missing}.")
    return lines


def _lenses(sampled: Mapping[str, Any]) -> str:
    return "; ".join(
        f"{lens} " + ", ".join(f"{name} {percent(value)}" for name, value in sampled[lens].items())
        for lens in ("official", "strict")
    )
