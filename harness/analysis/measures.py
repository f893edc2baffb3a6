"""The parts of results.json: small typed records. `harness.analysis.results` puts them together and says the
units: shares, accuracies and gains are fractions of 1."""

from __future__ import annotations

from harness.stats import Frozen, Gain, Interval

SuiteGains = dict[str, dict[str, Gain]]  # suite or "average" -> metric -> gain
LABELS = {"sampled": "T = 1"}  # metrics that people read under another name than results.json has


def metric_named(label: str) -> str:
    """The metric that somebody calls `label`: "T=1" and "T = 1" are "sampled"; others as they are."""
    named = {text.replace(" ", "").lower(): name for name, text in LABELS.items()}
    return named.get(label.replace(" ", "").lower(), label)


class Images(Frozen):
    """Unlabeled images of the run: `source` is "pocket" or "folder"; how many are used, how many could not be
    read."""

    source: str
    used: int
    skipped: int


class Count(Frozen):
    """`value` of `n` answers."""

    value: int
    n: int


class Measured(Frozen):
    """One model on one suite: accuracy by metric, and how many answers could not be read or were truncated.
    Counts of samples are None where none were drawn."""

    accuracy: dict[str, Interval]
    unparsed_greedy: Count
    truncated_greedy: Count
    unparsed_sampled: Count | None = None
    truncated_sampled: Count | None = None

    def counted(self, fault: str, kind: str) -> Count | None:
        """`fault` is "unparsed" or "truncated", `kind` "greedy" or "sampled"."""
        found: Count | None = getattr(self, f"{fault}_{kind}")
        return found


class Columns(Frozen):
    """What one model made of each item, in the order of the suite's ids. `greedy` and `majority`: a character
    per item, "1", "0" or "-" (not answered); `right`: the number of right samples, separated by spaces."""

    greedy: str
    majority: str
    right: str


class SuiteItems(Frozen):
    """Outcomes item by item, so that paired statistics outlive the run's folder. `ids` are separated by line
    breaks; `images` has each item's picture as an index, None where every item has its own."""

    ids: str
    images: str | None
    outcomes: dict[str, Columns]


class Elicitation(Frozen):
    """The base with each answer prefilled by the first `words` words of the last Solver's (`model`):
    accuracies, the gain over the base (`elicited`), and what the Solver gains from there (`beyond`)."""

    words: int
    model: str
    suites: dict[str, Measured]
    average: dict[str, Interval] | None
    elicited: SuiteGains
    beyond: SuiteGains


class Scorings(Frozen):
    """A model's greedy answers to a benchmark: the suite's headline by its published rule (None: it could not
    be computed) and by verified verdicts; shares read and truncated; gains of the headline over the base, by
    its own statistic. `format_gain`: the verified gain is one of format alone."""

    headline: str
    official: float | None
    verified: float
    parsed: float
    truncated: float
    gain_official: Gain | None = None
    gain_verified: Gain | None = None
    format_gain: bool | None = None


class SampleCurve(Frozen):
    """Accuracy by number of samples `k`: of their majority, of any being right; `greedy` beside."""

    k: list[int]
    majority: list[float]
    passed: list[float]
    greedy: float


class Flips(Frozen):
    """Greedy answers that changed sides against the base, of `items` both answered: ids of the items that
    went from wrong to right and from right to wrong."""

    items: int
    gained: list[str]
    lost: list[str]


class FamilyScore(Frozen):
    """Accuracy by metric on the `n` items of one family."""

    n: int
    accuracy: dict[str, float]


class Rate(Frozen):
    """A share (or a mean) over `n`, None where n is 0, with its 95 % Wilson interval where it has one."""

    value: float | None
    n: int
    low: float | None = None
    high: float | None = None


class CalibrationBin(Frozen):
    """Well-posed questions whose confidence rounds to `c`: how many, how many kept, and the share of right
    pseudo-labels with its interval."""

    c: float
    n: int
    kept: int
    mean_confidence: float
    value: float
    low: float | None
    high: float | None


class GroundTruth(Frozen):
    """What an iteration's questions and pseudo-labels were worth. None: not labelled yet or, from
    `well_posed` on, no ground truth for these images.

    Attributes:
        agreement: intuitive answer equals the majority. letter_entropy_*, entropy_nats: in nats.
        effective_families: exp of the entropy of the families. hard: of the recognised questions.
        label_accuracy: among well-posed questions; `_kept` those kept; `_kept_strict` among all kept, where
            the label of an ill-posed question is wrong. intuitive_accuracy: among well-posed ones.
    """

    written: int
    valid: Rate
    truncated: Rate
    distinct: Rate
    duplicates: Rate
    letters_intuitive: dict[str, int]
    letter_entropy_intuitive: float | None
    kept: Rate | None = None
    kept_count: int | None = None
    agreement: Rate | None = None
    mean_confidence: Rate | None = None
    mean_dual_track: Rate | None = None
    letters_majority: dict[str, int] | None = None
    letter_entropy_majority: float | None = None
    unparsed_votes: Rate | None = None
    no_majority: int | None = None
    well_posed: Rate | None = None
    hard: Rate | None = None
    families: dict[str, int] | None = None
    entropy_nats: float | None = None
    effective_families: float | None = None
    unrecognised: int | None = None
    label_accuracy: Rate | None = None
    label_accuracy_kept: Rate | None = None
    label_accuracy_kept_strict: Rate | None = None
    intuitive_accuracy: Rate | None = None
    well_posed_kept: Rate | None = None
    hard_kept: Rate | None = None
    calibration: list[CalibrationBin] | None = None
    calibration_error: float | None = None


class FirstLast(Frozen):
    """Mean of a logged number over the first and over the last eighth of the steps."""

    first: float | None
    last: float | None


class Training(Frozen):
    """A training stage: its iteration, optimizer steps, and each number that was logged."""

    iteration: int
    steps: int
    metrics: dict[str, FirstLast]


class TrainedOn(Frozen):
    """The questions that trained a Solver: how many, shares well-posed and rightly labelled (a question
    without a right option has no right label); None without ground truth."""

    questions: int
    well_posed: Rate | None = None
    label_right: Rate | None = None


class ByRole(Frozen):
    """A count for each role."""

    questioner: int = 0
    solver: int = 0


class Votes(Frozen):
    """Replies of a frozen Solver: inside the Questioner's reward, for labels, to check options."""

    reward: int = 0
    label: int = 0
    check: int = 0


class StageCompute(Frozen):
    """What one stage took: tokens of the prompts it read, tokens drawn, tokens trained on, pictures encoded,
    and floating-point operations by formula (harness.analysis.operations)."""

    iteration: int
    read: int = 0
    drawn: int = 0
    trained: int = 0
    pictures: int = 0
    flop: float = 0.0


class Compute(Frozen):
    """What the run cost, counted and not timed, evaluation left out: images, questions written, completions
    drawn to be trained on, votes, replies imitated by fine-tuning, optimizer steps, tokens drawn in all.

    Attributes:
        stages: what each stage took; None where that was not recorded.
        flop: the total compute, in floating-point operations. estimated: what of it was not counted but taken
            from means, None where all was counted.
    """

    images: int = 0
    written: int = 0
    rollouts: ByRole = ByRole()
    votes: Votes = Votes()
    imitated: int = 0
    steps: ByRole = ByRole()
    tokens: int = 0
    stages: dict[str, StageCompute] | None = None
    flop: float | None = None
    estimated: str | None = None

    def flat(self) -> dict[str, int]:
        """By dotted name: "votes.reward" and the like."""
        tree = self.model_dump(exclude={"stages", "flop", "estimated"})
        if self.flop is not None:
            tree["flop"] = round(self.flop)
        inner = {
            f"{key}.{role}": n for key in ("rollouts", "votes", "steps") for role, n in tree.pop(key).items()
        }
        return {**tree, **inner}


class Alarm(Frozen):
    """A rule of the collapse alarm that fired in an iteration, and the threshold it fires at."""

    rule: str
    iteration: int
    value: float
    threshold: float
    message: str
