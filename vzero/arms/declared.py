"""The arms, each a few lines: what changes, and who says so.

`changes` are settings of a preset (see `vzero.config`). `step_matched` arms have more questions than V-Zero
would train on: a grid lets their Solver train on as many as V-Zero's did in the same iteration and seed, so
that optimizer steps are equal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Arm:
    """One way to train.

    Attributes:
        name: on the command line and in results.
        group: who it is for: the paper's own arms, controls, rival methods, our repairs, known defects, or
            files of the user's own.
        says: what it does, in one line.
        source: paper or code, or "ours".
        changes: dotted settings by which it differs from V-Zero.
        step_matched: whether its Solver is held to V-Zero's number of training questions.
    """

    name: str
    group: Literal["paper", "controls", "rivals", "repairs", "defects", "own"]
    says: str
    source: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    step_matched: bool = False


_V_ZERO = "V-Zero, arXiv 2601.10094"
_SPURIOUS = "Spurious Rewards, arXiv 2506.10947"

ARMS: tuple[Arm, ...] = (
    # The paper's own arms.
    Arm("v-zero", "paper", "the method: dual-track reward, confidence filter, two iterations", _V_ZERO),
    Arm(
        "frozen-questioner",
        "paper",
        "the base model writes all questions; no Questioner is trained",
        f"{_V_ZERO}, ablation",
        {"questioner.trained": False},
    ),
    Arm(
        "single-uncertainty",
        "paper",
        "the Questioner is paid min(c, 1-c); its intuitive answer is not used",
        f"{_V_ZERO}, ablation",
        {"questioner.reward": "uncertainty"},
    ),
    Arm(
        "single-uncertainty-step-matched",
        "paper",
        "single-uncertainty at V-Zero's number of Solver steps",
        f"{_V_ZERO}, ablation; the number is ours",
        {"questioner.reward": "uncertainty"},
        step_matched=True,
    ),
    Arm(
        "no-filter",
        "paper",
        "the Solver trains on questions of any confidence, as many as V-Zero's",
        f"{_V_ZERO}, ablation",
        {"solver.filter": "none"},
        step_matched=True,
    ),
    Arm(
        "one-iteration",
        "paper",
        "V-Zero stopped after its first iteration",
        f"{_V_ZERO}, ablation",
        {"iterations": 1},
    ),
    Arm(
        "zero-sum",
        "paper",
        "a READING, not the paper: the Questioner earns 1-c, what the Solver loses",
        "summaries that call V-Zero a two-player zero-sum game; the paper has no such reward",
        {"questioner.reward": "zero-sum"},
    ),
    # Controls: what is left of the gain when a part that should matter is taken out.
    Arm(
        "random-label",
        "controls",
        "V-Zero's questions, each with a label drawn at random from A-D",
        f"ours, after {_SPURIOUS}",
        {"solver.labels": "random"},
    ),
    Arm(
        "random-reward",
        "controls",
        "V-Zero's questions; the Solver is paid 1 or 0 by a coin",
        _SPURIOUS,
        {"solver.objective": "random"},
    ),
    Arm(
        "format-only",
        "controls",
        "V-Zero's questions; the Solver is paid 1 for any readable boxed option",
        _SPURIOUS,
        {"solver.objective": "format"},
    ),
    Arm(
        "blind-solver",
        "controls",
        "the Solver inside the Questioner's reward votes without seeing the image",
        "the reward server of SatonoDia/V-Zero at 73d156a",
        {"questioner.votes_see": "nothing"},
    ),
    Arm(
        "supervised",
        "controls",
        "true answers instead of the majority, on as many of V-Zero's questions that have one",
        f"{_V_ZERO}, baseline; there with human questions",
        {"solver.labels": "truth"},
        step_matched=True,
    ),
    Arm(
        "sft-votes",
        "controls",
        "V-Zero's questions; fine-tuning on the votes for the majority instead of GRPO",
        "LMSI, arXiv 2210.11610",
        {"solver.objective": "sft"},
    ),
    Arm(
        "shuffled-images",
        "controls",
        "V-Zero and its base evaluated with the pictures dealt to other questions of the suite",
        "ours",
        {"evaluation.images": "shuffled"},
    ),
    # Rivals: the parts that differ, from their published code (docs/arms.md says what is not taken over).
    Arm(
        "majority-voting",
        "rivals",
        "the base model's questions, unfiltered; the Solver is paid for its group's own majority",
        "TTRL, arXiv 2504.16084; MM-UPT, arXiv 2505.22453",
        {
            "questioner.trained": False,
            "solver.labels": "none",
            "solver.filter": "none",
            "solver.objective": "group-majority",
        },
        step_matched=True,
    ),
    Arm(
        "r-zero",
        "rivals",
        "R-Zero's Challenger reward: uncertainty where the majority is its own answer, less repetition",
        "R-Zero, arXiv 2508.05004",
        {"questioner.reward": "r-zero"},
    ),
    Arm(
        "visplay",
        "rivals",
        "VisPlay's Questioner reward: uncertainty less repetition",
        "VisPlay, arXiv 2511.15661",
        {"questioner.reward": "visplay"},
    ),
    Arm(
        "evolmm",
        "rivals",
        "EvoLMM's continuous rewards: an entropy band for the Proposer, self-consistency for the Solver, no filter",
        "EvoLMM, arXiv 2511.16672",
        {
            "questioner.reward": "evolmm",
            "solver.labels": "none",
            "solver.filter": "none",
            "solver.objective": "consistency",
        },
        step_matched=True,
    ),
    # Repairs: one change each to what the shadow measures show going wrong.
    Arm(
        "frozen-intuition",
        "repairs",
        "the intuitive answer is the frozen base model's greedy one, so the Questioner cannot guess wrong on purpose",
        "ours",
        {"questioner.intuition": "base"},
    ),
    Arm(
        "capped-mismatch",
        "repairs",
        "a contradicted intuition earns min(0.5c, 1-c), nothing where the Solver is unanimous",
        "ours",
        {"questioner.reward": "capped-mismatch"},
    ),
    Arm(
        "answerable",
        "repairs",
        "questions are kept only if the majority follows its option when the options change places",
        "ours",
        {"solver.answerable": True},
    ),
    Arm(
        "frozen-twice",
        "repairs",
        "a frozen Questioner that writes two questions an image, at V-Zero's number of Solver steps",
        "ours: the honest baseline",
        {"questioner.trained": False, "questioner.per_image": 2},
        step_matched=True,
    ),
    Arm(
        "repaired",
        "repairs",
        "frozen-intuition, capped-mismatch and answerable together",
        "ours",
        {"questioner.intuition": "base", "questioner.reward": "capped-mismatch", "solver.answerable": True},
    ),
    Arm(
        "repaired-step-matched",
        "repairs",
        "repaired at V-Zero's number of Solver steps",
        "ours",
        {"questioner.intuition": "base", "questioner.reward": "capped-mismatch", "solver.answerable": True},
        step_matched=True,
    ),
    # Defects of public code, run as they are; not part of "all".
    Arm(
        "article-votes",
        "defects",
        'labels from a reader that takes the article "a" for a vote',
        "vzero.arms.defects",
        {"defects": ["article-votes"]},
    ),
    Arm(
        "unparsed-dropped",
        "defects",
        "labels from a count that leaves unreadable votes out of m",
        "vzero.arms.defects",
        {"defects": ["unparsed-dropped"]},
    ),
    Arm(
        "three-prompts",
        "defects",
        "labels read from answer tags, of a Solver trained to box",
        "vzero.arms.defects",
        {"defects": ["three-prompts"]},
    ),
    Arm(
        "label-selection",
        "defects",
        "images chosen by true answers, before anything is learned without them",
        "vzero.arms.labelled_images",
        {"defects": ["label-selection"]},
    ),
)
