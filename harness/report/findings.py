"""What the results say, in sentences. A gain or a loss is claimed only where its direction is significant."""

from __future__ import annotations

from typing import Literal

from harness.analysis.measures import LABELS, SuiteGains
from harness.analysis.results import AVERAGE, BASE, Results
from harness.stats import Gain
from harness.tables.words import NBSP, counted, interval, percent, points
from vzero.arms import REFERENCE

NO_EVIDENCE = (
    "The preset {preset} shows that the program runs. It is too small to say anything about the method, so "
    "nothing here is judged."
)
READINGS = {  # of the direction of the majority of several answers, beside a gain of single ones
    "positive": "the majority itself is right more often, which points to learning",
    "unclear": "no sign of more than sharpening towards the base's own majority",
    "negative": "single answers got better, and their majority worse",
}


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
            said += nature(results, model) + elicited(results)
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


def nature(results: Results, model: str) -> list[str]:
    """Whether a gain looks like sharpening or like learning; nothing where there is no gain to speak of."""
    _, gains = whole(results, results.gains[model])
    kind = kind_of_gain(results, model)
    if gains is None or kind is None:
        return []
    *_, majority, passed = results.metrics
    moves = {"positive": "rose", "negative": "fell", "unclear": "did not change significantly"}
    votes, any_right = gains[majority].direction, gains[passed].direction
    fewer = f"fewer questions have a right answer among {results.samples}"
    reading = READINGS[votes] + (f"; {fewer}" if any_right == "negative" else "")
    if votes == "positive" and kind == "sharpening":
        reading = f"the majority is right more often, but {fewer}, which is not learning"
    return [f"Sharpening or learning? {majority} {moves[votes]}, {passed} {moves[any_right]}: {reading}."]


def kind_of_gain(results: Results, model: str) -> Literal["learning", "sharpening"] | None:
    """Learning where the vote of several answers got better too, and as many questions as before have a right
    answer among them (docs/reading.md); None where there is no gain to speak of."""
    _, gains = whole(results, results.gains[model])
    if gains is None or "positive" not in (gains["greedy"].direction, gains["sampled"].direction):
        return None
    _, _, majority, passed = (gains[metric].direction for metric in results.metrics)
    return "learning" if majority == "positive" and passed != "negative" else "sharpening"


def elicited(results: Results) -> list[str]:
    """How much of the last Solver's gain the base shows with prefilled answers; nothing without a probe or
    a gain."""
    probe = results.elicitation
    if probe is None or AVERAGE not in probe.elicited or AVERAGE not in probe.beyond:
        return []
    _, gains = whole(results, results.gains.get(probe.model, {}))
    if gains is None or gains["greedy"].direction != "positive":
        return []
    given, rest = probe.elicited[AVERAGE]["greedy"], probe.beyond[AVERAGE]["greedy"]
    readings = {
        "positive": "the gain is more than another way to begin an answer",
        "unclear": "no sign that the gain is more than another way to begin an answer",
        "negative": f"the base does better with {probe.model}'s first words than {probe.model} itself",
    }
    return [
        f"Only other first words? Given the first {counted(probe.words, 'word')} of {probe.model}'s answers, "
        f"the base's greedy accuracy moves by {points(given.gain)} points. {probe.model} moves from there by "
        f"{points(rest.gain)}: {readings[rest.direction]}."
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
    return [
        f"Collapse alarm, iteration {one.iteration}: {one.message} ({one.rule}: {one.value:.2f}, fires at "
        f"{one.threshold:g})."
        for one in results.alarms
    ]


def not_run(results: Results) -> list[str]:
    """What a reader might look for here and that was not done."""
    said = [f"Stage {name}: {why}." for name, why in results.missing.items()]
    unrun = sum(one.verdict == "NOT RUN" for one in results.claims)
    if unrun:
        said.append(f"{unrun} of {len(results.claims)} claims on file; the reasons stand beside the claims.")
    if all(one.well_posed is None for one in results.ground_truth.values()):
        said.append("Measures that need the true answer to a written question: these images have none.")
    said.append("Other seeds and arms: this is one training run; vzero-harness table compares runs.")
    if results.elicitation is None:
        said.append(
            "The elicitation probe, which prefills the base's answers with the last Solver's first words."
        )
    return [*said, "The test split."] if results.split == "dev" else said


def caveats(results: Results) -> list[str]:
    """What the numbers cannot say."""
    said = [
        f"One training run, seed {results.seed}: the intervals cover other questions of the same kinds, not "
        "other runs."
    ]
    base = results.average.get(BASE)
    if base:
        majority = results.metrics[2]
        above = [points(base[majority].value - base[metric].value) for metric in ("greedy", "sampled")]
        said.append(
            f"Headroom for sharpening: the base's {majority} minus its greedy accuracy is {above[0]} points, "
            f"minus its T{NBSP}={NBSP}1 accuracy {above[1]}. A gain of that size can be sharpening alone."
        )
    n, others = results.samples, "; benchmarks have other numbers of options" if results.scorings else ""
    guess = f"pass@{n} = {percent(1 - 0.75**n)}{NBSP}%"
    said.append(f"{n} random guesses among four options give {guess}{others}: read it as a change alone.")
    if results.split == "dev":
        said.append(
            "These are development questions, on which settings may have been chosen; report the test split."
        )
    return said
