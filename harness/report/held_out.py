"""Held-out questions as tables: accuracies and gains, the probe, tests, faults, both scorings, families,
numbers of samples, and changed answers. A table without rows has nothing to show."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeVar

from harness.analysis.measures import Count, FamilyScore, SuiteGains
from harness.analysis.results import AVERAGE, BASE, Results
from harness.report.findings import metric_label
from harness.stats import Gain, Interval
from harness.tables.table import Cell, Row, Table, Tone, keys, numbers, texts
from harness.tables.words import NBSP, counted, interval, p_value, points, signed

TONES: dict[str, Tone] = {"positive": "good", "negative": "bad", "unclear": ""}
FAULTS = [(fault, kind) for fault in ("unparsed", "truncated") for kind in ("greedy", "sampled")]
FAULT_LIMIT = 0.05  # share of unparsed or truncated answers above which a count is marked
Levels = Mapping[str, Interval]
T = TypeVar("T")


def places(suites: Collection[str]) -> list[str]:
    """The suites, then the average where there are several."""
    return [*suites, *([AVERAGE] if len(suites) > 1 else [])]


def levels(results: Results, place: str, model: str) -> Levels:
    """The accuracies of a model on a suite or on average, by metric; empty where it was not measured."""
    if place == AVERAGE:
        return results.average.get(model, {})
    measured = results.suites[place].get(model)
    return measured.accuracy if measured else {}


def _by_metric(
    results: Results, place: str, measured: Sequence[Levels], gains: Sequence[SuiteGains]
) -> list[Row]:
    """A row for each metric: the levels, then the gains on this suite."""
    return [
        (
            place,
            metric_label(metric),
            *shares(measured, metric),
            *(gain_cell(one.get(place, {}).get(metric)) for one in gains),
        )
        for metric in results.metrics
    ]


def _nested(found: Mapping[str, Mapping[str, T]], cells: Callable[[T], Row]) -> list[list[Row]]:
    """A group per suite, a row per model."""
    return [[(suite, model, *cells(one)) for model, one in models.items()] for suite, models in found.items()]


def shares(measured: Sequence[Levels], metric: str) -> list[Cell]:
    """An accuracy by each of several models."""
    return [Cell.percent(one[metric].value if metric in one else None) for one in measured]


def gain_cell(gain: Gain | None) -> Cell:
    """A gain in points with its interval, coloured where it is significant."""
    return Cell.gain(gain.gain, gain.low, gain.high, TONES[gain.direction]) if gain else Cell.missing()


def _minus(model: str, base: str) -> str:
    return f"{model}{NBSP}\u2212{NBSP}{base}"


def _previous(model: str) -> str:
    return f"S{int(model[1:]) - 1}"


def _not_evaluated(results: Results) -> list[str]:
    missing = [name for name in results.missing if "evaluate" in name]
    return [f"Incomplete: not evaluated yet are {', '.join(missing)}."] if missing else []


def accuracy(results: Results) -> Table:
    """Every model by suite and metric, and its paired gain over the base."""
    models = [BASE, *(f"S{t}" for t in range(1, results.iterations + 1))]  # measured or not
    gains = [results.gains.get(model, {}) for model in models[1:]]
    groups: list[list[Row]] = [
        _by_metric(results, place, [levels(results, place, model) for model in models], gains)
        for place in places(results.suites)
    ]
    note = (
        f"Accuracy in{NBSP}%; gains over the base in points with 95{NBSP}% paired bootstrap intervals over "
        "images, coloured where significant after correction for all gains of the report. The average "
        "counts each suite alike. Unparsed answers count as wrong."
    )
    columns = (*keys("suite", "measure"), *numbers(*models, *(_minus(model, BASE) for model in models[1:])))
    return Table("Held-out accuracy", columns, groups, [*_not_evaluated(results), note])


def elicitation(results: Results) -> Table:
    """The base, the base with prefilled answers, the last Solver, and both paired differences."""
    probe, title = results.elicitation, "Is it only another way to begin an answer?"
    if probe is None:
        return Table(title, (), [])
    groups, last = [], probe.model
    for place in places(results.suites):
        measured = probe.suites.get(place)
        prefilled = probe.average if place == AVERAGE else measured.accuracy if measured else None
        if prefilled and place in probe.elicited:
            shown = (levels(results, place, BASE), prefilled, levels(results, place, last))
            groups.append(_by_metric(results, place, shown, (probe.elicited, probe.beyond)))
    headings = (BASE, "base (prefilled)", last, _minus("prefilled", BASE), _minus(last, "prefilled"))
    note = (
        f"base (prefilled): each answer of the base begins with the first {counted(probe.words, 'word')} of "
        f"{last}'s answer to the same question. What {last} gains over that is more than a way to begin; it "
        "may still be sharpening."
    )
    return Table(title, (*keys("suite", "measure"), *numbers(*headings)), groups, [note])


def tests(results: Results) -> Table:
    """What stands behind each gain: both intervals, the p-values, the test."""
    compared = [
        *((_minus(model, BASE), suites) for model, suites in results.gains.items()),
        *((_minus(model, _previous(model)), suites) for model, suites in results.gains_over_previous.items()),
    ]
    columns = (
        *keys("comparison", "suite", "measure"),
        *numbers("gain", f"bootstrap 95{NBSP}%", f"t 95{NBSP}%", "p", "p (corrected)"),
        *texts("test"),
        *numbers("items"),
    )
    groups: list[list[Row]] = [
        [
            (name, suite, metric_label(metric), *_test(gain))
            for suite, gains in suites.items()
            for metric, gain in gains.items()
        ]
        for name, suites in compared
    ]
    note = (
        "p is corrected over all gains of this report (Benjamini-Hochberg). A gain is significant only if "
        "both intervals exclude 0 and the corrected p is at most .05."
    )
    return Table("Paired tests", columns, groups, [note])


def _test(gain: Gain) -> Row:
    return (
        Cell.of(points(gain.gain), tone=TONES[gain.direction]),
        interval(gain.low, gain.high),
        interval(gain.t_low, gain.t_high),
        p_value(gain.p),
        p_value(gain.p_corrected),
        gain.test,
        gain.n,
    )


def counts(results: Results) -> Table:
    """How many items were scored, and how many answers could not be read or were truncated."""
    groups = _nested(
        results.suites,
        lambda one: (one.accuracy["greedy"].n, *(_count(one.counted(*kind)) for kind in FAULTS)),
    )
    headings = (f"{fault}, {metric_label(kind)}" for fault, kind in FAULTS)
    note = f"Greedy: of one answer per item. T = 1: of {results.samples} answers per item."
    return Table(
        "Unparsed and truncated answers",
        (*keys("suite", "model"), *numbers("items", *headings)),
        groups,
        [*_not_evaluated(results), note],
    )


def _count(count: Count | None) -> Cell:
    if count is None:
        return Cell.missing()
    return Cell.number(count.value, tone="bad" if count.value > FAULT_LIMIT * count.n else "")


def scorings(results: Results) -> Table:
    """Benchmarks by their own headlines."""
    groups = _nested(
        results.scorings,
        lambda one: (
            *map(Cell.percent, (one.official, one.verified, one.parsed, one.truncated)),
            *map(gain_cell, (one.gain_official, one.gain_verified)),
        ),
    )
    headings = numbers("official", "verified", "read", "truncated", unit="%")
    columns = (*keys("suite", "model"), *headings, *numbers("gain, official", "gain, verified"))
    names = {suite: one.headline for suite, models in results.scorings.items() for one in models.values()}
    stated = ", ".join(f"{suite} {name}" for suite, name in names.items())
    note = (
        f"Headlines of the suites' authors: {stated}. Official: by their published rules, empty where one "
        "needs a judge. Verified: an answer that cannot be read is wrong. The other tables show the verified "
        "share of items, of every suite alike."
    )
    return Table("Benchmarks by their own headlines, greedy answers", columns, groups, [note])


def families(results: Results) -> Table:
    """Greedy and sampled accuracy by family of held-out question."""
    kinds = [(metric, model) for metric in ("greedy", "sampled") for model in results.models]

    def row(suite: str, name: str, models: Mapping[str, FamilyScore]) -> Row:
        found = (models[model].accuracy[metric] if model in models else None for metric, model in kinds)
        n = next(iter(models.values())).n
        return (suite, family_cell(results, name), n, *map(Cell.percent, found))

    groups: list[list[Row]] = [
        [row(suite.removeprefix("pocket_"), name, models) for name, models in found.items()]
        for suite, found in results.families.items()
    ]
    headings = (f"{model}, {metric_label(metric)}" for metric, model in kinds)
    columns = (*keys("suite", "family"), *numbers("items", *headings))
    note = "Few items each: read patterns, not single cells."
    return Table("By family of held-out question", columns, groups, [note])


def family_cell(results: Results, name: str) -> Cell:
    """The family's name, and whether it is a hard one."""
    return Cell.of(name, *(["hard"] if name in results.hard_families else []))


def by_samples(results: Results) -> Table:
    """maj@k and pass@k of every model for some k, mean of the suites."""
    found = {model: one for model, one in results.k_curves.items() if one}
    ks = next((one.k for one in found.values()), [])
    shown = [index for index, k in enumerate(ks) if k in (1, 2, 3, 5) or k == ks[-1]]
    groups: list[list[Row]] = [
        [
            (model, label, *(Cell.percent(values[index]) for index in shown))
            for label, values in (("maj@k", one.majority), ("pass@k", one.passed))
        ]
        for model, one in found.items()
    ]
    columns = (*keys("model", "measure"), *numbers(*(f"k = {ks[index]}" for index in shown)))
    note = f"In{NBSP}%, mean of the suites. maj@1 is one sampled answer; greedy accuracies stand above."
    return Table("Accuracy by number of samples", columns, groups, [note])


def flips(results: Results) -> Table:
    """How many greedy answers changed sides against the base, by suite."""
    groups: list[list[Row]] = [
        [
            (suite, model, one.items, lost, gained, signed(gained - lost))
            for model, found in results.flips.items()
            if (one := found.get(suite))
            for lost, gained in ((len(one.lost), len(one.gained)),)
        ]
        for suite in results.suites
    ]
    columns = numbers("items", "right \u2192 wrong", "wrong \u2192 right", "net")
    note = "Against the base, item by item."
    return Table("Greedy answers that changed", (*keys("suite", "model"), *columns), groups, [note])
