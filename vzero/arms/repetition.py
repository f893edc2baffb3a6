"""How much of a batch asks the same thing: R-Zero's repetition penalty, which VisPlay took over.

Questions are clustered by average linkage on the distance 1 - BLEU, cut at 0.5; a question's penalty is its
cluster's share of the batch. Sources: arXiv 2508.05004 and arXiv 2511.15661; `cluster_share_per_problem` in
Chengsong-Huang/R-Zero at 5699329, examples/reward_function/caller_penalty.py, and in bruno686/VisPlay at
3aa895b, train_examples/reward_function/cot_val.py. BLEU is Papineni et al. (2002) up to 4-grams with the
first smoothing of Chen and Cherry (2014), which both take from NLTK.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

ORDER = 4
EPSILON = 0.1  # numerator of an n-gram precision without a match
CUT = 0.5

Grams = tuple[Counter[tuple[str, ...]], ...]


def cluster_shares(questions: Sequence[str]) -> list[float]:
    """For each of `questions` the share of the batch in its cluster, in (0, 1]."""
    if len(questions) < 2:
        return [1.0] * len(questions)
    labels = _clusters(questions)
    sizes = Counter(labels)
    return [sizes[label] / len(questions) for label in labels]


def bleu(reference: str, hypothesis: str) -> float:
    """Sentence BLEU of words between spaces, in [0, 1]; 0.0 where no word is shared."""
    return _bleu(_grams(reference.split()), _grams(hypothesis.split()))


def _clusters(questions: Sequence[str]) -> list[int]:
    import numpy as np
    from scipy.cluster.hierarchy import fcluster, linkage

    distinct = list(dict.fromkeys(questions))
    grams = [_grams(question.split()) for question in distinct]
    number = {question: index for index, question in enumerate(distinct)}
    of = [number[question] for question in questions]
    between = np.zeros((len(distinct), len(distinct)))
    for i in range(len(distinct)):
        between[i, i] = 1 - _bleu(grams[i], grams[i])  # 1 for an empty question, which is like no other
        for j in range(i + 1, len(distinct)):
            between[i, j] = between[j, i] = 1 - _bleu(grams[j], grams[i])
    condensed = [between[of[i], of[j]] for i in range(len(of)) for j in range(i + 1, len(of))]
    # Clusters at or beyond the cut stay apart.
    return fcluster(linkage(condensed, "average"), np.nextafter(CUT, 0), "distance").tolist()


def _grams(words: Sequence[str]) -> Grams:
    return tuple(
        Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1)) for n in range(1, ORDER + 1)
    )


def _bleu(reference: Grams, hypothesis: Grams) -> float:
    length, wanted = hypothesis[0].total(), reference[0].total()
    total = 0.0
    for theirs, ours in zip(reference, hypothesis, strict=True):
        matched = sum(min(count, theirs[gram]) for gram, count in ours.items())
        if ours is hypothesis[0] and not matched:
            return 0.0
        total += math.log((matched or EPSILON) / max(1, ours.total()))
    brevity = 1.0 if length > wanted else math.exp(1 - wanted / length)
    return min(1.0, brevity * math.exp(total / ORDER))
