"""Numbers and findings in words: how a share, a difference and an interval are written, and what may be said about them.

A sentence claims a gain or a loss only where `harness.stats.Gain.direction` does; everything else is "not distinguishable from zero".
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Any

MINUS, DASH, NBSP = "\u2212", "\u2013", "\u00a0"
NOTHING = DASH  # a cell without a number
TONES = {"positive": "good", "negative": "bad", "unclear": ""}


def metric_label(name: str) -> str:
    """ "sampled" is written as what it is: accuracy at temperature 1."""
    return {"greedy": "greedy", "sampled": "T = 1"}.get(name, name)


def percent(share: float | None) -> str:
    """0.612 -> "61.2"."""
    return NOTHING if share is None else f"{100 * share:.1f}"


def points(difference: float | None) -> str:
    """A signed difference in percentage points: 0.189 -> "+18.9"."""
    if difference is None:
        return NOTHING
    text = f"{100 * abs(difference):.1f}"
    return text if text == "0.0" else ("+" if difference > 0 else MINUS) + text


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
    """Hostile text made plain: control, format (bidirectional) and surrogate characters as escapes, line breaks kept, length bounded."""
    cut = text[:limit]
    shown = "".join(
        c if c == "\n" or unicodedata.category(c)[0] != "C" else c.encode("unicode_escape", "surrogatepass").decode() for c in cut
    )
    return shown if len(text) <= limit else f"{shown} \u2026 (+{len(text) - limit:,} characters)"


def question_lines(text: str) -> list[str]:
    """A question's stem, then each option on a line of its own."""
    return [line for part in re.split(r"(?=(?<!\w)[A-D]\))", visible(text)) if (line := part.strip())]


def _measured(gain: Mapping[str, Any]) -> str:
    return f"{points(gain['gain'])}{NBSP}points (95{NBSP}% interval {interval(gain['low'], gain['high'])})"


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
    """What the run says, first the most important: incompleteness, then each Solver against the base, then the step from S1 to S2."""
    said = [incomplete(results)] if results["missing"] else []
    for model in reversed(list(results["gains"])):
        said.append(_compared(results, "gains", model, "base"))
    said += [_compared(results, "gains_over_previous", model, f"S{int(model[1:]) - 1}") for model in results["gains_over_previous"]]
    if not results["gains"]:
        said.append(
            "There is no gain to judge yet: "
            + ("no Solver has" if "base" in results["models"] else "the base has not")
            + " been evaluated."
        )
    return [sentence for sentence in said if sentence]


def incomplete(results: Mapping[str, Any]) -> str:
    """Which stages are missing and why."""
    missing = ", ".join(f"{name} ({why})" for name, why in results["missing"].items())
    return f"This run is incomplete; missing are {missing}. What follows is what was there, and no final result."


def _compared(results: Mapping[str, Any], key: str, model: str, base: str) -> str:
    gains = results[key][model]
    if "average" in gains:
        where, found = f"average of {len(results['suites'])} suites", gains["average"]
    elif len(gains) == 1:
        where, found = next(iter(gains.items()))
    else:
        return f"{model} and {base} were not both measured on every suite, so there is no average to compare."
    greedy, sampled = found["greedy"], found["sampled"]
    return (
        f"{verdict(model, 'the base' if base == 'base' else base, (greedy['direction'], sampled['direction']))}: greedy "
        f"{_measured(greedy)}, T{NBSP}={NBSP}1 {_measured(sampled)}; {where}, {greedy['n']:,} questions."
    )


def caveats(results: Mapping[str, Any]) -> list[str]:
    """What the numbers cannot say."""
    said = [f"One training run with seed {results['seed']}: the intervals speak of other questions of the same kinds, not of other runs."]
    known = [room for room in results["room"].values() if room is not None]
    if known and len(known) == len(results["room"]):
        said.append(
            f"Room before training: the base's {results['metrics'][2]} differs by {points(sum(known) / len(known))} points from "
            "its greedy accuracy, averaged over the suites. A gain up to that size needs no more than answering as its votes do."
        )
    n = results["samples"]
    said.append(f"Guessing among four options already gives pass@{n} = {percent(1 - 0.75**n)}{NBSP}%, so it tells little near the top.")
    if results["split"] == "dev":
        said.append("These are development questions, on which settings may have been chosen; report results on the test split.")
    return said
