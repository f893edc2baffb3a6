"""What an iteration's questions and pseudo-labels were worth.

Some measures need no truth (how many questions are valid, kept, how sure the votes are). Others compare with
the truth the pocket world keeps in `ground_truth.jsonl`, which no training stage opens; for other images
those are None: not measured, never guessed.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

from harness.analysis.measures import CalibrationBin, GroundTruth, Rate, TrainedOn
from harness.analysis.questions import labelled_of, questions_of
from harness.runs.sealed import Row, Run, SealedStage
from harness.stats import wilson
from vzero.rewards import dual_track
from vzero.runtime.schemas import Known

if TYPE_CHECKING:  # the pocket world is loaded only where its images were used
    from vzero.pocket.ground_truth import Truth

_OPTION = re.compile(r"\b[A-D]\)\s*")


Truths = Mapping[str, "Truth"]  # by question_id


def rate(count: int, n: int) -> Rate:
    """`count` of `n` with Wilson's interval."""
    low, high = wilson(count, n)
    return Rate(value=count / n if n else None, n=n, low=low, high=high)


def share(flags: Iterable[bool]) -> Rate:
    """The share of true flags."""
    found = [bool(flag) for flag in flags]
    return rate(sum(found), len(found))


def pocket_truths(run: Run, questions: Sequence[Row]) -> Truths | None:
    """Truth of each of `questions`, or None where the run's images have no ground truth."""
    images = run.stages.get("00-images")
    if images is None or not images.has("ground_truth.jsonl"):
        return None
    known = _truth_in(images)
    return Known({row["question_id"]: known(row["text"], row["image_id"]) for row in questions})


@lru_cache(maxsize=1)  # results and report ask three times about the same questions
def _truth_in(images: SealedStage) -> Callable[[str, str], Truth]:
    """The truth of a question by its text and its image."""
    from vzero.pocket.ground_truth import truth
    from vzero.pocket.world import scene_from_json

    scenes = Known({row["image_id"]: row["scene"] for row in images.rows("ground_truth.jsonl")})
    return cache(lambda text, image: truth(text, scene_from_json(scenes[image])))


def by_iteration(run: Run) -> dict[int, GroundTruth]:
    """The measures of each iteration that has questions."""
    found = {}
    for iteration in range(1, run.preset.iterations + 1):
        if (rows := questions_of(run, iteration)) is not None:
            votes = labelled_of(run, iteration)
            labels = votes.rows("labels.jsonl") if votes else None
            truths = pocket_truths(run, [row for row in rows if row["valid"]])
            found[iteration] = measure(rows, labels, truths)
    return found


def measure(questions: Sequence[Row], labels: Sequence[Row] | None, truths: Truths | None) -> GroundTruth:
    """All measures of one iteration.

    Args:
        questions: rows of `questions.jsonl`, valid or not.
        labels: rows of `labels.jsonl`, or None where the votes are not in yet.
        truths: of every valid question; None where there is no ground truth.
    """
    valid = [row for row in questions if row["valid"]]
    distinct = len({normalise(row["text"]) for row in valid})
    letters = _letters(row["intuitive"] for row in valid)
    return GroundTruth(
        written=len(questions),
        valid=share(row["valid"] for row in questions),
        truncated=share(row["finish_reason"] == "length" for row in questions),
        distinct=Rate(value=distinct / len(valid) if valid else None, n=len(valid)),
        duplicates=rate(len(valid) - distinct, len(valid)),
        letters_intuitive=letters,
        letter_entropy_intuitive=entropy(letters.values()),
        **(_of_labels(labels) if labels is not None else {}),
        **(_questions_in_truth(valid, truths) if truths is not None else {}),
        **(_labels_in_truth(labels, truths) if labels is not None and truths is not None else {}),
    )


def normalise(text: str) -> str:
    """A question without its options' marks, case and spacing, so that two that ask the same of the same
    options are one."""
    return " ".join(_OPTION.sub(" ", text).casefold().split())


def _of_labels(labels: Sequence[Row]) -> dict[str, Any]:
    kept = share(row["kept"] for row in labels)
    letters = _letters(row["answer"] for row in labels)
    return {
        "kept": kept,
        "kept_count": sum(row["kept"] for row in labels),
        "agreement": share(row["answer"] is not None and row["answer"] == row["intuitive"] for row in labels),
        "mean_confidence": _mean([row["confidence"] for row in labels]),
        "mean_dual_track": _mean([dual_track(row["votes"], row["intuitive"]) for row in labels]),
        "letters_majority": letters,
        "letter_entropy_majority": entropy(letters.values()),
        "unparsed_votes": share(vote is None for row in labels for vote in row["votes"]),
        "no_majority": sum(row["answer"] is None for row in labels),
    }


def _mean(values: Sequence[float]) -> Rate:
    return Rate(value=math.fsum(values) / len(values) if values else None, n=len(values))


def _letters(answers: Iterable[str | None]) -> dict[str, int]:
    """How often each letter is the answer, A to D first; answers that are missing do not count."""
    counts = Counter(answer for answer in answers if answer is not None)
    return {letter: counts[letter] for letter in sorted({*"ABCD", *counts})}


def _questions_in_truth(valid: Sequence[Row], truths: Truths) -> dict[str, Any]:
    known = [truths[row["question_id"]] for row in valid]
    families = Counter(one.family for one in known if one.family is not None)
    nats = entropy(families.values())
    return {
        "well_posed": share(one.well_posed for one in known),
        "hard": share(one.hard for one in known if one.hard is not None),
        "families": dict(sorted(families.items(), key=lambda pair: (-pair[1], pair[0]))),
        "entropy_nats": nats,
        "effective_families": None if nats is None else math.exp(nats),
        "unrecognised": sum(one.family is None for one in known),
    }


def _labels_in_truth(labels: Sequence[Row], truths: Truths) -> dict[str, Any]:
    known = [(row, truths[row["question_id"]]) for row in labels]
    posed = [(row, one) for row, one in known if one.well_posed]
    kept = [(row, one) for row, one in known if row["kept"]]
    bins = calibration(posed)
    return {
        "label_accuracy": share(row["answer"] == one.answer for row, one in posed),
        "label_accuracy_kept": share(row["answer"] == one.answer for row, one in posed if row["kept"]),
        "label_accuracy_kept_strict": share(
            one.well_posed and row["answer"] == one.answer for row, one in kept
        ),
        "intuitive_accuracy": share(row["intuitive"] == one.answer for row, one in posed),
        "well_posed_kept": share(one.well_posed for _, one in kept),
        "hard_kept": share(one.hard for _, one in kept if one.hard is not None),
        "calibration": bins,
        "calibration_error": calibration_error(bins),
    }


def calibration_error(bins: Sequence[CalibrationBin]) -> float | None:
    """Expected calibration error: mean over questions of |accuracy of their bin - mean confidence of their
    bin| (Naeini et al. 2015)."""
    total = sum(one.n for one in bins)
    if not total:
        return None
    return math.fsum(one.n * abs(one.value - one.mean_confidence) for one in bins) / total


def entropy(counts: Iterable[int]) -> float | None:
    """Shannon entropy in nats of the shares, -sum p ln p; None without any count. Its exp is the effective
    number of kinds (Hill 1973)."""
    found = [count for count in counts if count]
    total = sum(found)
    return math.log(total) - math.fsum(count * math.log(count) for count in found) / total if total else None


def calibration(posed: Sequence[tuple[Row, Truth]]) -> list[CalibrationBin]:
    """Is c the probability that the pseudo-label is right? One bin for each tenth of c (rounded half up) that
    occurs among well-posed questions."""
    bins: dict[int, list[tuple[Row, Truth]]] = {}
    for row, one in posed:
        bins.setdefault(math.floor(row["confidence"] * 10 + 0.5 + 1e-9), []).append((row, one))
    found = []
    for tenth, rows in sorted(bins.items()):
        right = sum(row["answer"] == one.answer for row, one in rows)
        low, high = wilson(right, len(rows))
        found.append(
            CalibrationBin(
                c=tenth / 10,
                n=len(rows),
                kept=sum(row["kept"] for row, _ in rows),
                mean_confidence=math.fsum(row["confidence"] for row, _ in rows) / len(rows),
                value=right / len(rows),
                low=low,
                high=high,
            )
        )
    return found


def trained_on(run: Run) -> dict[int, TrainedOn]:
    """What the Solver was trained on in each iteration."""
    found = {}
    for stage in run.of_kind("train-solver"):
        rows = [row for row in run.stages[stage.stage.inputs["labels"]].rows("labels.jsonl") if row["kept"]]
        truths = pocket_truths(run, rows)
        well_posed = right = None
        if truths is not None:
            known = [(row, truths[row["question_id"]]) for row in rows]
            well_posed = share(one.well_posed for _, one in known)
            labelled = [(row, one) for row, one in known if row["answer"] is not None]
            right = share(one.well_posed and row["answer"] == one.answer for row, one in labelled)
        found[stage.stage.iteration] = TrainedOn(
            questions=len(rows), well_posed=well_posed, label_right=right
        )
    return found
