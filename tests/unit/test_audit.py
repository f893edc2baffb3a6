"""The audit of rewards: expectations worked by hand, agreement with simulation and with the trainer's own
reward."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Sequence
from dataclasses import replace

import pytest
from click.testing import Result
from typer.testing import CliRunner

from harness.audit import PLAYERS, RULES, SOLVERS, Audit, Row, Rules, audit, damages, of_arms
from harness.audit.exploits import find, intended
from harness.audit.measure import measure
from harness.audit.outcomes import Outcomes
from harness.audit.players import UNREADABLE, Player, Solver
from harness.audit.report import as_json
from harness.cli import app
from tests.stub_engine import StubEngine
from vzero.arms import chosen
from vzero.arms.defects import DEFECTS
from vzero.arms.vote_reward import VoteReward
from vzero.config import SamplingConfig
from vzero.grpo.data import Prompt
from vzero.grpo.groups import Group
from vzero.parsing import parse_answer, parse_question
from vzero.rollout.protocol import Completion, Request, Rollout

BY_NAME = {player.name: player for player in PLAYERS}
DUAL, SINGLE = RULES["dual_track"], RULES["uncertainty"]
EVEN = Solver("even", easy=1.0, hard=0.5)


def row(rules: Rules, player: str, solver: Solver, votes: int, draws: int | None = None) -> Row:
    [found] = measure(rules, [BY_NAME[player]], [solver], votes, draws)
    return found


@pytest.fixture(scope="module")
def whole() -> Audit:
    return audit()


def test_two_votes_by_hand() -> None:
    # Each vote: right 1/2, each wrong option 1/6. Intuition right: two right (1/4) pay 0; right and another
    # (1/2) tie, first seen half the time, pay .5 or .25; the same wrong one twice (1/12) pays .5; two wrong
    # ones (1/6) pay .25: 13/48. Intuition wrong: two right 1/4 * .5; right and it (1/6) * .375; right and
    # another (1/3) * .25; it twice 0; another twice (1/18) * .5; it and another wrong one (1/9) * .375; two
    # others (1/18) * .25: 17/48.
    found = row(DUAL, "honest, hard", EVEN, 2)
    assert found.reward == pytest.approx(0.6 * 13 / 48 + 0.4 * 17 / 48, abs=1e-12)
    assert found.kept == pytest.approx(1 / 2 + 1 / 6)  # c = .5
    assert found.usable == pytest.approx(1 / 4)  # right and another, the right one seen first
    assert found.label_accuracy == pytest.approx(3 / 8)
    assert found.confidence == pytest.approx((1 / 2 + 1 / 6) * 0.5 + 1 / 3)
    assert row(SINGLE, "honest, hard", EVEN, 2).reward == pytest.approx((1 / 2 + 1 / 6) * 0.5)


@pytest.mark.parametrize(
    ("player", "dual", "single"),
    [
        ("honest, easy", 0.1 * 0.5, 0.0),
        ("constant letter", 0.75 * 0.5, 0.0),
        ("wrong on easy", 0.5, 0.0),
        ("format-breaking", -1.0, -1.0),
    ],
)
@pytest.mark.parametrize("votes", [1, 3, 10])
def test_a_flawless_solver_by_hand(player: str, dual: float, single: float, votes: int) -> None:
    assert row(DUAL, player, EVEN, votes).reward == pytest.approx(dual, abs=1e-12)
    assert row(SINGLE, player, EVEN, votes).reward == pytest.approx(single, abs=1e-12)
    assert row(DUAL, player, EVEN, votes).kept == pytest.approx(0, abs=1e-12)


def test_an_unanswerable_question_by_hand() -> None:
    # One vote, each option 1/4, the intuitive answer too: c = 1, which the filter drops; agreement 1/4 pays
    # 0, else .5.
    one = row(DUAL, "unanswerable", EVEN, 1)
    assert (one.reward, one.agreement, one.kept) == pytest.approx((0.375, 0.25, 0.0))
    # Two votes: equal (1/4) are dropped, unequal kept; no label is ever right.
    two = row(DUAL, "unanswerable", EVEN, 2)
    assert (two.kept, two.label_accuracy, two.usable) == pytest.approx((0.75, 0.0, 0.0))


def test_unreadable_votes_count_against_confidence() -> None:
    # Two votes, each right 1/2 or unreadable 1/2: c = 1 (1/4), .5 (1/2), 0 (1/4); wrong intuition earns .5,
    # .25, 0.
    half = Solver("half", easy=0.5, hard=0.5, unreadable=0.5)
    found = row(DUAL, "wrong on easy", half, 2)
    assert (found.reward, found.confidence, found.kept, found.usable) == pytest.approx((0.25, 0.5, 0.5, 0.5))


def test_the_known_hole_is_found(whole: Audit) -> None:
    rows = {(one.rules, one.solver, one.player): one for one in whole.rows}
    assert whole.intended == pytest.approx({"dual_track": 0.40, "uncertainty": 0.50})
    assert rows["dual_track", "able", "wrong on easy"].reward == pytest.approx(0.475, abs=5e-4)
    assert rows["dual_track", "flawless", "wrong on easy"].reward == pytest.approx(0.5)
    assert rows["dual_track", "able", "constant letter"].reward == pytest.approx(0.369, abs=5e-4)
    assert rows["dual_track", "able", "honest, hard"].reward < 0.4
    named = {(one.rules, one.solver, one.player): one for one in whole.exploits}
    hole = named["dual_track", "able", "wrong on easy"]
    assert hole.beats_intended and hole.kept < 0.1 and "deliberately wrong" in hole.trick
    assert ("uncertainty", "able", "wrong on easy") not in named
    assert (
        "uncertainty",
        "able",
        "unanswerable",
    ) in named  # the single reward pays for questions nobody can answer
    assert not [
        one for one in whole.exploits if one.player in ("honest, hard", "honest, easy", "format-breaking")
    ]


def test_every_row_is_possible(whole: Audit) -> None:
    assert len(whole.rows) == len(RULES) * len(SOLVERS) * len(PLAYERS)
    for one in whole.rows:
        assert -1 <= one.reward <= 0.5 + 1e-12 and one.low is None and one.draws is None
        assert 0 <= one.usable <= one.kept + 1e-12 <= one.valid + 2e-12
    weights = [sum(draft.weight for draft in player.drafts) for player in PLAYERS]
    assert weights == pytest.approx([1.0] * len(PLAYERS))


@pytest.mark.parametrize("votes", [1, 2, 7, 10])
def test_the_outcomes_of_the_votes_are_a_distribution(votes: int) -> None:
    constant = Rules("constant", "0.7", "none", lambda asked: 0.7)
    for solver in SOLVERS:
        assert row(constant, "unanswerable", solver, votes).reward == pytest.approx(0.7, abs=1e-12)
    assert Outcomes.of(constant, votes).ways.sum() == pytest.approx(5**votes)  # all orders of all votes


@pytest.mark.slow
@pytest.mark.parametrize("name", ["honest, hard", "constant letter", "unanswerable"])
@pytest.mark.parametrize("rules", [DUAL, SINGLE], ids=["dual", "single"])
def test_simulation_agrees_with_enumeration(rules: Rules, name: str) -> None:
    weak = SOLVERS[2]
    exact, drawn = row(rules, name, weak, 10), row(rules, name, weak, 10, draws=4000)
    assert drawn.low is not None and drawn.high is not None
    assert abs(drawn.reward - exact.reward) < 2.1 * (drawn.high - drawn.low) / 2  # 4 standard errors
    assert drawn.kept == pytest.approx(exact.kept, abs=0.02) and drawn.agreement == pytest.approx(
        exact.agreement, abs=0.04
    )
    assert row(rules, name, weak, 10, draws=4000) == drawn


@pytest.mark.slow
def test_what_cannot_be_enumerated_is_simulated() -> None:
    assert row(DUAL, "wrong on easy", EVEN, 30).draws and row(
        DUAL, "wrong on easy", EVEN, 30
    ).reward == pytest.approx(0.5)
    last = Rules(
        "last vote",
        "1 if last vote agrees",
        "none",
        lambda asked: float(asked.votes[-1] == asked.intuitive),
        order_free=False,
    )
    found = row(last, "unanswerable", EVEN, 3)
    assert found.draws and found.reward == pytest.approx(0.25, abs=0.03)


class Scripted(StubEngine):
    """A Solver that gives every question the same replies."""

    def __init__(self, texts: Sequence[str]) -> None:
        self.texts = texts

    def generate(self, requests: Sequence[Request], sampling: SamplingConfig) -> list[Rollout]:
        return [
            Rollout(1, tuple(Completion(text, (1,), (0.0,), "stop") for text in self.texts)) for _ in requests
        ]


@pytest.mark.parametrize("player", PLAYERS, ids=lambda player: player.name)
def test_the_trainer_pays_what_the_audit_says(player: Player) -> None:
    # A Solver that always finds A: its replies as they are, through the trainer's own reward, draft by draft.
    always = Solver("always A", easy=1.0, hard=1.0)
    texts = list(always.replies("easy", "A"))
    cast = [text for text in texts if parse_answer(text) == "A"] + [UNREADABLE]
    reward = VoteReward(
        engine=Scripted(cast),
        votes=SamplingConfig(n=len(cast), temperature=1.0, max_new_tokens=8),
        prompt_format="natural",
        opener=lambda record: None,
        seed_of=lambda generation, key, index: 0,
        keep=(0.3, 0.8),
    )
    completions = tuple(Completion(draft.text, (1,), (0.0,), draft.finish_reason) for draft in player.drafts)
    paid = reward([Group(Prompt("image", (), None), completions)], 0).rewards[0]
    table, letters = Outcomes.of(DUAL, len(cast)), "ABCD"
    outcome = next(i for i, count in enumerate(table.counts) if tuple(count) == (len(cast) - 1, 0, 0, 0, 1))
    for draft, one in zip(player.drafts, paid, strict=True):
        question = DUAL.read_question(draft.text, draft.finish_reason)
        assert one == (-1.0 if question is None else table.reward[outcome, letters.index(question.intuitive)])


def test_scripted_replies_are_read_as_they_are_meant() -> None:
    for player in PLAYERS:
        for draft in player.drafts:
            question = DUAL.read_question(draft.text, draft.finish_reason)
            assert (question is None) == bool(draft.fault)
    for solver in SOLVERS:
        read: dict[str | None, float] = {}
        for text, share in solver.replies("hard", "C").items():
            read[parse_answer(text)] = read.get(parse_answer(text), 0) + share
        assert sum(read.values()) == pytest.approx(1)
        assert read["C"] == pytest.approx(solver.hard) and read.get(None, 0) == pytest.approx(
            solver.unreadable
        )
    right = {d.gold for d in BY_NAME["wrong on easy"].drafts if f"{d.gold}) 4" in d.text}
    assert right == set("ABCD")  # the easy question's right value stands at the right option


def test_a_lax_reader_of_questions_is_named() -> None:
    lax = replace(DUAL, name="lax", read_question=lambda text, finish_reason: parse_question(text))
    rows = measure(lax, PLAYERS, SOLVERS)
    broken = [one for one in rows if one.player == "format-breaking"]
    assert all(
        one.accepted == ("chat token", "truncated") and one.valid == pytest.approx(0.25) for one in broken
    )
    named = [one for one in find(rows, {"lax": 0.4}) if one.player == "format-breaking"]
    assert len(named) == len(SOLVERS) and "chat token, truncated" in named[0].trick


def test_a_reader_that_guesses_from_prose_shows_its_damage() -> None:
    def guess(text: str) -> str | None:
        letters = re.findall(r"\b([A-D])\b", text, re.IGNORECASE)  # the article "a" is a vote for A
        return parse_answer(text) or (letters[0].upper() if letters else None)

    mute = Solver("mute", easy=0.0, hard=0.0, unreadable=1.0)
    strict, lax = (
        row(DUAL, "constant letter", mute, 10),
        row(replace(DUAL, read_answer=guess), "constant letter", mute, 10),
    )
    assert (strict.confidence, strict.reward) == (0.0, 0.0)
    assert (lax.confidence, lax.reward) == pytest.approx((1.0, 0.5))  # unanimous, though nobody answered


def test_another_filter_is_used() -> None:
    everything = replace(DUAL, keep=lambda tally: True)
    assert row(everything, "wrong on easy", EVEN, 10).kept == pytest.approx(1)
    assert row(everything, "wrong on easy", EVEN, 10).label_accuracy == pytest.approx(1)


def test_intended_by_hand() -> None:
    assert intended(DUAL, 10) == pytest.approx(0.6 * 0.5 + 0.4 * 0.25)
    assert intended(SINGLE, 10) == pytest.approx(0.5)
    assert intended(DUAL, 1) == pytest.approx(0.4 * 0.5)


def command(*words: str) -> Result:
    return CliRunner().invoke(app, ["audit", *words])


@pytest.mark.slow
def test_the_command_prints_what_was_found(whole: Audit) -> None:
    printed = command("--json")
    assert printed.exit_code == 0 and json.loads(printed.stdout) == json.loads(
        json.dumps(as_json(whole, damages()))
    )
    shown = command("--reward", "dual_track")
    assert shown.exit_code == 0 and "earns 0.475 to 0.500, more than the intended 0.40" in " ".join(
        shown.stdout.split()
    )
    assert "uncertainty" not in shown.stdout
    assert "Example: vzero-harness audit" in command("--help").stdout


def test_wrong_use_of_the_command() -> None:
    for words in (["--reward", "nothing"], ["--votes", "0"]):
        refused = command(*words)
        assert refused.exit_code == 2 and refused.stdout == "" and refused.stderr.startswith("error: ")


def test_each_known_defect_shows_its_damage() -> None:
    found = {one.name: one for one in damages()}
    assert list(found) == ["blind_server", *DEFECTS]
    # Blind votes are a quarter each whatever is asked, so hard and easy questions earn the same.
    blind = found["blind_server"]
    assert blind.without > 0.3 and blind.with_ == pytest.approx(0, abs=1e-12)
    # Reading prose, a reply without an answer votes A ("It is a circle next to point B"): 4 of 10 votes, as
    # many as the right option gets.
    assert found["article_votes"].without > 0.9 and found["article_votes"].with_ < 0.6
    # c over readable votes alone: E[c] = E[top / readable], here by simulation.
    generator = random.Random(0)
    means = []
    for drop in (False, True):
        total = 0.0
        for _ in range(20_000):
            cast = list(
                generator.choices(["right", "x", "y", "z", None], [0.4, 0.2 / 3, 0.2 / 3, 0.2 / 3, 0.4], k=10)
            )
            readable = [v for v in cast if v is not None]
            top = max((readable.count(v) for v in set(readable)), default=0)
            total += top / (len(readable) or 1) if drop else top / 10
        means.append(total / 20_000)
    dropped = found["unparsed_dropped"]
    assert (dropped.without, dropped.with_) == pytest.approx(means, abs=0.01)
    assert found["three_prompts"].without > 0.8 and found["three_prompts"].with_ < 0.35
    # Bin(10, p) between 1 and 9: 1 - .95^10 - .05^10 for easy images, nearly all hard ones.
    easy, hard = 1 - 0.95**10 - 0.05**10, 1 - 2 * 0.5**10
    assert found["label_selection"].with_ == pytest.approx(easy / (easy + hard))


def test_the_fixes_close_the_known_hole() -> None:
    rules, notes = of_arms(
        chosen("v-zero,frozen-intuition,capped-mismatch,answerable,repaired,one-iteration,frozen-questioner")
    )
    assert [one.name for one in rules] == [
        "v-zero",
        "frozen-intuition",
        "capped-mismatch",
        "answerable",
        "repaired",
    ]
    assert [note.split(":")[0] for note in notes] == ["frozen-questioner", "one-iteration"]
    able = SOLVERS[1]
    by = {one.name: one for one in rules}
    # The wrong guess on an easy question, c = .95: .5c; with a frozen intuition it is right, so 1-c; capped
    # min(.5c, 1-c).
    earned = {name: row(one, "wrong on easy", able, 10).reward for name, one in by.items()}
    assert earned["v-zero"] == pytest.approx(0.475, abs=1e-3) and earned["answerable"] == earned["v-zero"]
    assert earned["frozen-intuition"] == pytest.approx(0.05, abs=0.001) and earned[
        "capped-mismatch"
    ] == pytest.approx(0.05, abs=0.001)
    # A question without a right option: four even chances, so another set of votes follows the majority one
    # time in four.
    kept = {name: row(one, "unanswerable", able, 10).kept for name, one in by.items()}
    assert kept["answerable"] == pytest.approx(kept["v-zero"] / 4) and kept["repaired"] == kept["answerable"]
    # Of hard questions it keeps two in three, and nearly all of those it keeps are labelled right.
    before, after = (row(by[name], "honest, hard", able, 10) for name in ("v-zero", "answerable"))
    assert after.kept > 0.6 * before.kept and before.label_accuracy < 0.82 and after.label_accuracy > 0.98


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["blind-solver", "answerable", "frozen-intuition", "random-label", "supervised", "article-votes"]
)
def test_simulated_arms_agree_with_enumerated_ones(name: str) -> None:
    [rules], _ = of_arms(chosen(name))
    weak = SOLVERS[2]
    for player in ("honest, hard", "unanswerable"):
        exact, drawn = row(rules, player, weak, 10), row(rules, player, weak, 10, draws=4000)
        assert abs(drawn.reward - exact.reward) < 2.1 * (drawn.high - drawn.low) / 2
        assert drawn.kept == pytest.approx(exact.kept, abs=0.03) and drawn.usable == pytest.approx(
            exact.usable, abs=0.03
        )


def test_labels_that_are_not_the_majority_by_hand() -> None:
    random_, truth = (of_arms(chosen(name))[0][0] for name in ("random-label", "supervised"))
    assert row(random_, "honest, hard", EVEN, 10).label_accuracy == pytest.approx(0.25)
    assert row(truth, "honest, hard", EVEN, 10).label_accuracy == pytest.approx(1.0)
    assert row(truth, "unanswerable", EVEN, 10).kept == 0.0


@pytest.mark.slow
def test_arms_from_the_command() -> None:
    shown = command("--arm", "fixes", "--json")
    found = json.loads(shown.stdout)
    assert shown.exit_code == 0 and {one["rules"] for one in found["rows"]} == {
        "frozen-intuition",
        "capped-mismatch",
        "answerable",
        "repaired",
        "recycled",
        "recycled-uncertainty",
    }
    assert found["defects"] == [] and found["notes"][0].startswith("frozen-twice:")
    refused = command("--arm", "nothing")
    assert refused.exit_code == 2 and refused.stderr.startswith("error: There is no arm")
