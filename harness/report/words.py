"""Numbers and findings in words: how a share, a difference and an interval are written, and what may be said
about them.

A sentence claims a gain or a loss only where `harness.stats.Gain.direction` does; everything else is "not
distinguishable from zero".
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Any

from vzero.arms import REFERENCE

MINUS, DASH, NBSP = "\u2212", "\u2013", "\u00a0"
NOTHING = DASH  # a cell without a number
TONES = {"positive": "good", "negative": "bad", "unclear": ""}


def run_name(results: Mapping[str, Any]) -> list[str]:
    """Which run this is, part by part: its preset, its arm where that is not V-Zero itself, its seed."""
    arm = results.get("arm") or REFERENCE
    return [results["preset"], *([f"arm {arm}"] if arm != REFERENCE else []), f"seed {results['seed']}"]


def metric_label(name: str) -> str:
    """ "sampled" is written as what it is: accuracy at temperature 1."""
    return {"greedy": "greedy", "sampled": "T = 1"}.get(name, name)


def percent(share: float | None) -> str:
    """0.612 -> "61.2"."""
    return NOTHING if share is None else f"{100 * share:.1f}"


def points(difference: float | None) -> str:
    """A signed difference in percentage points: 0.189 -> "+18.9"; with a second decimal where one would hide
    the side of zero it is on."""
    if difference is None:
        return NOTHING
    size = 100 * abs(difference)
    text = f"{size:.1f}" if f"{size:.1f}" != "0.0" else f"{size:.2f}"
    return "0.0" if text == "0.00" else ("+" if difference > 0 else MINUS) + text


def interval(low: float | None, high: float | None) -> str:
    """ "+16.0 to +21.8", or "no interval" where the data cannot give one."""
    return "no interval" if low is None or high is None else f"{points(low)} to {points(high)}"


def p_value(p: float | None) -> str:
    """Three decimals without the leading zero; "<.001" below that."""
    if p is None:
        return NOTHING
    return "<.001" if p < 0.001 else f"{p:.3f}".replace("0.", ".", 1)


def number(value: float | None, digits: int = 3) -> str:
    """A plain number with thousands separators for integers."""
    if value is None:
        return NOTHING
    return f"{value:,}" if isinstance(value, int) else f"{value:.{digits}f}".replace("-", MINUS)


def duration(seconds: float | None) -> str:
    """ "48 s", "3 min 05 s", "2 h 07 min"."""
    if seconds is None:
        return NOTHING
    whole = round(seconds)
    if whole < 90:
        return f"{seconds:.0f} s"
    if whole < 5400:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def visible(text: str, limit: int = 600) -> str:
    """Hostile text made plain: control, format (bidirectional) and surrogate characters as escapes, line
    breaks kept, length bounded."""
    cut = text[:limit]
    shown = "".join(
        c
        if c == "\n" or unicodedata.category(c)[0] != "C"
        else c.encode("unicode_escape", "surrogatepass").decode()
        for c in cut
    )
    return shown if len(text) <= limit else f"{shown} \u2026 (+{len(text) - limit:,} characters)"


def question_lines(text: str) -> list[str]:
    """A question's stem, then each option on a line of its own."""
    return [line for part in re.split(r"(?=(?<!\w)[A-D]\))", visible(text)) if (line := part.strip())]


def verdict(model: str, base: str, directions: tuple[str, str]) -> str:
    """What may be said of two models from the directions of their greedy and their sampled difference."""
    known = set(directions) - {"unclear"}
    if not known:
        return f"{model} cannot be told from {base}"
    if len(known) == 2:
        return f"{model} is better than {base} in one measure and worse in the other"
    word = "more" if known == {"positive"} else "fewer"
    if "unclear" not in directions:
        return f"{model} answers {word} held-out questions right than {base}"
    where = "with its greedy answers" if directions[0] != "unclear" else "at T = 1"
    other = "at T = 1" if directions[0] != "unclear" else "with greedy answers"
    return f"{model} answers {word} held-out questions right than {base} {where}; {other} the difference is not distinguishable from zero"


def findings(results: Mapping[str, Any]) -> list[str]:
    """What the run says, first the most important: incompleteness, each Solver against the base, what kind of
    gain it is, each step."""
    said = [incomplete(results)] if results["missing"] else []
    trained = list(reversed(list(results["gains"])))
    for model in trained:
        said.append(_compared(results, "gains", model, "base"))
        if model == trained[0]:
            said += nature(results, model) + elicited(results)
    said += [
        _compared(results, "gains_over_previous", model, f"S{int(model[1:]) - 1}")
        for model in results["gains_over_previous"]
    ]
    if not results["gains"]:
        said.append(
            "There is no gain to judge yet: "
            + ("no Solver has" if "base" in results["models"] else "the base has not")
            + " been evaluated."
        )
    return said


def nature(results: Mapping[str, Any], model: str) -> list[str]:
    """Whether a gain looks like sharpening or like learning; nothing where there is no gain to speak of."""
    _, gains = _whole(results, "gains", model)
    if gains is None or "positive" not in (gains["greedy"]["direction"], gains["sampled"]["direction"]):
        return []
    _, _, majority, passed = results["metrics"]
    words = {"positive": "rose", "negative": "fell", "unclear": "cannot be told from the base's"}
    readings = {
        "positive": "the votes themselves got better, which is nearer to learning than to sharpening",
        "unclear": "no sign of more than sharpening, that is, of saying with one voice what the base's votes already agreed on",
        "negative": "what was won in single answers was lost in the votes",
    }
    votes, any_right = gains[majority]["direction"], gains[passed]["direction"]
    lost = (
        f"; on fewer questions is any of {results['samples']} answers right"
        if any_right == "negative"
        else ""
    )
    return [
        f"Sharpening or learning? {majority} {words[votes]}, {passed} {words[any_right]}: {readings[votes]}{lost}."
    ]


def elicited(results: Mapping[str, Any]) -> list[str]:
    """How much of the last Solver's gain the base shows once its answers begin as that Solver's do; nothing
    without a probe or a gain."""
    probe = results.get("elicitation")
    if probe is None or not {"elicited", "beyond"} <= set(probe) or "average" not in probe["elicited"]:
        return []
    model = probe["model"]
    _, gains = _whole(results, "gains", model)
    if gains is None or gains["greedy"]["direction"] != "positive":
        return []
    given, rest = probe["elicited"]["average"]["greedy"], probe["beyond"]["average"]["greedy"]
    readings = {
        "positive": f"{model} knows more than how to begin",
        "unclear": "no sign that training taught more than a choice of beginnings",
        "negative": f"the base does better with {model}'s beginnings than {model} itself",
    }
    return [
        f"Elicited or learned? Begun with {probe['words']} of {model}'s words an answer, the base gains {points(given['gain'])} points; "
        f"{model} is {points(rest['gain'])} from there: {readings[rest['direction']]}."
    ]


def incomplete(results: Mapping[str, Any]) -> str:
    """Which stages are missing and why."""
    missing = ", ".join(f"{name} ({why})" for name, why in results["missing"].items())
    return (
        f"This run is incomplete; missing are {missing}. What follows is what was there, and no final result."
    )


def _whole(results: Mapping[str, Any], key: str, model: str) -> tuple[str, Mapping[str, Any] | None]:
    """Where the gains of `model` are to be read, and those gains: on average, or on the only suite; None
    where there is no whole."""
    gains = results[key][model]
    if "average" in gains:
        return f"average of {len(results['suites'])} suites", gains["average"]
    return next(iter(gains.items())) if len(gains) == 1 else ("", None)


def _compared(results: Mapping[str, Any], key: str, model: str, base: str) -> str:
    where, found = _whole(results, key, model)
    if found is None:
        return f"{model} and {base} were not both measured on every suite, so there is no average to compare."
    directions = (found["greedy"]["direction"], found["sampled"]["direction"])
    head = verdict(model, "the base" if base == "base" else base, directions)
    if base == "base":
        head = f"After {model[1:]} iteration{'s' if model != 'S1' else ''}, {head}"
    measured = [_measured(results, metric, found[metric], model, base) for metric in results["metrics"][:3]]
    first = f"{measured[0][0]} ({measured[0][1]}{NBSP}points, 95{NBSP}% interval {measured[0][2]})"
    rest = [f"{level} ({gain}, {bounds})" for level, gain, bounds in measured[1:]]
    return f"{head}: {', '.join([first, *rest])}; {where}, {found['greedy']['n']:,} questions."


def _measured(
    results: Mapping[str, Any], metric: str, gain: Mapping[str, Any], model: str, base: str
) -> tuple[str, str, str]:
    """One measure: from where to where, the difference, its interval."""
    label = metric_label(metric).replace(" ", NBSP)
    levels = [results["average"].get(one, {}).get(metric) for one in (base, model)]
    if None not in levels:
        before, after = (percent(level["value"]) for level in levels)
        label = f"{label} from {before} to {after}{NBSP}%"
    return label, points(gain["gain"]), interval(gain["low"], gain["high"])


def alarms(results: Mapping[str, Any]) -> list[str]:
    """Each rule of the collapse alarm that rang."""
    return [
        f"Collapse alarm, iteration {one['iteration']}: {one['says']} ({one['rule']}: {one['value']:.2f}, rings at {one['threshold']:g})."
        for one in results["alarms"]
    ]


def not_run(results: Mapping[str, Any]) -> list[str]:
    """What a reader might look for here and that was not done."""
    said = [f"Stage {name}: {why}." for name, why in results["missing"].items()]
    unrun = [one for one in results["claims"] if one["verdict"] == "NOT RUN"]
    if unrun:
        said.append(
            f"{len(unrun)} of {len(results['claims'])} claims on file: see each one's reason beside the claims above."
        )
    if all(one["well_posed"] is None for one in results["ground_truth"].values()):
        said.append("Measures that need the true answer to a written question: these images have none.")
    said.append(
        "Other seeds and other arms: this report is of one training run (vzero-harness table compares runs)."
    )
    if results.get("elicitation") is None:
        said.append(
            "The forced-style probe, which starts the base in the winning reasoning style to tell elicitation from learning."
        )
    if results["split"] == "dev":
        said.append("The test split.")
    return said


def caveats(results: Mapping[str, Any]) -> list[str]:
    """What the numbers cannot say."""
    said = [
        f"One training run with seed {results['seed']}: the intervals speak of other questions of the same kinds, not of other runs."
    ]
    base = results["average"].get("base")
    if base:
        majority = results["metrics"][2]
        greedy, sampled = (
            points(base[majority]["value"] - base[metric]["value"]) for metric in ("greedy", "sampled")
        )
        said.append(
            f"Room before training: the base's {majority} differs by {greedy} points from its greedy and by {sampled} from its "
            f"T{NBSP}={NBSP}1 accuracy, on average. Gains up to that size need no more than answering as its votes do."
        )
    n = results["samples"]
    others = "; benchmarks have other numbers of options" if results.get("lenses") else ""
    guess = f"Guessing among four options already gives pass@{n} = {percent(1 - 0.75**n)}{NBSP}%"
    said.append(f"{guess}{others}, so it tells little near the top.")
    if results["split"] == "dev":
        said.append(
            "These are development questions, on which settings may have been chosen; report results on the test split."
        )
    return said
