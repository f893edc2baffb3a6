"""What a reader wants first: one sentence that says whether the gain is real and of which kind, and four
tiles with what stands behind it. It says no more than the findings do."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from harness.analysis.alarms import RULES
from harness.analysis.measures import Alarm
from harness.analysis.results import BASE, Results
from harness.analysis.sharpening import Kind
from harness.analysis.verdicts import TOY, toy_world
from harness.report.claims import in_words, ordered
from harness.report.findings import findings, headroom, incomplete, metric_label, nature_of, whole
from harness.report.held_out import TONES
from harness.stats import Gain
from harness.tables.table import Tone
from harness.tables.words import MISSING, NBSP, counted, interval, percent, points

KINDS: dict[Kind, str] = {
    "learning": "and this looks like learning",
    "sharpening": "but the gain in {} looks like sharpening (more consistent answers), and learning is not "
    "shown",
    "both": "and this looks like sharpening and learning together",
    "open": "but it is open whether this is sharpening or learning",
}
NOT_JUDGED = "not judged"


@dataclass(frozen=True)
class Tile:
    """A question, its answer in a word or a number, and what stands behind it."""

    title: str
    value: str
    lines: tuple[str, ...]
    tone: Tone = ""


def last_gains(results: Results) -> tuple[str, str, dict[str, Gain]] | None:
    """The last Solver, where its gains over the base are read ("average of 3 suites"), and those gains; None
    where there is nothing to judge yet."""
    model = next(reversed(results.gains), None)
    where, gains = whole(results, results.gains[model]) if model else ("", None)
    return (model, where, gains) if model and gains is not None else None


def answer(results: Results) -> str:
    """The one sentence."""
    found = last_gains(results)
    if found is None or not results.evidence:
        return findings(results)[len(incomplete(results))]  # why nothing is judged
    model, _, gains = found
    greedy, sampled = gains["greedy"].direction, gains["sampled"].direction
    name = f"{model}, the Solver after {counted(int(model[1:]), 'iteration')},"
    nature = nature_of(results, model)
    where = f", in {TOY}" if toy_world(results.model, results.suites) else ", in this run"
    if {greedy, sampled} == {"unclear"}:
        return f"No gain{where}: {name} is not significantly different from its base ({_size(gains)})."
    if {greedy, sampled} == {"positive", "negative"}:
        better, worse = ("greedy", "sampled") if greedy == "positive" else ("sampled", "greedy")
        return (
            f"Better and worse{where}: {name} beats its base by {_one(gains, better)} and loses by "
            f"{_one(gains, worse)}."
        )
    if nature is None:
        fewer = "answers fewer held-out questions right than its base"
        return f"No, a loss{where}: {name} {fewer} ({_size(gains)})."
    start = "Yes" if greedy == sampled else "In part"
    more = f"{name} answers more held-out questions right than its base ({_size(gains)})"
    sharpened = " and ".join(metric_label(metric).replace(" ", NBSP) for metric in nature.sharpened)
    return f"{start}{where}: {more}, {KINDS[nature.kind].format(sharpened)}."


def _size(gains: dict[str, Gain]) -> str:
    """The greedy and the sampled gain with their intervals."""
    return "; ".join(_one(gains, metric) for metric in ("greedy", "sampled"))


def _one(gains: dict[str, Gain], metric: str) -> str:
    gain = gains[metric]
    name = metric_label(metric).replace(" ", NBSP)
    return f"{name} {points(gain.gain)}{NBSP}points, 95{NBSP}% interval {interval(gain.low, gain.high)}"


def tiles(results: Results) -> list[Tile]:
    """Gain, kind, alarms, and what the run can and cannot say."""
    return [_gain(results), _kind(results), _alarms(results), _reach(results)]


def _gain(results: Results) -> Tile:
    title, found = "Gain over the base", last_gains(results)
    if found is None:
        return Tile(title, MISSING, ("No Solver was measured on the same suites as the base.",))
    model, where, gains = found
    lines = [_moved(results, model, metric, gains[metric]) for metric in results.metrics[:2]]
    lines.append(f"{where}, {gains['greedy'].n:,} questions")
    if results.evidence:
        lines += _by_suite(results, model)
    size = ", ".join(
        f"{points(gains[metric].gain)}{NBSP}{metric_label(metric).replace(' ', NBSP)}"
        for metric in ("greedy", "sampled")
    )
    return Tile(
        title, size if results.evidence else NOT_JUDGED, tuple(lines), TONES[gains["greedy"].direction]
    )


def _by_suite(results: Results, model: str) -> list[str]:
    """In how many of several suites the gain is significant."""
    own = [gains for suite, gains in results.gains[model].items() if suite in results.suites]
    shares = [
        f"{metric_label(metric)} in {sum(one[metric].direction == 'positive' for one in own)}"
        for metric in ("greedy", "sampled")
    ]
    return [f"significant gains, of {len(own)} suites: {', '.join(shares)}"] if len(own) > 1 else []


def _kind(results: Results) -> Tile:
    title, found = "Sharpening or learning", last_gains(results)
    if not results.evidence:
        return Tile(title, NOT_JUDGED, ("The preset is too small.",))
    nature = nature_of(results, found[0]) if found else None
    if found is None or nature is None:
        return Tile(title, MISSING, ("There is no gain to explain.",))
    model, _, gains = found
    lines = [_moved(results, model, metric, gains[metric]) for metric in results.metrics[2:4]]
    lines += [nature.reason, *headroom(results)]
    return Tile(title, nature.kind.capitalize(), tuple(lines))


def _moved(results: Results, model: str, metric: str, gain: Gain) -> str:
    before, after = (results.average.get(one, {}).get(metric) for one in (BASE, model))
    ends = ""
    if before and after:
        ends = f", {percent(before.value)}{NBSP}\u2192{NBSP}{percent(after.value)}{NBSP}%"
    unclear = ", not significant" if gain.direction == "unclear" and results.evidence else ""
    return f"{metric_label(metric)}: {points(gain.gain)} ({interval(gain.low, gain.high)}){ends}{unclear}"


def _alarms(results: Results) -> Tile:
    title, found = "Collapse alarms", results.alarms
    if not results.ground_truth:
        return Tile(title, MISSING, ("No questions are written yet.",))
    tone: Tone = "warn" if found and results.evidence else ""
    warned = [f"{counted(len(results.warnings), 'warning')} besides."] if results.warnings else []
    said = [_alarm(one) for one in found] or [f"{counted(len(results.ground_truth), 'iteration')} checked"]
    lines = (*said, *warned, f"{len(RULES)} rules watch for self-play going wrong.", *_labels(results))
    return Tile(title, counted(len(found), "alarm") if found else "none", lines, tone)


def _labels(results: Results) -> list[str]:
    """How many of the labels that were trained on are right, where the truth is known."""
    shares = [
        f"{percent(one.label_right.value)}{NBSP}% in iteration {t}"
        for t, one in results.trained_on.items()
        if one.label_right and one.label_right.value is not None
    ]
    return [f"Labels of kept questions that are right: {', '.join(shares)}."] if shares else []


def _alarm(one: Alarm) -> str:
    return f"iteration {one.iteration}: {one.message}"


def _reach(results: Results) -> Tile:
    toy = toy_world(results.model, results.suites)
    can = "It can say what this one training did, on questions of these kinds."
    cannot = ["another training would do the same"]
    if toy:
        cannot.append("large models gain")
    if results.split == "dev":
        cannot.append("the test split agrees")
    lines = [can, f"It cannot say whether {', or whether '.join(cannot)}."]
    if not results.evidence:
        lines = ["It can say that the program runs, and nothing about the method."]
    verdicts = Counter(in_words(one) for one in ordered(results.claims))
    if verdicts:
        lines.append(f"Published claims: {', '.join(f'{n} {words}' for words, n in verdicts.items())}.")
    return Tile("What this run can say", "a toy world, 1 seed" if toy else "1 seed", tuple(lines))
