"""The report's tables as data; terminal, Markdown and HTML render the same ones.

Every function is pure: results in, `Table` out, None where there is nothing to show.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.report.words import NBSP, NOTHING, TONES, duration, interval, metric_label, number, p_value, percent, points

Results = Mapping[str, Any]


@dataclass(frozen=True)
class Cell:
    """Plain text (never markup), what it means ("good", "bad", "dim" or ""), and a smaller second part such as an interval."""

    text: str
    tone: str = ""
    detail: str = ""


@dataclass(frozen=True)
class Table:
    """`text_columns` are the leading columns set to the left; the others hold numbers. `breaks` are rows after which a group ends."""

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    text_columns: int = 1
    notes: tuple[str, ...] = ()
    breaks: frozenset[int] = frozenset()

    @property
    def detailed(self) -> frozenset[int]:
        """Columns of numbers in which some cell has a second part."""
        return frozenset(index for row in self.rows for index, cell in enumerate(row) if cell.detail and index >= self.text_columns)

    @property
    def detail_width(self) -> int:
        """Characters in the longest second part of a number."""
        return max((len(row[index].detail) for row in self.rows for index in self.detailed), default=0)


def _missing_note(results: Results) -> tuple[str, ...]:
    missing = [name for name in results["missing"] if "evaluate" in name]
    return (f"Incomplete: not evaluated yet are {', '.join(missing)}.",) if missing else ()


def expected_models(results: Results) -> list[str]:
    """All models the run is to measure, measured or not."""
    return ["base", *(f"S{t}" for t in range(1, results["iterations"] + 1))]


def accuracy(results: Results, gain_models: Sequence[str] | None = None) -> Table:
    """Suite x metric: accuracy of every model, and the paired gain over the base of `gain_models` (default: all)."""
    models = expected_models(results)
    gain_models = [model for model in models if model != "base"] if gain_models is None else gain_models
    rows, breaks = [], set()
    for suite in (*results["suites"], *(["average"] if len(results["suites"]) > 1 else [])):
        values = results["average"] if suite == "average" else results["suites"][suite]
        for index, metric in enumerate(results["metrics"]):
            measured = [values.get(model, {}).get(metric) for model in models]
            rows.append(
                (
                    Cell(suite if index == 0 else ""),
                    Cell(metric_label(metric)),
                    *(Cell(percent(one["value"])) if one else Cell(NOTHING, "dim") for one in measured),
                    *(_gain_cell(results, model, suite, metric) for model in gain_models),
                )
            )
        breaks.add(len(rows) - 1)
    notes = (
        *_missing_note(results),
        f"Accuracy in{NBSP}%; gains over the base in points with 95{NBSP}% paired bootstrap intervals, "
        "images resampled. Unparsed answers count as wrong.",
    )
    return Table(
        "Held-out accuracy",
        ("suite", "measure", *models, *(f"{model}{NBSP}\u2212{NBSP}base" for model in gain_models)),
        tuple(rows),
        2,
        notes,
        frozenset(breaks),
    )


def _gain_cell(results: Results, model: str, suite: str, metric: str) -> Cell:
    gain = results["gains"].get(model, {}).get(suite, {}).get(metric)
    if gain is None:
        return Cell(NOTHING, "dim")
    return Cell(points(gain["gain"]), TONES[gain["direction"]], interval(gain["low"], gain["high"]))


def tests(results: Results) -> Table | None:
    """Gains with the cross-check interval and p-values: what stands behind the headline table."""
    rows, breaks = [], set()
    for key, over in (("gains", lambda _: "base"), ("gains_over_previous", lambda model: f"S{int(model[1:]) - 1}")):
        for model, suites in results[key].items():
            for suite, gains in suites.items():
                for metric, gain in gains.items():
                    rows.append(
                        (
                            Cell(f"{model}{NBSP}\u2212{NBSP}{over(model)}"),
                            Cell(suite),
                            Cell(metric_label(metric)),
                            Cell(points(gain["gain"]), TONES[gain["direction"]]),
                            Cell(interval(gain["low"], gain["high"])),
                            Cell(interval(gain["normal_low"], gain["normal_high"])),
                            Cell(p_value(gain["p"])),
                            Cell(p_value(gain["p_holm"])),
                            Cell(gain["test"]),
                            Cell(number(gain["n"])),
                        )
                    )
            breaks.add(len(rows) - 1)
    if not rows:
        return None
    return Table(
        "Paired tests",
        ("comparison", "suite", "measure", "gain", f"bootstrap 95{NBSP}%", f"t 95{NBSP}%", "p", "p (Holm)", "test", "items"),
        tuple(rows),
        3,
        (
            "Holm's correction over the suites of one comparison and measure. A gain is called one only if both intervals leave out "
            "zero and p is at most .05: on a single suite the corrected p, on the average the plain one.",
        ),
        frozenset(breaks),
    )


def counts(results: Results) -> Table | None:
    """How many items were scored, and how many answers could not be read or were cut off."""
    rows, breaks = [], set()
    for suite, models in results["suites"].items():
        for index, (model, measures) in enumerate(models.items()):
            entries = [measures[f"{what}_{kind}"] for what in ("unparsed", "cut_off") for kind in ("greedy", "sampled")]
            rows.append(
                (
                    Cell(suite if index == 0 else ""),
                    Cell(model),
                    Cell(number(measures["greedy"]["n"])),
                    *(Cell(number(one["value"]), "bad" if one["value"] > 0.05 * one["n"] else "") for one in entries),
                )
            )
        breaks.add(len(rows) - 1)
    if not rows:
        return None
    return Table(
        "Answers that could not be read, or were cut off",
        ("suite", "model", "items", "unparsed, greedy", "unparsed, T = 1", "cut off, greedy", "cut off, T = 1"),
        tuple(rows),
        2,
        (*_missing_note(results), f"Greedy: of one answer an item. T = 1: of {results['samples']} answers an item."),
        frozenset(breaks),
    )


def lenses(results: Results) -> Table | None:
    """Benchmarks by both lenses; None without benchmarks."""
    rows, breaks = [], set()
    for suite, models in results.get("lenses", {}).items():
        for index, (model, one) in enumerate(models.items()):
            shares = (Cell(percent(one[name])) for name in ("official", "strict", "parsed", "truncated"))
            gains = (_of_lens(one.get(f"gain_{lens}")) for lens in ("official", "strict"))
            rows.append((Cell(suite if index == 0 else ""), Cell(model), *shares, *gains))
        breaks.add(len(rows) - 1)
    if not rows:
        return None
    return Table(
        "Benchmarks by both lenses, greedy answers",
        ("suite", "model", "official", "strict", "read", "cut off", "gain, official", "gain, strict"),
        tuple(rows),
        2,
        ("Official: the suite's published scoring. The other tables show it. Strict: an answer that cannot be read is wrong.",),
        frozenset(breaks),
    )


def _of_lens(gain: Mapping[str, Any] | None) -> Cell:
    if gain is None:
        return Cell(NOTHING, "dim")
    return Cell(points(gain["gain"]), TONES[gain["direction"]], interval(gain["low"], gain["high"]))


SHADOW_ROWS = (
    ("valid", "questions in the right form"),
    ("cut_off", "questions cut off"),
    ("distinct", "distinct among the valid"),
    ("duplicates", "repeat another question"),
    ("letter_entropy_intuitive", "entropy of intuitive letters, nats (of 1.39)"),
    ("letter_entropy_majority", "entropy of majority letters, nats (of 1.39)"),
    ("mean_dual_track", "mean dual-track reward of the written"),
    ("mean_confidence", "mean confidence c"),
    ("agreement", "intuitive answer = majority"),
    ("unparsed_votes", "votes that could not be read"),
    ("kept", "kept by the filter"),
    ("effective_families", "effective number of question families"),
    ("hard", "questions of hard families"),
    ("well_posed", "well-posed"),
    ("well_posed_kept", "well-posed among the kept"),
    ("hard_kept", "hard among the kept"),
    ("intuitive_accuracy", "intuitive answer right"),
    ("label_accuracy", "pseudo-label right"),
    ("label_accuracy_kept", "pseudo-label right, kept"),
    ("label_accuracy_kept_strict", "same, ill-posed counted as wrong"),
    ("calibration_error", "calibration error of c"),
)


def iterations(results: Results) -> Table | None:
    """Shadow measures, one column an iteration."""
    found = results["shadow"]
    if not found:
        return None
    rows = []
    for name, label in SHADOW_ROWS:
        values = [one.get(name) for one in found.values()]
        if all(value is None for value in values):
            continue
        rows.append((Cell(label), *(_measure_cell(name, value) for value in values)))
    notes = [f"In{NBSP}% unless said otherwise, with the number of cases. Accuracies are among well-posed questions."]
    if all(one["well_posed"] is None for one in found.values()):
        notes.append("These images have no known truth: how many questions are well-posed and how many labels are right is not measured.")
    notes += [f"Incomplete: iteration {t} has no questions yet." for t in range(1, results["iterations"] + 1) if str(t) not in found]
    return Table(
        "What was asked, and what the labels were worth", ("measure", *(f"iteration {t}" for t in found)), tuple(rows), 1, tuple(notes)
    )


def _measure_cell(name: str, value: Any) -> Cell:
    if value is None:
        return Cell(NOTHING, "dim")
    if not isinstance(value, Mapping):
        return Cell(number(value, 2))
    if name in ("mean_confidence", "mean_dual_track"):
        return Cell(number(value["value"]), "", f"n {value['n']:,}")
    return Cell(percent(value["value"]), "", f"n {value['n']:,}")


def calibration(results: Results) -> Table | None:
    """How often the pseudo-label is right at each confidence."""
    found = {t: {row["c"]: row for row in one["calibration"]} for t, one in results["shadow"].items() if one.get("calibration")}
    if not found:
        return None
    levels = sorted({c for rows in found.values() for c in rows})
    rows = tuple(
        (
            Cell(f"{c:.1f}"),
            *(Cell(percent(rows[c]["value"]), "", f"n {rows[c]['n']:,}") if c in rows else Cell(NOTHING, "dim") for rows in found.values()),
        )
        for c in levels
    )
    return Table(
        "Is c the chance that the label is right?",
        ("c", *(f"iteration {t}" for t in found)),
        rows,
        0,
        ("Accuracy of the pseudo-label among well-posed questions at each confidence.",),
    )


def asked_families(results: Results) -> Table | None:
    """Which families the Questioner asks about."""
    found = {t: one["families"] for t, one in results["shadow"].items() if one.get("families")}
    if not found:
        return None
    names = sorted(
        {name for families in found.values() for name in families},
        key=lambda name: (-max(families.get(name, 0) for families in found.values()), name),
    )
    rows = tuple(
        (
            Cell(name, "", "hard" if name in results["hard_families"] else ""),
            *(
                Cell(number(families.get(name, 0)), "", f"{percent(families.get(name, 0) / sum(families.values()))}{NBSP}%")
                for families in found.values()
            ),
        )
        for name in names
    )
    return Table("What the Questioner asks about", ("family", *(f"iteration {t}" for t in found)), rows)


def held_out_families(results: Results) -> Table | None:
    """Greedy and sampled accuracy by family of held-out question."""
    models, rows, breaks = results["models"], [], set()
    for suite, families in results["families"].items():
        for name, values in families.items():
            count = next(iter(values.values()))["n"]
            rows.append(
                (
                    Cell(suite.removeprefix("pocket_")),
                    Cell(name, "", "hard" if name in results["hard_families"] else ""),
                    Cell(number(count)),
                    *(
                        Cell(percent(values[model][metric])) if model in values else Cell(NOTHING, "dim")
                        for metric in ("greedy", "sampled")
                        for model in models
                    ),
                )
            )
        breaks.add(len(rows) - 1)
    if not rows:
        return None
    columns = [f"{model}, {metric_label(metric)}" for metric in ("greedy", "sampled") for model in models]
    return Table(
        "By family of held-out question",
        ("suite", "family", "items", *columns),
        tuple(rows),
        2,
        ("Few items each: read patterns, not single cells.",),
        frozenset(breaks),
    )


TRAINING = (("reward", 3), ("kl", 4), ("grad_norm", 2), ("completion_tokens", 1), ("truncated", 3))


def training(results: Results) -> Table | None:
    """Each training stage: means over its first and its last eighth of steps."""
    found = results["training"]
    if not found:
        return None
    rows = []
    for name, one in found.items():
        cells = []
        for metric, digits in TRAINING:
            ends = one.get(metric)
            cells.append(Cell(f"{number(ends['first'], digits)} \u2192 {number(ends['last'], digits)}") if ends else Cell(NOTHING, "dim"))
        rows.append((Cell(name), Cell(number(one["steps"])), *cells))
    return Table(
        "Training",
        ("stage", "steps", *(metric.replace("_", " ") for metric, _ in TRAINING)),
        tuple(rows),
        1,
        ("Mean over the first and over the last eighth of the optimizer steps.",),
    )


def cost(stages: Sequence[Mapping[str, Any]]) -> Table | None:
    """Seconds of each finished stage and of its phases. Not part of the results: measured, and different each time."""
    phases = list(dict.fromkeys(name for one in stages for name in one["phases"]))
    if not stages:
        return None
    rows = [
        (
            Cell(one["name"]),
            Cell(duration(one["seconds"])),
            *(Cell(duration(one["phases"].get(name)), "" if name in one["phases"] else "dim") for name in phases),
            Cell(number(one["tokens"]), "" if one["tokens"] else "dim"),
        )
        for one in stages
    ]
    total = Cell(duration(sum(one["seconds"] or 0 for one in stages)))
    rows.append((Cell("all"), total, *(Cell("") for _ in phases), Cell("")))
    return Table(
        "Cost",
        ("stage", "time", *phases, "tokens"),
        tuple(rows),
        1,
        ("Of a stage that was killed and resumed, only the last attempt is timed.",),
        frozenset({len(rows) - 2}),
    )
