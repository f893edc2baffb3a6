"""What the results say, in sentences. A gain or a loss is claimed only where its direction is significant."""

from __future__ import annotations

import math

from harness.analysis.alarms import RULES
from harness.analysis.measures import LABELS, SuiteGains
from harness.analysis.results import AVERAGE, BASE, Results
from harness.analysis.sharpening import Nature, nature
from harness.stats import Gain
from harness.tables.words import NBSP, counted, interval, percent, points
from vzero.arms import REFERENCE

NO_EVIDENCE = (
    "The preset {preset} shows that the program runs. It is too small to say anything about the method, so "
    "nothing here is judged."
)

FEW = 3  # families that may carry a gain


def run_name(results: Results) -> list[str]:
    """Which run this is, part by part: its preset, its arm where that is not V-Zero itself, its seed."""
    arm = [f"arm {results.arm}"] if results.arm != REFERENCE else []
    return [results.preset, *arm, f"seed {results.seed}"]


def metric_label(name: str) -> str:
    """How a metric is called where people read it: "sampled" is accuracy at T = 1."""
    return LABELS.get(name, name)


def findings(results: Results) -> list[str]:
    """The most important first: what is missing, each Solver against the base, what kind of gain it is, and
    each Solver against the one before."""
    said = incomplete(results)
    trained = list(reversed(results.gains))
    if not results.evidence:
        return [*said, NO_EVIDENCE.format(preset=results.preset)]
    for model in trained:
        said.append(_compared(results, results.gains[model], model, BASE))
        if model == trained[0]:
            said += said_of_nature(results, model) + carried(results, model) + elicited(results)
    for model, gains in results.gains_over_previous.items():
        said.append(_compared(results, gains, model, f"S{int(model[1:]) - 1}"))
    if not trained:
        missing = "no Solver has" if BASE in results.models else "the base has not"
        said.append(f"There is no gain to judge yet: {missing} been evaluated.")
    return said


def incomplete(results: Results) -> list[str]:
    """That stages are missing, and which."""
    missing = ", ".join(f"{name} ({why})" for name, why in results.missing.items())
    return [f"This run is incomplete, so this is no final result. Missing: {missing}."] if missing else []


def nature_of(results: Results, model: str) -> Nature | None:
    """Of what kind the gain of `model` over the base is; None where there is no gain to speak of."""
    _, gains = whole(results, results.gains[model])
    return nature(results.metrics, gains) if gains else None


def said_of_nature(results: Results, model: str) -> list[str]:
    """The same in a sentence."""
    found = nature_of(results, model)
    return [f"Sharpening or learning? {found.kind.capitalize()}: {found.reason}"] if found else []


def carried(results: Results, model: str) -> list[str]:
    """Which families a significant greedy gain is of, where a few of many make more than half of it."""
    _, gains = whole(results, results.gains[model])
    if gains is None or gains["greedy"].direction != "positive" or {*results.families} != {*results.suites}:
        return []
    parts = []
    for families in results.families.values():
        items = sum(models[BASE].n for models in families.values())
        for name, models in families.items():
            before, after = (models[one].accuracy["greedy"] for one in (BASE, model))
            share = models[BASE].n / items / len(results.families)  # of the mean of the suites
            parts.append((share * (after - before), f"{name} ({percent(before)} to {percent(after)}{NBSP}%)"))
    parts.sort(reverse=True)
    most, rest = (math.fsum(part for part, _ in some) for some in (parts[:FEW], parts[FEW:]))
    if len(parts) <= 2 * FEW or most <= (most + rest) / 2:
        return []
    names = ", ".join(name for _, name in parts[:FEW])
    return [
        f"A few families carry {model}'s greedy gain: {names} add {points(most)}{NBSP}points to it, the "
        f"other {len(parts) - FEW} together {points(rest)}."
    ]


def elicited(results: Results) -> list[str]:
    """How much of the last Solver's gain the base shows with prefilled answers; nothing without a probe or
    a gain."""
    probe = results.elicitation
    if probe is None or AVERAGE not in probe.elicited or AVERAGE not in probe.beyond:
        return []
    _, gains = whole(results, results.gains.get(probe.model, {}))
    if gains is None or gains["greedy"].direction != "positive":
        return []
    rest = probe.beyond[AVERAGE]["greedy"]
    levels = [results.average[BASE], probe.average or {}, results.average[probe.model]]
    if any("greedy" not in one for one in levels):
        return []
    base, prefilled, last = (f"{percent(one['greedy'].value)}{NBSP}%" for one in levels)
    readings = {
        "positive": "the gain is more than another way to begin an answer",
        "unclear": "no sign that the gain is more than another way to begin an answer",
        "negative": f"the base does better with {probe.model}'s first words than {probe.model} itself",
    }
    return [
        f"Is it only another way to begin an answer? Greedy accuracy is {base} for the base, {prefilled} for "
        f"the base given the first {counted(probe.words, 'word')} of {probe.model}'s answers, and {last} for "
        f"{probe.model}: {readings[rest.direction]}."
    ]


def verdict(model: str, base: str, greedy: str, sampled: str) -> str:
    """What may be said of two models from the directions of their greedy and their sampled difference."""
    known = {greedy, sampled} - {"unclear"}
    if not known:
        return f"{model} is not significantly different from {base}"
    if len(known) == 2:
        return f"{model} is better than {base} in one measure and worse in the other"
    more = (
        f"{model} answers {'more' if 'positive' in known else 'fewer'} held-out questions right than {base}"
    )
    if greedy == sampled:
        return more
    if greedy == "unclear":
        return f"{more} at T = 1; with greedy answers the difference is not significant"
    return f"{more} with its greedy answers; at T = 1 the difference is not significant"


def whole(results: Results, gains: SuiteGains) -> tuple[str, dict[str, Gain] | None]:
    """Where to read the gains of a model, and those gains: the average, or the only suite, or None."""
    if AVERAGE in gains:
        return f"average of {len(results.suites)} suites", gains[AVERAGE]
    return next(iter(gains.items())) if len(gains) == 1 else ("", None)


def _compared(results: Results, gains: SuiteGains, model: str, base: str) -> str:
    where, found = whole(results, gains)
    if found is None:
        return f"{model} and {base} were not both measured on every suite, so there is no average to compare."
    name = "the base" if base == BASE else base
    head = verdict(model, name, found["greedy"].direction, found["sampled"].direction)
    if base == BASE:
        head = f"After {counted(int(model[1:]), 'iteration')}, {head}"
    said: list[str] = []
    for metric in results.metrics[:3]:
        gain, label = found[metric], metric_label(metric).replace(" ", NBSP)
        levels = [results.average.get(one, {}).get(metric) for one in (base, model)]
        if levels[0] and levels[1]:
            label += f" from {percent(levels[0].value)} to {percent(levels[1].value)}{NBSP}%"
        units = (f"{NBSP}points", f"95{NBSP}% interval ") if not said else ("", "")
        said.append(f"{label} ({points(gain.gain)}{units[0]}, {units[1]}{interval(gain.low, gain.high)})")
    return f"{head}: {', '.join(said)}; {where}, {found['greedy'].n:,} questions."


def alarms(results: Results) -> list[str]:
    """Each rule of the collapse alarm that fired."""
    below = {rule.name for rule in RULES if rule.below}
    return [
        f"Collapse alarm, iteration {one.iteration}: {one.message} ({one.rule}: {one.value:.2f}, fires "
        f"{'below' if one.rule in below else 'above'} {one.threshold:g})."
        for one in results.alarms
    ]


def not_run(results: Results) -> list[str]:
    """What a reader might look for here and that was not done."""
    said = [f"Stage {name}: {why}." for name, why in results.missing.items()]
    unrun = sum(one.verdict == "NOT RUN" for one in results.claims)
    if unrun:
        said.append(f"{unrun} of {len(results.claims)} published claims; the reasons stand beside them.")
    if all(one.well_posed is None for one in results.ground_truth.values()):
        said.append("Measures that need the true answer to a written question: these images have none.")
    said.append("Other seeds and arms: this is one training run; vzero-harness table compares runs.")
    if results.elicitation is None:
        said.append(
            "The elicitation probe, which prefills the base's answers with the last Solver's first words."
        )
    return [*said, "The test split."] if results.split == "dev" else said


def headroom(results: Results) -> list[str]:
    """How much sharpening alone can gain; nothing where the base was not measured."""
    base = results.average.get(BASE)
    if not base:
        return []
    majority, passed = results.metrics[2:4]
    above = [
        f"{percent(abs(room))} points {'above' if room >= 0 else 'below'} its {metric_label(metric)}"
        for metric in ("sampled", "greedy")
        for room in (base[majority].value - base[metric].value,)
    ]
    return [
        f"Headroom: the base's {majority} is {' and '.join(above)} accuracy, about what sharpening alone can "
        f"gain. {passed} can rise by {percent(1 - base[passed].value)} points at most."
    ]


def caveats(results: Results) -> list[str]:
    """What the numbers cannot say."""
    said = [
        f"One training run, seed {results.seed}: the intervals cover other questions of the same kinds, not "
        "other runs."
    ]
    said += headroom(results)
    n, others = results.samples, "; benchmarks have other numbers of options" if results.scorings else ""
    said.append(
        f"{n} random guesses among four options give a pass@{n} of {percent(1 - 0.75**n)}{NBSP}%{others}: "
        f"read pass@{n} as a change from the base, not as a level."
    )
    fired = {one.rule for one in results.alarms}
    said.append(f"Alarms that did not fire: {', '.join(one.name for one in RULES if one.name not in fired)}.")
    if results.split == "dev":
        said.append(
            "These are development questions, on which settings may have been chosen; report the test split."
        )
    return said
