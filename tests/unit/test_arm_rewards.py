"""Rewards of the arms against values worked by hand and against other implementations; what the trainers are
told by them."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.stub_engine import StubEngine
from vzero import rewards
from vzero.arms import defects, objectives
from vzero.arms.questioner_rewards import named
from vzero.arms.repetition import bleu, cluster_shares, ngrams
from vzero.arms.scored import ScoredQuestion
from vzero.arms.vote_reward import RewardSpec, VoteReward
from vzero.config import SamplingConfig
from vzero.errors import InputError
from vzero.grpo.data import Prompt
from vzero.grpo.groups import Group
from vzero.images.records import ImageRecord
from vzero.presets import load_preset
from vzero.rollout.protocol import Completion, Request, Rollout

SIX_FOUR = [*"AAAAAA", *"BBB", None]  # c = .6
PICTURE = Image.new("RGB", (2, 2))


def test_zero_sum_by_hand() -> None:
    assert rewards.zero_sum(SIX_FOUR) == 0.4
    assert rewards.zero_sum(list("AAAAAAAAAA")) == 0.0
    assert rewards.zero_sum(["A", *[None] * 9]) == 0.9  # unreadable votes are not the Solver's agreement
    assert rewards.zero_sum([None] * 10) == 0.0 and rewards.zero_sum([]) == 0.0


@pytest.mark.parametrize(
    ("top", "mismatch"), [(3, 0.15), (5, 0.25), (6, 0.30), (7, 0.30), (8, 0.20), (9, 0.10), (10, 0.0)]
)
def test_capped_mismatch_by_hand(top: int, mismatch: float) -> None:
    votes = ["A"] * top + [None] * (10 - top)
    assert rewards.capped_mismatch(votes, "B") == pytest.approx(mismatch, abs=1e-15)
    assert rewards.capped_mismatch(votes, "A") == rewards.uncertainty(votes)
    assert rewards.capped_mismatch(votes, None) == -1.0 and rewards.capped_mismatch([None] * 3, "B") == 0.0


@given(st.lists(st.sampled_from([*"ABCD", None]), min_size=1, max_size=12), st.sampled_from("ABCD"))
def test_the_cap_only_takes_away(votes: list[str | None], intuitive: str) -> None:
    capped, paid = rewards.capped_mismatch(votes, intuitive), rewards.dual_track(votes, intuitive)
    assert capped <= paid
    if paid > 0 and len(set(votes)) == 1:
        assert capped == 0.0


def alone(name: str, votes: Sequence[str | None], own: str | None = "A") -> float:
    return named(name).reward(ScoredQuestion("q", own, tuple(votes)))


def test_r_zeros_uncertainty_by_hand() -> None:
    assert alone("r_zero", SIX_FOUR, "A") == 0.4
    assert alone("r_zero", SIX_FOUR, "B") == 0.0  # the majority is not the writer's answer
    assert alone("r_zero", ["A", *[None] * 9], "A") == 0.0  # c = .1 is not above .1
    assert alone("r_zero", [None] * 3, None) == 0.0


def test_the_entropy_band_by_hand() -> None:
    # Two equal answers: H = ln 2; one answer: H = 0; three, one, one of five: the paper's kind of case.
    assert alone("evolmm", "AABB") == pytest.approx(math.exp(-((math.log(2) - 0.9) ** 2) / 0.245))
    assert alone("evolmm", "AAAA") == pytest.approx(math.exp(-0.81 / 0.245))
    entropy = -(0.6 * math.log(0.6) + 2 * 0.2 * math.log(0.2))
    assert alone("evolmm", ["A", "A", "A", "B", None]) == pytest.approx(
        math.exp(-((entropy - 0.9) ** 2) / 0.245)
    )
    assert alone("evolmm", []) == 0.0


def test_the_difficulty_of_tokens_by_hand() -> None:
    band = math.exp(-((math.log(2) - 0.9) ** 2) / 0.245)  # of two answers, five votes each

    def asked(votes: str, *entropies: float) -> ScoredQuestion:
        return ScoredQuestion("q", "A", tuple(votes), token_entropies=entropies)

    # The largest of a question's tokens, ranked among valid ones: 2.0, 0.5, 0.5, 3.0.
    batch = [
        asked("A" * 10, 0.1, 2.0),
        None,
        asked("AB" * 5, 0.5),
        asked("A" * 10, 0.5),
        asked("BA" * 5, 3.0),
    ]
    assert named("token_entropy").score(batch) == pytest.approx(
        [0.7 * 0.5, -1.0, 0.3 * band, 0.0, 0.7 * 0.75 + 0.3 * band]
    )
    alone = named("token_entropy").reward
    assert alone(asked("AAAA", 2.0)) == pytest.approx(0.35)  # the middle of the sigmoid
    assert alone(asked("AAAA", 4.0)) == pytest.approx(0.7 / (1 + math.exp(-3)))
    assert alone(asked("ABABABABAB")) == pytest.approx(0.3 * band) and alone(asked("AAAA")) == 0.0


def test_a_reward_is_told_how_unsure_the_solver_is_of_its_first_tokens() -> None:
    """A stub's entropies, each to its own question; nothing of those that were not asked."""
    entropies = iter([(0.5, 1.5), (2.5,)])

    def look(requests: Sequence[Request]) -> list[tuple[float, ...]]:
        return [next(entropies) for _ in requests]

    pay = RewardSpec(named("token_entropy"), entropies=look)
    engine = Answering(*["\\boxed{ B }"] * 10)
    scores = reward_with(engine, pay)([group(WRITTEN.format("B"), "none", WRITTEN.format("A"))], 0)
    assert scores.rewards == [[0.0, -1.0, pytest.approx(0.7 * 0.5)]]
    assert scores.reward_inputs is not None
    assert [one.get("token_entropies") for one in scores.reward_inputs[0]] == [[0.5, 1.5], None, [2.5]]
    plain = reward_with(engine, RewardSpec())([group(WRITTEN.format("B"), WRITTEN.format("A"))], 0)
    assert scores.vote_tokens == plain.vote_tokens + 3
    with pytest.raises(InputError, match="token_entropies = 5"):
        load_preset("smoke", changes={"questioner.reward": "token_entropy"})
    with pytest.raises(InputError, match="whole vocabulary"):
        load_preset("smoke", changes={"questioner.token_entropies": 5, "engine.name": "vllm"})


def test_group_rewards_by_hand() -> None:
    assert rewards.group_majority(["B", None, "A", "B"]) == [1.0, 0.0, 0.0, 1.0]
    assert rewards.group_majority([None, None, "C"]) == [0.0, 0.0, 1.0]  # what cannot be read is no majority
    assert rewards.group_majority([None, None]) == [0.0, 0.0]
    texts = [f"{'word ' * words}\\boxed{{ {letter} }}" for words, letter in ((6, "A"), (9, "A"), (30, "B"))]
    found = objectives.named("consistency", 0, 1)([group(*texts, "no box")], 0).rewards[0]
    assert found == [0.5**0.7, 0.5**0.7 * (1 - 0.1 * 0.5), 0.25**0.7 * (1 - 0.1), 0.0]


def sentences(count: int) -> list[str]:
    rng = random.Random(0)
    words = [
        "how",
        "many",
        "red",
        "blue",
        "circles",
        "what",
        "is",
        "the",
        "A)",
        "B)",
        "C)",
        "1",
        "2",
        "3",
        "4",
        "?",
    ]
    return [" ".join(rng.choices(words, k=rng.randint(0, 14))) for _ in range(count)]


@pytest.mark.slow
def test_bleu_is_nltks() -> None:
    translate = pytest.importorskip("nltk.translate.bleu_score")
    smooth, texts, rng = translate.SmoothingFunction().method1, sentences(60), random.Random(1)
    for _ in range(400):
        one, other = rng.choice(texts), rng.choice(texts)
        assert bleu(ngrams(one), ngrams(other)) == pytest.approx(
            translate.sentence_bleu([one.split()], other.split(), smoothing_function=smooth), abs=1e-12
        )


@pytest.mark.slow
def test_clusters_are_scikit_learns() -> None:
    cluster = pytest.importorskip("sklearn.cluster")
    texts = [
        *sentences(50),
        *["how many red circles ? A) 1 B) 2 C) 3 D) 4"] * 6,
        "how many red circles ? A) 1 B) 2 C) 3 D) 5",
        "",
        "",
    ]
    between = [
        [
            0.0 if i == j else 1 - bleu(ngrams(texts[max(i, j)]), ngrams(texts[min(i, j)]))
            for j in range(len(texts))
        ]
        for i in range(len(texts))
    ]
    model = cluster.AgglomerativeClustering(
        n_clusters=None, distance_threshold=0.5, metric="precomputed", linkage="average"
    )
    labels = model.fit_predict(between).tolist()
    sizes = Counter(labels)
    assert cluster_shares(texts) == pytest.approx([sizes[label] / len(texts) for label in labels])
    assert cluster_shares(["one question"]) == [1.0] and cluster_shares([]) == []


def test_rewards_less_repetition() -> None:
    same = ScoredQuestion("how many red circles are there ? A) 1 B) 2 C) 3 D) 4", "A", tuple(SIX_FOUR))
    other = ScoredQuestion("which colour is at c5 ? A) red B) blue C) green D) yellow", "B", tuple(SIX_FOUR))
    # Three of five alike; the invalid one and the odd one stand alone.
    batch = [same, same, same, other, None]
    assert named("visplay").score(batch) == pytest.approx([-0.2, -0.2, -0.2, 0.2, -1.2])
    assert named("r_zero").score(batch) == pytest.approx(
        [-0.2, -0.2, -0.2, -0.2, -1.2]
    )  # `other` is not answered as its writer would
    assert named("dual_track").score(batch) == pytest.approx([0.4, 0.4, 0.4, 0.3, -1.0])


def test_no_intuition_is_never_better_than_a_right_one() -> None:
    for name in ("dual_track", "capped_mismatch"):
        assert (
            named(name).score(
                [ScoredQuestion("q", None, tuple("AAAAAAAAAA")), ScoredQuestion("q", "B", tuple("AAAAA"))]
            )[0]
            == 0.0
        )


def group(*texts: str, key: str = "q0", label: str | None = "B") -> Group:
    drawn = tuple(Completion(text, (1, 2), (-0.1, -0.2), "stop") for text in texts)
    return Group(Prompt(key, (), ImageRecord(key, Path("x"), "", 2, 2), label), drawn)


BOXES = ("<think> so it is </think> \\boxed{ A }", "\\boxed{ A }", "\\boxed{ B }", "no box")


def test_objectives_by_hand() -> None:
    def paid(name: str) -> list[float]:
        return list(objectives.named(name, 0, 1)([group(*BOXES)], 0).rewards[0])

    assert paid("labels") == [0.0, 0.0, 1.0, 0.0]
    assert paid("group_majority") == [1.0, 1.0, 0.0, 0.0]
    assert paid("format") == [1.0, 1.0, 1.0, 0.0]
    assert paid("consistency") == pytest.approx([0.5**0.7, 0.5**0.7, 0.25**0.7, 0.0])


def test_the_random_reward_knows_nothing_and_is_repeatable() -> None:
    reward = objectives.named("random", 3, 1)
    groups = [group(*BOXES, key=f"q{i}") for i in range(1000)]
    drawn = reward(groups, 0).rewards
    assert drawn == reward(groups, 0).rewards and drawn != reward(groups, 1).rewards
    flat = [value for one in drawn for value in one]
    assert set(flat) == {0.0, 1.0} and abs(sum(flat) / len(flat) - 0.5) < 4 * 0.5 / len(flat) ** 0.5
    for place in range(len(BOXES)):  # no kind of answer is favoured
        assert abs(sum(one[place] for one in drawn) / 1000 - 0.5) < 4 * 0.5 / 1000**0.5
    others = [group("\\boxed{ C }", "x", "y", "z", key=f"q{i}") for i in range(1000)]
    assert reward(others, 0).rewards == drawn


class Answering(StubEngine):
    """An engine that gives each request the same texts, and remembers what it was asked."""

    def __init__(self, *texts: str) -> None:
        self.texts, self.asked = texts, []

    def generate(self, requests: Sequence[Request], sampling: SamplingConfig) -> list[Rollout]:
        self.asked.append((list(requests), sampling))
        return [
            Rollout(3, tuple(Completion(text, (1, 2, 3), (0.0,) * 3, "stop") for text in self.texts))
            for _ in requests
        ]


WRITTEN = (
    "<description> d </description> <question> how many ? A) 1 B) 2 C) 3 D) 4 </question>"
    " <answer> {} </answer>"
)


def reward_with(engine: Answering, pay: RewardSpec):
    sampling = SamplingConfig(n=10, temperature=1.0, top_k=40, max_new_tokens=8)
    return VoteReward(
        engine, sampling, "pocket", lambda record: PICTURE, lambda generation, key, index: 7, (0.3, 0.8), pay
    )


def test_a_blind_solver_is_shown_no_image() -> None:
    engine = Answering(*["\\boxed{ B }"] * 6, *["x"] * 4)
    scores = reward_with(engine, RewardSpec(votes_see_image=False))([group(WRITTEN.format("B"))], 0)
    [(requests, _)] = engine.asked
    assert [one.image for one in requests] == [None] and "how many" in requests[0].messages[-1].text
    assert scores.rewards == [[0.4]]
    sighted = Answering("\\boxed{ B }")
    reward_with(sighted, RewardSpec())([group(WRITTEN.format("B"))], 0)
    assert sighted.asked[0][0][0].image is PICTURE


def test_the_intuition_of_a_frozen_model_replaces_the_writers() -> None:
    voters, base = Answering(*["\\boxed{ B }"] * 10), Answering("\\boxed{ B }")
    wrong_on_purpose = [group(WRITTEN.format("C"), "nonsense")]
    assert reward_with(Answering(*["\\boxed{ B }"] * 10), RewardSpec())(wrong_on_purpose, 0).rewards == [
        [0.5, -1.0]
    ]
    scores = reward_with(voters, RewardSpec(intuition=base))(wrong_on_purpose, 0)
    assert scores.rewards == [[0.0, -1.0]]  # c = 1 and the base says B as well
    assert scores.metrics["agreement"] == 1.0 and scores.vote_tokens == 11 * 3
    [(requests, sampling)] = base.asked
    assert (sampling.n, sampling.temperature, sampling.top_k, sampling.max_new_tokens) == (
        1,
        0.0,
        0,
        8,
    ) and requests[0].image is PICTURE


def test_defective_readers_by_hand() -> None:
    prose = "The figure shows a circle.\nSo the answer is C."
    assert defects.read_prose("<think> x </think> \\boxed{ C }") == "C" and defects.read_prose(prose) == "C"
    assert (
        defects.read_prose("The figure shows a circle, so the answer is C.") == "A"
    )  # the article comes first in its line
    assert (
        defects.read_prose("truncated reasoning about a line BD and a chord") == "A"
        and defects.read_prose("nothing here") is None
    )
    assert defects.read_tags("so <answer> b </answer>") == "B"
    assert defects.read_tags("As a result \\boxed{C}") == "A" and defects.read_tags("\\boxed{C}") == "C"
    assert (
        defects.read_prose("\n".join(["it is B", *["none of these"] * 5])) is None
    )  # only the last five lines are read
    counted = defects.tally_parsed(["A", None, None, None])
    assert (counted.answer, counted.confidence, counted.n) == ("A", 1.0, 1) and defects.tally_parsed(
        [None]
    ).answer is None
    both = ("article_votes", "unparsed_dropped")
    assert defects.reader(both) is defects.read_prose and defects.counter(both) is defects.tally_parsed
    assert defects.reader(())("a") is None
