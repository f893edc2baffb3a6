"""The rules of `check`, each on rows worked by hand: what passes, what fails, and that the second set of
formulas agrees with the first."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.analysis.measures import Count, Measured
from harness.analysis.results import Results
from harness.check import exact, formulas, learning, protocol, reference
from harness.check.finding import all_of
from harness.check.run import SMOKE, read_reference
from harness.runs.sealed import Run, SealedStage
from harness.stats import Interval
from vzero import rewards, voting
from vzero.errors import InputError
from vzero.presets import changed, load_preset
from vzero.prompts import parse_answer
from vzero.runtime import artefacts
from vzero.selfplay import plan

VOTES = st.lists(st.sampled_from(["A", "B", "C", "D", None]), min_size=1, max_size=12)


@given(VOTES, st.sampled_from(["A", "B", "C", "D", None]))
def test_both_sets_of_formulas_agree(votes: list[str | None], intuitive: str | None) -> None:
    tally = voting.tally(votes)
    assert formulas.majority(votes) == (tally.answer, pytest.approx(tally.confidence))
    assert formulas.kept(votes, 0.3, 0.8) == voting.keep(tally)
    if intuitive is not None:  # an invalid question is one without votes here
        assert formulas.dual_track(votes, intuitive) == pytest.approx(rewards.dual_track(votes, intuitive))
    assert formulas.dual_track(None, None) == rewards.dual_track(votes, None)
    assert formulas.uncertainty(votes, intuitive) == pytest.approx(rewards.uncertainty(votes))


@pytest.mark.slow
@given(
    st.lists(st.sampled_from(["\\boxed{", " A }", "B}", "</think>", "AB}", "x ", "\\boxed{ C }"]), max_size=8)
)
@settings(max_examples=300)
def test_a_plain_box_is_read_alike_and_any_other_is_left_to_the_parser(parts: list[str]) -> None:
    text = "".join(parts)
    letter = formulas.boxed(text)
    assert letter is None or letter == parse_answer(text)


def completions(generation: int, rewarded: list[list[float]], tokens: list[int]) -> list[dict[str, Any]]:
    rows = []
    for group, values in enumerate(rewarded):
        for index, reward in enumerate(values):
            advantage = (reward - fmean(values)) / (stdev(values) + 1e-4)
            rows.append(
                {
                    "generation": generation,
                    "prompt": f"p{generation}{group}",
                    "index": index,
                    "tokens": tokens[index],
                    "reward": reward,
                    "advantage": advantage,
                }
            )
    return rows


# Two generations of two steps with one prompt each; rewards 1 and 0, lengths 3 and 1: advantages +-.70701, so
# the first step weighs -(3 - 1) .70701 over 8 / 2 tokens: -.353503. With KL .2, beta .5 and 4 of 4 tokens the
# second generation's loss is .1 more.
ROWS = completions(1, [[1.0, 0.0], [1.0, 0.0]], [3, 1]) + completions(2, [[1.0, 0.0], [1.0, 0.0]], [3, 1])
METRICS = [
    {"step": 1, "generation": 1, "loss": -0.353503, "kl": 0.0},
    {"step": 2, "generation": 1, "loss": 9.0, "kl": 0.1},
    {"step": 3, "generation": 2, "loss": -0.253503, "kl": 0.2},
    {"step": 4, "generation": 2, "loss": 9.0, "kl": 0.3},
]


def losses(metrics: list[dict[str, Any]]) -> dict[str, bool | None]:
    return {one.rule: one.passed for one in learning.loss("x", metrics, ROWS, 0.5)}


def test_the_loss_is_recomputed_by_hand() -> None:
    assert losses(METRICS) == {"loss-is-the-objective": True, "kl-in-the-loss": True}
    without = [{**row, "loss": -0.353503} for row in METRICS]
    assert losses(without)["kl-in-the-loss"] is False
    flipped = [{**row, "loss": -row["loss"]} for row in METRICS]
    assert losses(flipped)["loss-is-the-objective"] is False
    assert losses([{**row, "kl": 0.0} for row in without])["kl-in-the-loss"] is None, (
        "nothing to see is not a pass"
    )


def test_kl_has_to_be_there_to_grow_and_to_end() -> None:
    kl = lambda *values: learning.kl_bounded("x", [{"kl": value} for value in values], 0.01).passed  # noqa: E731
    assert kl(0.0, 0.1) is True
    assert kl(0.0, 0.0) is False and kl(0.0, None) is False and kl(0.0, 0.9) is False
    assert learning.kl_bounded("x", [{"kl": None}], 0.0).passed is None


def test_advantages_of_another_sign_or_scale_are_found() -> None:
    assert exact.advantages("x", ROWS).passed is True
    for factor in (-1.0, 2.0):
        assert (
            exact.advantages("x", [{**row, "advantage": factor * row["advantage"]} for row in ROWS]).passed
            is False
        )
    # a mean over the batch instead of the group
    assert exact.advantages("x", [{**ROWS[0], "advantage": 0.5}, *ROWS[1:]]).passed is False


@pytest.mark.slow
def test_a_falling_reward_is_a_fall_and_noise_is_not() -> None:
    rng = np.random.default_rng(1)

    def trend(change: float) -> bool | None:
        rows = [
            {
                "generation": generation,
                "prompt": f"{generation}-{prompt}",
                "reward": float(rng.random() < 0.6 + change * generation),
            }
            for generation in range(1, 10)
            for prompt in range(30)
            for _ in range(4)
        ]
        return learning.trend("x", rows).passed

    assert trend(-0.05) is False and trend(0.02) is True
    assert sum(trend(0.0) is False for _ in range(100)) <= 2


def results(unparsed: int = 0, scored: int = 100) -> Results:
    measured = Measured(
        accuracy={"greedy": Interval(value=0.5, low=None, high=None, n=scored)},
        unparsed_greedy=Count(value=unparsed, n=100),
        truncated_greedy=Count(value=0, n=100),
    )
    return Results(
        preset="p",
        arm="v-zero",
        seed=0,
        split="test",
        model="m",
        samples=1,
        models=["base"],
        metrics=["greedy"],
        suites={"s": {"base": measured}},
        items={},
        expected={"s": 100},
    )


@pytest.mark.parametrize(
    ("found", "broken"),
    [
        (results(), set()),
        (results(unparsed=5), set()),
        (results(unparsed=6), {"greedy-answers-parsed"}),
        (results(scored=99), {"suites-whole"}),
    ],
)
def test_protocol_limits(found: Results, broken: set[str]) -> None:
    judged = [protocol.judge(rule, found) for rule in protocol.RULES]
    assert {one.rule for one in judged if one.passed is False} == broken


def test_a_reference_fires_for_a_loss_and_rarely_by_chance() -> None:
    rng = np.random.default_rng(2)

    def fires(shift: float) -> bool:
        there = list(rng.normal(0.7, 0.3, 60))
        kept = reference.Sample(n=60, mean=fmean(there), variance=stdev(there) ** 2)
        beside = reference.Reference(preset={}, made_by=None, items={}, samples={"votes": kept})
        here = {"votes": list(rng.normal(0.7 + shift, 0.3, 60))}
        return reference.means(here, beside)["votes"][0] < reference.FIRES

    assert sum(fires(0.0) for _ in range(300)) <= 2
    assert all(fires(-0.35) for _ in range(20))


def test_one_sentence_names_a_few_and_counts_the_rest() -> None:
    said = all_of("r", "s", "labels", 9, [f"q{i}" for i in range(5)])
    assert said.passed is False and said.message == "5 of 9 labels are not: q0; q1; q2 and 2 more"
    assert all_of("r", "s", "labels", 0, []).passed is None


def test_a_bad_reference_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no reference"):
        read_reference(tmp_path / "none.json")
    for text in ("{", "[]", '{"format": 99}'):
        (tmp_path / "bad.json").write_text(text)
        with pytest.raises(InputError, match="make it anew"):
            read_reference(tmp_path / "bad.json")


def test_the_shipped_reference_is_of_the_shipped_smoke_preset() -> None:
    from vzero.presets import load_preset

    found = read_reference(SMOKE)

    def others(*settings: str) -> list[str]:
        preset = load_preset("smoke", list(settings)).model_dump(mode="json")
        return reference.other_settings(preset, found.preset)

    assert others() == [] and others("images.count=5") == ["images.count"]
    assert sum("votes that are right" in key for key in found.samples) == 2


def test_recycled_votes_are_those_of_the_reward() -> None:
    rollout = {"prompt": "i0", "votes": ["A"] * 9 + [None], "text": "<question> how many ? </question>"}
    rollouts = [rollout, {**rollout, "votes": None}, {**rollout, "prompt": "i1", "votes": ["B"] * 10}]
    label = {"question_id": "asked", "image_id": "i0", "text": "how many ?", "votes": rollout["votes"]}
    bought = [{**label, "question_id": "bought", "votes": ["D"] * 10}]

    def passed(**change: Any) -> bool | None:
        return exact.recycled("x", [*bought, {**label, **change}], bought, rollouts).passed

    assert passed()
    assert passed(image_id="i1") is False  # another image's votes
    assert passed(votes=["B"] * 10) is False
    assert passed(text="how tall ?") is False


def test_a_solver_may_train_on_what_a_selection_kept_though_the_filter_did_not(tmp_path: Path) -> None:
    """An arm without the filter, or with its own: its selection says what is trained on, not the filter."""
    preset = changed(load_preset("smoke"), {"solver.filter": "none", "iterations": 1})
    stages = {}
    for stage in plan(preset):
        if stage.kind in ("label", "select"):
            asked = {"question_id": "q1", "image_id": "i", "text": "?", "intuitive": None, "votes": ["B"]}
            row = {**asked, "answer": "B", "confidence": 1.0, "kept": stage.kind == "select"}
            path = tmp_path / stage.name / "labels.jsonl"
            artefacts.write_jsonl(path, [row])
            manifest = {"files": {path.name: artefacts.sha256_file(path)}}
            stages[stage.name] = SealedStage(stage, path.parent, manifest)
    training = next(stage for stage in plan(preset) if stage.kind == "train-solver")
    rows = [{"prompt": "q1", "index": 0, "label": "B", "text": "\\boxed{B}", "reward": 1.0}]

    def passed(label: str) -> bool | None:
        sealed, relabelled = SealedStage(training, tmp_path, {}), [{**rows[0], "label": label}]
        return exact._solver(Run(tmp_path, preset, stages, {}), sealed, relabelled)[-1].passed

    assert passed("B") is True and passed("C") is False
