"""How much of a batch asks the same thing: R-Zero's repetition penalty, which VisPlay took over.

Questions are clustered by average linkage on the distance 1 - BLEU, cut at 0.5; a question's penalty is its
cluster's share of the batch. Sources: arXiv 2508.05004 and arXiv 2511.15661; `cluster_share_per_problem` in
Chengsong-Huang/R-Zero at 5699329, examples/reward_function/caller_penalty.py, and in bruno686/VisPlay at
3aa895b, train_examples/reward_function/cot_val.py. BLEU is Papineni et al. (2002) up to 4-grams with the
first smoothing of Chen and Cherry (2014), which both take from NLTK. It is written out here because sacrebleu
has no such smoothing: it gives 0 to any question of fewer than four words.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

ORDER = 4
EPSILON = 0.1  # numerator of an n-gram precision without a match
CUT = 0.5

NgramCounts = tuple[Counter[tuple[str, ...]], ...]  # of orders 1 to ORDER


def cluster_shares(questions: Sequence[str]) -> list[float]:
    """For each of `questions` the share of the batch in its cluster, in (0, 1]."""
    if len(questions) < 2:
        return [1.0] * len(questions)
    labels = _clusters(questions)
    sizes = Counter(labels)
    return [sizes[label] / len(questions) for label in labels]


def _clusters(questions: Sequence[str]) -> list[int]:
    import numpy as np
    from scipy.cluster.hierarchy import fcluster, linkage

    # A batch repeats itself, so distances are taken once per distinct question.
    number = {question: index for index, question in enumerate(dict.fromkeys(questions))}
    counts = [ngrams(question) for question in number]
    distance = np.zeros((len(counts), len(counts)))
    for i, own in enumerate(counts):
        distance[i, i] = 1 - bleu(own, own)  # 1 for an empty question, which is like no other
        for j in range(i + 1, len(counts)):
            distance[i, j] = distance[j, i] = 1 - bleu(counts[j], own)
    rows = [number[question] for question in questions]
    condensed = [distance[rows[i], rows[j]] for i in range(len(rows)) for j in range(i + 1, len(rows))]
    # Clusters at the cut stay apart, as in scikit-learn; fcluster alone would merge them.
    labels: list[int] = fcluster(linkage(condensed, "average"), np.nextafter(CUT, 0), "distance").tolist()
    return labels


def ngrams(text: str) -> NgramCounts:
    """Of words between spaces."""
    words = text.split()
    return tuple(
        Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1)) for n in range(1, ORDER + 1)
    )


def bleu(reference: NgramCounts, hypothesis: NgramCounts) -> float:
    """Sentence BLEU in [0, 1]; 0.0 where no word is shared."""
    length, wanted = hypothesis[0].total(), reference[0].total()
    log_precisions = 0.0
    for theirs, ours in zip(reference, hypothesis, strict=True):
        matched = sum(min(count, theirs[ngram]) for ngram, count in ours.items())
        if ours is hypothesis[0] and not matched:
            return 0.0
        log_precisions += math.log((matched or EPSILON) / max(1, ours.total()))
    brevity = 1.0 if length > wanted else math.exp(1 - wanted / length)
    return min(1.0, brevity * math.exp(log_precisions / ORDER))
