"""Held-out outcomes -> each model's accuracies, and what one model gains over another on the same items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from harness.analysis.items import (
    ModelItems,
    ModelRows,
    Outcomes,
    Values,
    metric_names,
    outcomes_of,
    pair,
    values_of,
)
from harness.analysis.measures import Count, Measured, SuiteGains
from harness.runs.sealed import Row, Run, SealedStage
from harness.stats import Interval, mean_interval, paired_gain
from vzero.errors import InputError
from vzero.runtime.schemas import Known
from vzero.runtime.seeding import derive

AVERAGE, BASE = "average", "base"


def read_rows(run: Run) -> ModelRows:
    """Every held-out answer of `run`'s finished evaluations, in the order of the plan."""
    return {model_name(one): rows_by_suite(one, run) for one in run.of_kind("evaluate")}


def model_name(stage: SealedStage) -> str:
    """ "base", "S1", "S2", ... for an evaluation."""
    return BASE if stage.stage.inputs["model"] == BASE else f"S{stage.stage.iteration}"


def rows_by_suite(stage: SealedStage, run: Run) -> dict[str, list[Row]]:
    """The answers of one evaluation; each suite of the preset is there.

    Raises:
        InputError: they are not those that the preset asks for.
    """
    found: Known[list[Row]] = Known({suite: [] for suite in run.preset.evaluation.suites})
    for row in stage.rows("samples.jsonl"):
        found[row["suite"]].append(row)
        if len(row["sampled"]) != run.preset.evaluation.sampled.n:
            raise InputError(
                f"{stage.stage.name} has {len(row['sampled'])} sampled answers to an item, and the preset"
                f" asks for {run.preset.evaluation.sampled.n}; delete its folder and run the same command"
                " again."
            )
    return found


def consecutive(models: Sequence[str]) -> list[tuple[str, str]]:
    """("S1", "S2"), ... as far as both were measured."""
    trained = [model for model in models if model != BASE]
    return [(one, other) for one, other in pairwise(trained) if int(other[1:]) == int(one[1:]) + 1]


def gain_seed(seed: int, base: str, model: str, metric: str, place: str) -> int:
    """Seed of the bootstrap of a run's own gain: who computes that gain again gets the same interval."""
    return derive(derive(seed, "gain", base, model, metric), place)


@dataclass(frozen=True)
class HeldOut:
    """Held-out answers of one run's models. `seed` is the run's, `samples` the sampled answers per item."""

    rows: ModelRows
    outcomes: Outcomes
    suites: tuple[str, ...]
    samples: int
    seed: int

    @classmethod
    def of(cls, run: Run, rows: ModelRows) -> HeldOut:
        """`rows` are answers of that run."""
        config = run.preset.evaluation
        return cls(rows, outcomes_of(rows), tuple(config.suites), config.sampled.n, run.preset.seed)

    @property
    def metrics(self) -> list[str]:
        """Names of the accuracies."""
        return metric_names(self.samples)

    def items(self, suite: str, model: str) -> ModelItems:
        """Outcomes of one model on one suite; empty where it was not measured."""
        return self.outcomes.get(suite, {}).get(model, {})

    def values(self, suite: str, model: str, metric: str) -> Values:
        """The value of each of these items."""
        return values_of(self.items(suite, model), metric, self.samples)

    def measured(self, suite: str, model: str) -> Measured:
        """Accuracies with intervals, and counts of answers that could not be read or were truncated."""
        rows, seed = self.rows[model][suite], derive(self.seed, "interval", suite, model)
        greedy = [row["greedy"] for row in rows]
        sampled = [one for row in rows for one in row["sampled"]]
        return Measured(
            accuracy={
                metric: self._mean([suite], model, metric, derive(seed, metric)) for metric in self.metrics
            },
            unparsed_greedy=_unparsed(greedy),
            truncated_greedy=_truncated(greedy),
            unparsed_sampled=_unparsed(sampled),
            truncated_sampled=_truncated(sampled),
        )

    def average(self, model: str) -> dict[str, Interval] | None:
        """Unweighted mean over the suites; None for a model that was not measured on all of them."""
        if not all(self.items(suite, model) for suite in self.suites):
            return None
        seeds = {metric: derive(self.seed, AVERAGE, model, metric) for metric in self.metrics}
        return {metric: self._mean(self.suites, model, metric, seed) for metric, seed in seeds.items()}

    def _mean(self, suites: Sequence[str], model: str, metric: str, seed: int) -> Interval:
        return mean_interval([[self.values(suite, model, metric)] for suite in suites], seed)

    def gains(self, base: str, model: str) -> SuiteGains:
        """Paired gains of `model` over `base` by suite, and of their average; not yet corrected."""
        found: SuiteGains = {}
        for metric in self.metrics:
            pairs = {
                suite: one
                for suite in self.suites
                if (one := pair(self.values(suite, base, metric), self.values(suite, model, metric)))
            }
            seeds = {place: gain_seed(self.seed, base, model, metric, place) for place in (*pairs, AVERAGE)}
            for suite, one in pairs.items():
                found.setdefault(suite, {})[metric] = paired_gain([one], seeds[suite])
            if len(pairs) == len(self.suites):
                found.setdefault(AVERAGE, {})[metric] = paired_gain(list(pairs.values()), seeds[AVERAGE])
        return found


def _unparsed(answers: Sequence[Row]) -> Count:
    return Count(value=sum(one["answer"] is None for one in answers), n=len(answers))


def _truncated(answers: Sequence[Row]) -> Count:
    return Count(value=sum(one["finish_reason"] == "length" for one in answers), n=len(answers))
