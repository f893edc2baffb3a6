"""Which differences may be called gains or losses: p-values are corrected (Benjamini-Hochberg) over all that
a report or a table shows together, and a run that is no evidence shows none."""

from __future__ import annotations

from harness.analysis.measures import SuiteGains
from harness.analysis.results import Results
from harness.stats import Gain, bh_corrected, direction


def corrected(results: Results) -> Results:
    """Every gain of a run's report over the base, over the Solver before and of the probe, with
    `p_corrected` and the direction that follows. What was corrected before is corrected anew."""
    probe = results.elicitation
    parts: dict[tuple[str, str], SuiteGains] = {
        **{("gains", model): found for model, found in results.gains.items()},
        **{("gains_over_previous", model): found for model, found in results.gains_over_previous.items()},
        **({("probe", "elicited"): probe.elicited, ("probe", "beyond"): probe.beyond} if probe else {}),
    }
    flat = {
        (part, place, metric): gain.model_copy(update={"direction": _alone(gain)})
        for part, places in parts.items()
        for place, metrics in places.items()
        for metric, gain in metrics.items()
    }
    rebuilt: dict[str, dict[str, SuiteGains]] = {"gains": {}, "gains_over_previous": {}, "probe": {}}
    for ((kind, name), place, metric), gain in bh_corrected(flat).items():
        shown = gain if results.evidence else without_direction(gain)
        rebuilt[kind].setdefault(name, {}).setdefault(place, {})[metric] = shown
    update = {kind: rebuilt[kind] for kind in ("gains", "gains_over_previous")}
    return results.model_copy(
        update={**update, "elicitation": probe and probe.model_copy(update=rebuilt["probe"])}
    )


def without_direction(gain: Gain) -> Gain:
    """The gain of a run that is no evidence: a number, and no claim."""
    return gain.model_copy(update={"direction": "unclear"})


def _alone(gain: Gain) -> str:
    return direction((gain.low, gain.high, gain.t_low, gain.t_high), gain.p)
