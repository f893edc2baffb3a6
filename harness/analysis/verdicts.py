"""Every claim on file against what these runs measured. A claim whose model, suite or arms are not here is
NOT RUN, with the reason."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from harness.analysis import compute_notes
from harness.analysis.accuracies import AVERAGE, BASE
from harness.analysis.checkpoints import Checkpoint
from harness.analysis.published_rows import canonical
from harness.analysis.results import CHECKPOINT
from harness.analysis.scores import fault_shares, score
from harness.claims import published
from harness.claims.judge import judge_all
from harness.claims.published import Claim, OrderClaim
from harness.claims.verdict import Claimed, ClaimVerdict, Judgement, Measurement
from harness.stats import Gain
from vzero.arms import REFERENCE, matched_names

POCKET = "pocket"
TOY = "the pocket world"
OTHER_MODEL = "the claim is about"  # how the reason begins where no run's model is the claim's
UNKNOWN_AVERAGE = (
    "it is about the average of all sets of the paper's table, and which those are is not known here"
)
# The claims' names of a method -> the arms that are that method, and the checkpoint where the claim names
# one.
METHODS: dict[str, tuple[tuple[str, ...], str | None]] = {
    "vzero": ((REFERENCE,), None),
    "vzero-iteration-1": ((REFERENCE,), "S1"),
    "vzero-iteration-2": ((REFERENCE,), "S2"),
    "uncertainty": (("uncertainty", "single-uncertainty"), None),
    "supervised-grpo": (("supervised-grpo", "supervised"), None),
    "mm-upt": (("mm-upt", "majority-voting"), None),
}

Difference = tuple[str | None, Measurement | None]  # (why it is not run, the measurement)


def verdicts(found: Sequence[Checkpoint], suites: Sequence[str], metric: str) -> list[ClaimVerdict]:
    """One entry per claim, in the order of the file; none where no run is evidence (`Results.evidence`)."""
    evidence = [one for one in found if all(run.results.evidence for run in one.runs)]
    if found and not evidence:
        return []
    claims = published.claims()
    differences = [_measure(claim, evidence, suites, metric) for claim in claims]
    judged = judge_all([(claim, one, why) for claim, (why, one) in zip(claims, differences, strict=True)])
    return [_entry(*one) for one in zip(claims, differences, judged, strict=True)]


def _entry(claim: Claim, difference: Difference, judged: Judgement) -> ClaimVerdict:
    source = next(one for one in published.load().sources if one.id == claim.source)
    claimed, measured = None, difference[1]
    if not isinstance(claim, OrderClaim):
        claimed = Claimed(value=claim.value / 100, tolerance=claim.tolerance / 100)
    return ClaimVerdict(
        **dict(judged),
        **claim.model_dump(include={"id", "kind", "statement", "table", "certainty"}),
        source=source.title,
        claimed=claimed,
        measured=measured.stored if measured else None,
    )


def _measure(claim: Claim, found: Sequence[Checkpoint], suites: Sequence[str], metric: str) -> Difference:
    here = sorted({one.model for one in found})
    fitting = [one for one in found if claim.model is None or canonical(one.model) == claim.model]
    if not fitting:
        return f"{OTHER_MODEL} {claim.model}, these runs about {', '.join(here)}", None
    places = [suite for suite in suites if canonical(suite) == claim.suite]
    if claim.suite == AVERAGE and not places:
        places = list(suites)
    if not places:
        return f"{claim.suite} was not among the suites ({', '.join(suites)})", None
    if claim.suite == AVERAGE and claim.model is not None:
        return UNKNOWN_AVERAGE, None
    better, worse = (claim.better, claim.worse) if isinstance(claim, OrderClaim) else (claim.method, BASE)
    for world in reversed(dict.fromkeys(map(_world, fitting))):
        alike = [one for one in fitting if _world(one) == world]
        own, other = _find(alike, better), _find(alike, worse)
        if own is not None and other is not None:
            return _difference(own, other, places, metric)
    lost = [name for name in (better, worse) if _find(fitting, name) is None]
    if lost:
        return f"no run of {' or '.join(lost)} is among these", None
    return f"{better} and {worse} were run by different presets", None


def _world(checkpoint: Checkpoint) -> tuple[str, ...]:
    """What two arms must share to be compared: preset, split and, where they were trained here, the model
    they began with."""
    preset, _, model, split = checkpoint.runs[0].key
    return preset, split, "" if checkpoint.checkpoint == CHECKPOINT else model


def _find(found: Sequence[Checkpoint], method: str) -> Checkpoint | None:
    """The last checkpoint of the method's arm, or the one it names; of the arm's matched form where that was
    run: it has V-Zero's total compute, or as many Solver steps."""
    names, checkpoint = METHODS.get(method, ((method,), None))
    forms = [(form,) for name in names for form in matched_names(name)]
    for wanted in (*forms, names):
        named = [one for one in found if one.arm in wanted and checkpoint in (None, one.checkpoint)]
        if named:
            return named[-1]
    return None


def _difference(better: Checkpoint, worse: Checkpoint, places: Sequence[str], metric: str) -> Difference:
    """`better` minus `worse`. A base has no gain over itself: where it is `better`, the sign is turned."""
    swapped = better.checkpoint == BASE
    own, other = (worse, better) if swapped else (better, worse)
    found = score(own, None if other.checkpoint == BASE else other, places, metric)
    if found is None or found.gain is None:
        return f"no items of {own.name} and {other.name} can be paired: other questions", None
    sign = -1 if swapped else 1
    gain, low, high = found.gain, *_outer(found.gain)
    if swapped and low is not None and high is not None:
        low, high = -high, -low
    kind = "greedy" if metric == "greedy" else "sampled"
    shares = [fault_shares(one, places) for one in (own, other)]
    unparsed, truncated = (
        max(one[f"{fault}_{kind}"] or 0.0 for one in shares) for fault in ("unparsed", "truncated")
    )
    unequal = compute_notes.between(better, worse)
    incomplete = [run.name for one in (own, other) for run in one.runs if run.results.missing]
    return None, Measurement(
        gain=sign * gain.gain,
        low=low,
        high=high,
        basis=f"{better.name} over {worse.name}",
        n=found.n,
        expected=found.expected,
        by_seed=tuple(sign * one for one in gain.by_seed),
        parse_rate=1 - unparsed,
        truncation_rate=truncated,
        partial=f"{', '.join(dict.fromkeys(incomplete))} not finished" if incomplete else None,
        toy=TOY if toy_world(better.model, places) else None,
        unequal=unequal,
        freedom=gain.freedom,
        of_several=metric if metric.startswith(("maj@", "pass@")) else None,
    )


def toy_world(model: str, suites: Iterable[str]) -> bool:
    """Whether this was measured in the pocket world, which settles nothing about large models."""
    return model == POCKET or all(suite.startswith("pocket_") for suite in suites)


def _outer(gain: Gain) -> tuple[float | None, float | None]:
    """The outer bounds of both intervals, the gain itself always inside."""
    bounds = [one for one in (gain.low, gain.t_low, gain.high, gain.t_high) if one is not None]
    return (min(*bounds, gain.gain), max(*bounds, gain.gain)) if len(bounds) == 4 else (None, None)
