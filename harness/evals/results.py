"""results.json of an evaluation, as `build` makes it and every reader takes it."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, JsonValue, ValidationError

from harness.evals.catalogue import PER_FAMILY, Profile
from harness.evals.set_aside import SetAside
from harness.scoring import Totals
from harness.stats import Frozen, wilson
from vzero.config import SamplingConfig
from vzero.errors import InputError
from vzero.runtime import owned

FILE = "results.json"


class Limits(Frozen):
    """Least and most pixels of a picture that is handed to the engine; the checkpoint's own processor may
    shrink it further."""

    least: int
    most: int


class Settings(Frozen):
    """All that determines an evaluation's result.

    Attributes:
        model: as the user named it.
        limit: at most so many rows of each suite (`sample`).
        sampled: how k answers per item are drawn beside the greedy one; None for none.
        cap: whether `greedy.max_new_tokens` also bounds stock tasks, which have budgets of their own.
        split, items_per_family: of drawn suites.
        images: "shuffled" shows each question the pictures of another one.
        prefills: digest of the words that answers were made to begin with.
        max_model_len: tokens of prompt and answer together, where vLLM was told.
        thought_tokens: for thoughts, on top of the budgets of stock tasks; in `greedy` and `sampled` already.
    """

    model: str
    checkpoint_sha256: str
    suites: tuple[str, ...]
    profile: Profile
    prompt_format: str
    engine: str
    greedy: SamplingConfig
    sampled: SamplingConfig | None
    pixels: Limits
    limit: int | None
    seed: int
    cap: bool = False
    split: str = "test"
    items_per_family: int = PER_FAMILY
    images: Literal["own", "shuffled"] = "own"
    prefills: str | None = None
    max_model_len: int | None = None
    thought_tokens: int = 0


class Protocol(Frozen):
    """What the checkpoint's own files and the machine add to the settings. Digests are SHA-256.

    Attributes:
        dtype: that the model computes in; None where servers elsewhere compute.
        context: tokens that prompt and answer may have together; None where the model does not say.
        stop_tokens: what ends an answer. never_drawn: digest of the ids that no answer holds.
        chat_template, tokens: of two fixed conversations, rendered and as ids.
        image_processor: what is done to a picture, as transformers applies it.
        repaired: a sentence where an end of turn had to be taken from the chat template.
    """

    device: str | None
    dtype: str | None
    context: int | None
    stop_tokens: tuple[str, ...]
    never_drawn: str
    chat_template: str
    tokens: str
    image_processor: dict[str, JsonValue]
    repaired: str | None = None


class AskedRows(Frozen):
    """Digests of a suite's items, in order: ids and content of the rows; of those that are all answered also
    the conversations and the pixels that were shown, and the sampling that was sent."""

    rows: str
    prompts: str | None = None
    pictures: str | None = None
    sampling: str | None = None


class Lenses(Frozen):
    """One number by each lens; official None: the suite's published rule could not be computed."""

    official: float | None
    verified: float | None


class Rates(Lenses):
    """See `harness.scoring.Totals`; rates are fractions of the n items with gold."""

    n: int
    without_gold: int
    parsed: float | None
    official_given_parsed: float | None
    verified_given_parsed: float | None

    @classmethod
    def of(cls, totals: Totals) -> Rates:
        return cls(**asdict(totals))


class Greedy(Rates):
    """Of the greedy answers: shares of items; the interval is 95 % (Wilson)."""

    truncated: float
    verified_interval: tuple[float, float] | None = None


class HeadlineResult(Lenses):
    """A number that the suite's authors publish: by lmms-eval's own code (else why not), and the same
    statistic of the verified verdicts over its n units, with its 95 % interval."""

    official_missing: str | None
    n: int
    verified_interval: tuple[float, float] | None


class Sampled(Frozen):
    """Of k sampled answers per item: "mean", "maj@k" and "pass@k", verified; published rules are of one."""

    k: int
    parsed: float
    truncated: float
    verified: dict[str, float]


class LmmsEval(Frozen, extra="ignore"):
    """What lmms-eval said and did, by task: its own numbers, the parameters sent, what else it handed over,
    and the pixel limits. Once it held the processor's as well (now `Protocol`)."""

    version: str
    results: dict[str, dict[str, float]]
    items: dict[str, int]
    sent: dict[str, SamplingConfig]
    not_sent: dict[str, dict[str, Any]]
    pixels: Limits
    responses_sha256: str | None = Field(default=None, exclude=True)  # of the answers when it had them all


class Figure(Frozen):
    value: float
    source: str
    certainty: str


class Outside(Frozen):
    """Our number, in percent with its interval, where it lies outside the published ones."""

    value: float
    low: float
    high: float
    text: str


class Published(Frozen):
    """Figures of the same base model, in percent, and their span."""

    model: str | None
    metric: str
    figures: tuple[Figure, ...]
    span: tuple[float, float] | None
    outside: tuple[Outside, ...] = ()


class SuiteResult(Frozen):
    """One suite; what follows `deviations` is there of complete ones only. Rows that were `set_aside` are in
    no other number.

    Attributes:
        headlines: by name, the suite's first one first.
        official_set_aside: item id -> why its answer has no official verdict.
    """

    title: str
    rule: str
    rows_expected: int
    rows: int
    answered: int
    without_gold: tuple[str, ...]
    set_aside: tuple[SetAside, ...] = ()
    note: str | None
    status: Literal["complete", "incomplete"]
    deviations: tuple[str, ...]
    asked: AskedRows | None = None
    n: int | None = None
    greedy: Greedy | None = None
    extracted_by: dict[str, int] = Field(default_factory=dict)
    by: dict[str, dict[str, Rates]] = Field(default_factory=dict)
    table: str = ""
    headlines: dict[str, HeadlineResult] = Field(default_factory=dict)
    official_set_aside: dict[str, str] = Field(default_factory=dict)
    sampled: Sampled | None = None
    lmms_eval: LmmsEval | None = None
    published: Published | None = None

    @property
    def headline(self) -> tuple[str, HeadlineResult] | None:
        """The first headline and its name."""
        return next(iter(self.headlines.items()), None)


class SuiteGroup(Lenses):
    """The unweighted mean of the headlines over those suites of a group that were evaluated; official None
    where some have none."""

    members: tuple[str, ...]
    missing: tuple[str, ...]


class Pair(Frozen):
    training: str
    evaluation: str
    exact: bool


class Contamination(Frozen):
    """Evaluation pictures with a near-duplicate among the training pictures, and some of the pairs."""

    training_pictures: int
    evaluation_pictures: int
    evaluation_pictures_seen: int
    of_those_pixel_for_pixel: int
    radius_bits: int
    thumbnail_difference: float
    pairs: tuple[Pair, ...]


class EvaluationResults(Frozen):
    evaluation: Settings
    protocol: Protocol | None = None
    answers_read_by: str
    suites: dict[str, SuiteResult]
    groups: dict[str, SuiteGroup]
    contamination: Contamination | None = None
    complete: bool
    created: str | None = None
    provenance: dict[str, Any] | None = None


def interval(share: float | None, n: int) -> tuple[float, float] | None:
    """95 % (Wilson) of a share of n; None where there is none."""
    low, high = wilson(round((share or 0.0) * n), n)
    return None if share is None or low is None or high is None else (low, high)


def read(path: Path) -> EvaluationResults:
    """The results in a file.

    Raises:
        InputError: it is not the results.json of an evaluation.
    """
    try:
        return EvaluationResults.model_validate_json(owned.read_bytes(path))
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from None
    except ValidationError as error:
        where = ".".join(map(str, error.errors()[0]["loc"])) or "the whole file"
        raise InputError(
            f"{path} is not the results of an evaluation ({where}: {error.errors()[0]['msg']}); make it anew "
            "with `vzero-harness evaluate --rescore`."
        ) from None
