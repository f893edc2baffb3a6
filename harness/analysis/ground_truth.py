"""What an iteration's questions and pseudo-labels were worth.

Some measures need no truth (how many questions are valid, kept, how sure the votes are). Others compare with
the truth the pocket world keeps in `ground_truth.jsonl`, which no training stage opens; for other images
those are None: not measured, never guessed.

Every rate is ``{"value", "n", "low", "high"}``: a share, of how many, its 95 % Wilson interval; `value` is
None where n is 0.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from vzero.rewards import dual_track
from vzero.runtime import artefacts

Row = Mapping[str, Any]
Rate = dict[str, Any]
_OPTION = re.compile(r"\b[A-D]\)\s*")


class TruthLike(Protocol):
    """What is known about one written question; `vzero.pocket.ground_truth.Truth` is one."""

    family: str | None
    answer: str | None
    well_posed: bool
    hard: bool | None


def rate(count: int, n: int) -> Rate:
    """`count` of `n` with Wilson's interval."""
    from harness.stats import wilson

    low, high = wilson(count, n)
    return {"value": count / n if n else None, "n": n, "low": low, "high": high}


def share(flags: Iterable[bool]) -> Rate:
    """The share of true flags, as a rate."""
    found = [bool(flag) for flag in flags]
    return rate(sum(found), len(found))


def pocket_truths(images_stage: Path, questions: Sequence[Row]) -> dict[str, TruthLike] | None:
    """Truth by question_id for every valid question, or None where the images have no shadow."""
    path = images_stage / "ground_truth.jsonl"
    if not path.exists():
        return None
    from vzero.pocket.ground_truth import truth
    from vzero.pocket.world import scene_from_json

    scenes = {row["image_id"]: row["scene"] for row in artefacts.read_jsonl(path)}
    return {
        row["question_id"]: truth(row["text"], scene_from_json(scenes[row["image_id"]]))
        for row in questions
        if row["valid"]
    }


def measure(
    questions: Sequence[Row], labels: Sequence[Row] | None, truths: Mapping[str, TruthLike] | None
) -> dict[str, Any]:
    """All measures of one iteration.

    Args:
        questions: rows of `questions.jsonl`, valid or not.
        labels: rows of `labels.jsonl`, or None where the votes are not in yet.
        truths: by question_id, for every valid question; None where there is no shadow.
    """
    valid = [row for row in questions if row["valid"]]
    distinct = len({normalise(row["text"]) for row in valid})
    found: dict[str, Any] = {
        "written": len(questions),
        "valid": share(row["valid"] for row in questions),
        "truncated": share(row["finish_reason"] == "length" for row in questions),
        "distinct": {
            "value": distinct / len(valid) if valid else None,
            "n": len(valid),
            "low": None,
            "high": None,
        },
        "duplicates": rate(len(valid) - distinct, len(valid)),
        "letters_intuitive": _letters(row["intuitive"] for row in valid),
    }
    found["letter_entropy_intuitive"] = entropy(found["letters_intuitive"].values())
    found |= _of_labels(labels) if labels is not None else dict.fromkeys(_LABEL_MEASURES)
    if truths is None:
        return found | dict.fromkeys((*_SHADOW_QUESTION_MEASURES, *_SHADOW_LABEL_MEASURES))
    found |= _questions_in_truth(valid, truths)
    return found | (
        _labels_in_truth(labels, truths) if labels is not None else dict.fromkeys(_SHADOW_LABEL_MEASURES)
    )


_LABEL_MEASURES = (
    "kept",
    "kept_count",
    "agreement",
    "mean_confidence",
    "mean_dual_track",
    "letters_majority",
    "letter_entropy_majority",
    "unparsed_votes",
    "no_majority",
)
_SHADOW_QUESTION_MEASURES = (
    "well_posed",
    "hard",
    "families",
    "entropy_nats",
    "effective_families",
    "unrecognised",
)
_SHADOW_LABEL_MEASURES = (
    "label_accuracy",
    "label_accuracy_kept",
    "label_accuracy_kept_strict",
    "intuitive_accuracy",
    "well_posed_kept",
    "hard_kept",
    "calibration",
    "calibration_error",
)


def normalise(text: str) -> str:
    """A question without its options' marks, case and spacing, so that two that ask the same of the same
    options are one."""
    return " ".join(_OPTION.sub(" ", text).casefold().split())


def _of_labels(labels: Sequence[Row]) -> dict[str, Any]:
    votes = [vote for row in labels for vote in row["votes"]]
    kept = [row for row in labels if row["kept"]]
    confidences = [row["confidence"] for row in labels]
    letters = _letters(row["answer"] for row in labels)
    return {
        "kept": share(row["kept"] for row in labels),
        "kept_count": len(kept),
        "agreement": share(row["answer"] is not None and row["answer"] == row["intuitive"] for row in labels),
        "mean_confidence": _mean(confidences),
        "mean_dual_track": _mean([dual_track(row["votes"], row["intuitive"]) for row in labels]),
        "letters_majority": letters,
        "letter_entropy_majority": entropy(letters.values()),
        "unparsed_votes": share(vote is None for vote in votes),
        "no_majority": sum(1 for row in labels if row["answer"] is None),
    }


def _mean(values: Sequence[float]) -> Rate:
    return {
        "value": math.fsum(values) / len(values) if values else None,
        "n": len(values),
        "low": None,
        "high": None,
    }


def _letters(answers: Iterable[str | None]) -> dict[str, int]:
    """How often each letter is the answer, A to D first; answers that are missing do not count."""
    counts = Counter(answer for answer in answers if answer is not None)
    return {letter: counts[letter] for letter in sorted({*"ABCD", *counts})}


def _questions_in_truth(valid: Sequence[Row], truths: Mapping[str, TruthLike]) -> dict[str, Any]:
    known = [truths[row["question_id"]] for row in valid]
    families = Counter(one.family for one in known if one.family is not None)
    nats = entropy(families.values())
    return {
        "well_posed": share(one.well_posed for one in known),
        "hard": share(one.hard for one in known if one.hard is not None),
        "families": dict(sorted(families.items(), key=lambda pair: (-pair[1], pair[0]))),
        "entropy_nats": nats,
        "effective_families": None if nats is None else math.exp(nats),
        "unrecognised": sum(1 for one in known if one.family is None),
    }


def _labels_in_truth(labels: Sequence[Row], truths: Mapping[str, TruthLike]) -> dict[str, Any]:
    known = [(row, truths[row["question_id"]]) for row in labels]
    posed = [(row, one) for row, one in known if one.well_posed]
    kept = [(row, one) for row, one in known if row["kept"]]
    return {
        "label_accuracy": share(row["answer"] == one.answer for row, one in posed),
        "label_accuracy_kept": share(row["answer"] == one.answer for row, one in posed if row["kept"]),
        "label_accuracy_kept_strict": share(
            one.well_posed and row["answer"] == one.answer for row, one in kept
        ),
        "intuitive_accuracy": share(row["intuitive"] == one.answer for row, one in posed),
        "well_posed_kept": share(one.well_posed for _, one in kept),
        "hard_kept": share(one.hard for _, one in kept if one.hard is not None),
        "calibration": (bins := calibration(posed)),
        "calibration_error": calibration_error(bins),
    }


def calibration_error(bins: Sequence[Row]) -> float | None:
    """Expected calibration error: mean over questions of |accuracy of their bin - mean confidence of their
    bin| (Naeini et al. 2015)."""
    total = sum(row["n"] for row in bins)
    return (
        math.fsum(row["n"] * abs(row["value"] - row["mean_confidence"]) for row in bins) / total
        if total
        else None
    )


def entropy(counts: Iterable[int]) -> float | None:
    """Shannon entropy in nats of the shares, -sum p ln p; None without any count. Its exp is the effective
    number of kinds (Hill 1973)."""
    found = [count for count in counts if count]
    total = sum(found)
    return math.log(total) - math.fsum(count * math.log(count) for count in found) / total if total else None


def calibration(posed: Sequence[tuple[Row, TruthLike]]) -> list[dict[str, Any]]:
    """Is c the probability that the pseudo-label is right? One row for each tenth of c that occurs among
    well-posed questions.

    Rows have `c` (the tenth, c rounded half up), `n`, `kept`, `mean_confidence`, and the label accuracy as
    `value`, `low`, `high`.
    """
    bins: dict[int, list[tuple[Row, TruthLike]]] = {}
    for row, one in posed:
        bins.setdefault(math.floor(row["confidence"] * 10 + 0.5 + 1e-9), []).append((row, one))
    return [
        {
            "c": tenth / 10,
            "kept": sum(1 for row, _ in rows if row["kept"]),
            "mean_confidence": math.fsum(row["confidence"] for row, _ in rows) / len(rows),
            **share(row["answer"] == one.answer for row, one in rows),
        }
        for tenth, rows in sorted(bins.items())
    ]
