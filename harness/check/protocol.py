"""Protocol compliance: parse rates, truncation and whole suites of the results; completeness and provenance
of the stages."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from harness.analysis.measures import Measured
from harness.analysis.results import Results
from harness.check.finding import Finding, finding
from harness.claims.judge import MAX_TRUNCATED, MIN_PARSED
from harness.runs.sealed import Run


@dataclass(frozen=True)
class Rule:
    """`measure` of (one model on one suite, items the suite has) must not exceed `most`; None there means
    that it was not measured."""

    name: str
    message: str
    most: float
    measure: Callable[[Measured | None, int], float | None]


def _share(fault: str, kind: str) -> Callable[[Measured | None, int], float | None]:
    def measure(measured: Measured | None, expected: int) -> float | None:
        count = measured.counted(fault, kind) if measured else None
        return count.value / count.n if count and count.n else None

    return measure


def _missing_items(measured: Measured | None, expected: int) -> float | None:
    """Share of the suite's items that the model did not answer."""
    return 1 - (measured.accuracy["greedy"].n if measured else 0) / expected if expected else None


UNREAD, TRUNCATED = 1 - MIN_PARSED, MAX_TRUNCATED
RULES = (
    Rule(
        "greedy-answers-parsed",
        "of the greedy answers could not be read",
        UNREAD,
        _share("unparsed", "greedy"),
    ),
    Rule(
        "sampled-answers-parsed",
        "of the sampled answers could not be read",
        UNREAD,
        _share("unparsed", "sampled"),
    ),
    Rule(
        "greedy-answers-whole",
        "of the greedy answers were truncated",
        TRUNCATED,
        _share("truncated", "greedy"),
    ),
    Rule(
        "sampled-answers-whole",
        "of the sampled answers were truncated",
        TRUNCATED,
        _share("truncated", "sampled"),
    ),
    Rule("suites-whole", "of the items were not scored", 0.0, _missing_items),
)


def findings(run: Run, results: Results) -> list[Finding]:
    """Every rule on every model and suite, then completeness and provenance of the stages."""
    missing = ", ".join(f"{name} ({why})" for name, why in run.missing.items())
    complete = f"missing: {missing}" if missing else f"{len(run.stages)} stages sealed"
    judged = [judge(rule, results) for rule in RULES]
    return [*judged, finding("run-complete", "", not missing, complete), _provenance(run)]


def judge(rule: Rule, results: Results) -> Finding:
    """One rule on every model and suite."""
    known = {}
    for suite, models in results.suites.items():
        for model in results.models:
            value = rule.measure(models.get(model), results.expected.get(suite, 0))
            if value is not None:
                known[f"{model} on {suite}"] = value
    if not known:
        return finding(rule.name, "", None, "not measured")
    broken = [
        f"{name}: {100 * value:.1f} % {rule.message}"
        for name, value in known.items()
        if value > rule.most + 1e-9
    ]
    if broken:
        return finding(rule.name, "", False, f"{'; '.join(broken)} (at most {100 * rule.most:.0f} %)")
    return finding(rule.name, "", True, f"at most {100 * max(known.values()):.1f} % {rule.message}")


def _provenance(run: Run) -> Finding:
    """Each stage says by which versions and commit it was made, and all by the same."""
    states = {name: stage.manifest.get("provenance") or {} for name, stage in run.stages.items()}
    silent = [name for name, state in states.items() if not state.get("packages") or not state.get("python")]
    if silent:
        return finding("provenance", "", False, f"no record of the software behind {', '.join(silent)}")
    if len({tuple(sorted(state["packages"].items())) for state in states.values()}) > 1:
        return finding("provenance", "", False, "the stages were made by different versions of the libraries")
    return finding("provenance", "", True, "every stage names the software that made it")
