"""Several seeds as sentences and a table; terminal and seeds.md show the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.report.table import Cell, Table
from harness.report.words import MINUS, NBSP, TONES, interval, metric_label, percent, points

if TYPE_CHECKING:
    from rich.console import Console

Summary = Mapping[str, Any]


def findings(summary: Summary) -> list[str]:
    """What the seeds say together, the last Solver first: its average gain, greedy and at T = 1."""
    return [
        _finding(summary, model, metric)
        for model in reversed(list(summary["gains"]))
        for metric in ("greedy", "sampled")
    ]


def _finding(summary: Summary, model: str, metric: str) -> str:
    gain, seeds = summary["gains"][model]["average"][metric], len(summary["seeds"])
    by_seed = [
        (one["sign"].replace("-", MINUS), one["direction"] != "unclear") for one in gain["by_seed"].values()
    ]
    verdict = {
        "positive": f"{model} answers more held-out questions right than the base",
        "negative": f"{model} answers fewer held-out questions right than the base",
        "unclear": f"Over seeds, {model} cannot be told from the base",
    }[gain["direction"]]
    return (
        f"{verdict}, {metric_label(metric)}: {points(gain['mean'])}{NBSP}points on average over {seeds} seeds (from {points(gain['min'])} "
        f"to {points(gain['max'])}; 95{NBSP}% interval over seeds and images {interval(gain['low'], gain['high'])}, by t "
        f"{interval(gain['t_low'], gain['t_high'])}). Sign by seed: {' '.join(sign for sign, _ in by_seed)}; distinguishable from zero in "
        f"its own run: {sum(told for _, told in by_seed)} of {seeds}."
    )


def gains(summary: Summary, places: Sequence[str] | None = None) -> Table:
    """Gain over the base by model, suite and measure (the last Solver and the average first): each seed, then
    all seeds together."""
    rows, breaks = [], set()
    for model in reversed(list(summary["gains"])):
        for place in places or ("average", *summary["suites"]):
            for index, (metric, gain) in enumerate(summary["gains"][model][place].items()):
                rows.append(
                    (
                        Cell(f"{model}{NBSP}\u2212{NBSP}base" if index == 0 else ""),
                        Cell(place if index == 0 else ""),
                        Cell(metric_label(metric)),
                        *(
                            Cell(
                                points(one["gain"]),
                                TONES[one["direction"]],
                                interval(one["low"], one["high"]),
                            )
                            for one in gain["by_seed"].values()
                        ),
                        Cell(
                            points(gain["mean"]),
                            TONES[gain["direction"]],
                            interval(gain["low"], gain["high"]),
                        ),
                        Cell(interval(gain["t_low"], gain["t_high"])),
                    )
                )
            breaks.add(len(rows) - 1)
    seeds = summary["seeds"]
    return Table(
        f"Gain over the base, {len(seeds)} seeds",
        ("comparison", "suite", "measure", *(f"seed {seed}" for seed in seeds), "mean", f"t 95{NBSP}%"),
        tuple(rows),
        3,
        (
            f"Points, with 95{NBSP}% intervals: of a seed over images, of the mean over seeds and images (both resampled). With few seeds "
            "the resampling shows too little of the spread between seeds; the t interval allows for how few they are.",
        ),
        frozenset(breaks),
    )


def accuracy(summary: Summary, places: Sequence[str] | None = None) -> Table:
    """Mean accuracy over the seeds and its range."""
    rows, breaks = [], set()
    for place in places or ("average", *summary["suites"]):
        for index, metric in enumerate(summary["metrics"]):
            levels = [one[metric] for one in summary["accuracy"][place].values()]
            rows.append(
                (
                    Cell(place if index == 0 else ""),
                    Cell(metric_label(metric)),
                    *(
                        Cell(percent(one["mean"]), "", f"{percent(one['min'])} to {percent(one['max'])}")
                        for one in levels
                    ),
                )
            )
        breaks.add(len(rows) - 1)
    return Table(
        "Held-out accuracy",
        ("suite", "measure", *summary["models"]),
        tuple(rows),
        2,
        (
            f"In{NBSP}%: mean over the seeds, with the lowest and the highest seed. {summary['questions']:,} questions in all.",
        ),
        frozenset(breaks),
    )


def show(summary: Summary, console: Console) -> None:
    """Findings, and the tables of the average; suite by suite they stand in seeds.md."""
    from harness.report import terminal

    for sentence in findings(summary):
        terminal.say(sentence, console, "bold")
    for table in (gains(summary, ["average"]), accuracy(summary, ["average"])):
        console.print(terminal.render(table))


def markdown(summary: Summary) -> str:
    """seeds.md."""
    from harness.report.markdown import plain, table

    parts = [
        f"# V-Zero: {plain(summary['preset'])}, seeds {', '.join(map(str, summary['seeds']))} ({summary['split']} split)"
    ]
    parts += [f"- {plain(sentence)}" for sentence in findings(summary)]
    parts += [table(gains(summary)), table(accuracy(summary)), "## Where the numbers come from"]
    for seed, run in summary["runs"].items():
        sources = ", ".join(f"{name} {digest[:16]}" for name, digest in run["manifests"].items())
        parts.append(f"- seed {seed}, commit {plain(', '.join(run['commits']))}: manifests {sources}")
    return "\n\n".join(parts) + "\n"


def write(summary: Summary, folder: Path) -> list[Path]:
    """Write seeds.json and seeds.md into `folder`, each whole or not at all; their paths.

    Raises:
        InputError: `folder` cannot be written.
    """
    from vzero.errors import FULL_DISK, InputError
    from vzero.runtime import artefacts

    paths = [folder / "seeds.json", folder / "seeds.md"]
    try:
        artefacts.write_json(paths[0], summary)
        artefacts.write_text(paths[1], markdown(summary))
    except OSError as error:
        if error.errno in FULL_DISK:
            raise
        raise InputError(f"Cannot write into {folder}: {error.strerror}; choose another --out.") from None
    return paths
