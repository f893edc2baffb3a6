"""Protocol compliance as declarations: a rule is a name, a limit and a number of the results to hold against
it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from harness.analysis.results import Results
from harness.check.finding import Finding
from harness.claims.judge import MAX_TRUNCATED, MIN_PARSED
from harness.runs.sealed import Run


@dataclass(frozen=True)
class Rule:
    """`measure` of (results, model, suite) must not exceed `most`; None there means that it was not
    measured."""

    name: str
    says: str
    most: float
    measure: Callable[[Results, str, str], float | None]


def _share(what: str, kind: str) -> Callable[[Results, str, str], float | None]:
    def measure(results: Results, model: str, suite: str) -> float | None:
        measured = results.suites[suite].get(model)
        count = measured.counted(what, kind) if measured else None
        return count.value / count.n if count and count.n else None

    return measure


def _missing_items(results: Results, model: str, suite: str) -> float | None:
    """Share of the suite's items that this model did not answer."""
    expected, measured = results.expected.get(suite), results.suites[suite].get(model)
    return None if not expected else 1 - (measured.accuracy["greedy"].n if measured else 0) / expected


RULES = (
    Rule(
        "greedy-answers-parsed",
        "of the greedy answers could not be read",
        1 - MIN_PARSED,
        _share("unparsed", "greedy"),
    ),
    Rule(
        "sampled-answers-parsed",
        "of the sampled answers could not be read",
        1 - MIN_PARSED,
        _share("unparsed", "sampled"),
    ),
    Rule(
        "greedy-answers-whole",
        "of the greedy answers were truncated",
        MAX_TRUNCATED,
        _share("truncated", "greedy"),
    ),
    Rule(
        "sampled-answers-whole",
        "of the sampled answers were truncated",
        MAX_TRUNCATED,
        _share("truncated", "sampled"),
    ),
    Rule("suites-whole", "of the items were not scored", 0.0, _missing_items),
)


def findings(run: Run, results: Results) -> list[Finding]:
    """Every rule on every model and suite, then completeness and provenance of the stages."""
    found = [_judged(rule, results) for rule in RULES]
    missing = ", ".join(f"{name} ({why})" for name, why in run.missing.items())
    found.append(
        Finding(
            "run-complete",
            "",
            not missing,
            f"missing: {missing}" if missing else f"{len(run.stages)} stages sealed",
        )
    )
    return [*found, _provenance(run)]


def _judged(rule: Rule, results: Results) -> Finding:
    pairs = [(model, suite) for suite in results.suites for model in results.models]
    values = {f"{model} on {suite}": rule.measure(results, model, suite) for model, suite in pairs}
    known = {name: value for name, value in values.items() if value is not None}
    if not known:
        return Finding(rule.name, "", None, "not measured")
    broken = [
        f"{name}: {100 * value:.1f} % {rule.says}"
        for name, value in known.items()
        if value > rule.most + 1e-9
    ]
    if broken:
        return Finding(rule.name, "", False, f"{'; '.join(broken)} (at most {100 * rule.most:.0f} %)")
    return Finding(rule.name, "", True, f"at most {100 * max(known.values()):.1f} % {rule.says}")


def _provenance(run: Run) -> Finding:
    """Each stage says by which versions and commit it was made, and all by the same."""
    states = {name: stage.manifest.get("provenance") or {} for name, stage in run.stages.items()}
    silent = [name for name, state in states.items() if not state.get("packages") or not state.get("python")]
    if silent:
        return Finding("provenance", "", False, f"no record of the software behind {', '.join(silent)}")
    packages = {
        tuple(sorted((key, value) for key, value in state["packages"].items())) for state in states.values()
    }
    if len(packages) > 1:
        return Finding("provenance", "", False, "the stages were made by different versions of the libraries")
    return Finding("provenance", "", True, "every stage names the software that made it")
