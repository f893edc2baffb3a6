"""Sampling against rows worked by hand and frequencies against probabilities."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from vzero.config import SamplingConfig
from vzero.rollout import sampling as s

LOG = [math.log(p) for p in (0.1, 0.4, 0.2, 0.3)]
NONE = torch.zeros(4, dtype=torch.bool)


def config(**changes: object) -> SamplingConfig:
    return SamplingConfig(max_new_tokens=8, **changes)


def probabilities(row: list[float], **changes: object) -> list[float]:
    adjusted = s.adjust(torch.tensor([row]), config(**changes), NONE, torch.zeros(1, 4, dtype=torch.bool))
    return s.log_distribution(adjusted, config(**changes)).exp()[0].tolist()


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, [0.1, 0.4, 0.2, 0.3]),
        ({"top_k": 2}, [0, 4 / 7, 0, 3 / 7]),
        ({"top_k": 1}, [0, 1, 0, 0]),
        ({"top_k": 4}, [0.1, 0.4, 0.2, 0.3]),
        ({"top_k": 9}, [0.1, 0.4, 0.2, 0.3]),
        ({"top_p": 0.39}, [0, 1, 0, 0]),
        ({"top_p": 0.41}, [0, 4 / 7, 0, 3 / 7]),
        ({"top_p": 0.71}, [0, 4 / 9, 2 / 9, 3 / 9]),
        ({"top_p": 0.91}, [0.1, 0.4, 0.2, 0.3]),
        ({"top_p": 1e-9}, [0, 1, 0, 0]),
        # top-p acts on what top-k left: masses 4/9, 3/9, 2/9; .8 of them needs all three, .7 of them two
        ({"top_k": 3, "top_p": 0.8}, [0, 4 / 9, 2 / 9, 3 / 9]),
        ({"top_k": 3, "top_p": 0.7}, [0, 4 / 7, 0, 3 / 7]),
        # temperature 1/2 squares the odds: 1, 16, 4, 9 of 30; then the first alone has more than half
        ({"temperature": 0.5}, [1 / 30, 16 / 30, 4 / 30, 9 / 30]),
        ({"temperature": 0.5, "top_p": 0.5}, [0, 1, 0, 0]),
    ],
)
def test_filters_worked_by_hand(changes: dict[str, object], expected: list[float]) -> None:
    assert probabilities(LOG, **changes) == pytest.approx(expected, abs=1e-6)


def test_ties_stay_in_top_k_and_lowest_id_leads_in_top_p() -> None:
    assert probabilities([0.0, 1.0, 1.0, 1.0], top_k=2) == pytest.approx([0, 1 / 3, 1 / 3, 1 / 3])
    assert probabilities([0.0, 0.0, 0.0, 0.0], top_p=0.5) == pytest.approx([0.5, 0.5, 0, 0])


ROWS = st.lists(
    st.lists(st.sampled_from([-math.inf, -2.0, -0.0, 0.0, 0.5, 1.0, 1.25]), min_size=7, max_size=7),
    min_size=1,
    max_size=4,
).filter(lambda rows: all(max(row) > -math.inf for row in rows))


@given(ROWS, st.integers(1, 6), st.floats(0.05, 0.95))
@settings(deadline=None)
def test_filters_keep_what_a_sort_in_python_keeps(rows: list[list[float]], k: int, p: float) -> None:
    """Many equal logits, both zeros and dropped tokens among them."""
    top_k, top_p = (
        kept(torch.tensor(rows)) for kept in (lambda x: s.keep_top_k(x, k), lambda x: s.keep_top_p(x, p))
    )
    for row, by_k, by_p in zip(rows, top_k.tolist(), top_p.tolist(), strict=True):
        order = sorted(range(len(row)), key=lambda i: (-row[i], i))
        mass = np.cumsum([math.exp(row[i]) for i in order]) / sum(map(math.exp, row))
        near = any(math.isclose(one, p, abs_tol=1e-9) for one in mass)
        kept = {i for place, i in enumerate(order) if place == 0 or mass[place - 1] < p}
        assert by_k == [x if x >= row[order[k - 1]] else -math.inf for x in row]
        assert near or by_p == [x if i in kept else -math.inf for i, x in enumerate(row)]


def test_repetition_penalty_divides_positive_and_multiplies_negative() -> None:
    seen = torch.tensor([[True, True, False, False]])
    adjusted = s.adjust(torch.tensor([[3.0, -3.0, 3.0, -3.0]]), config(repetition_penalty=1.5), NONE, seen)
    assert adjusted[0].tolist() == pytest.approx([2.0, -4.5, 3.0, -3.0])


def test_forbidden_is_masked_before_everything() -> None:
    forbidden = torch.tensor([False, True, False, False])  # the likeliest
    row = torch.tensor([LOG])
    adjusted = s.adjust(row, config(top_k=1), forbidden, None)
    assert s.log_distribution(adjusted, config(top_k=1)).exp()[0].tolist() == [0, 0, 0, 1]
    token, _ = s.draw(row, config(temperature=0), torch.zeros(1, dtype=torch.float64), forbidden)
    assert token.tolist() == [3]


def test_greedy_takes_the_lowest_id_of_equals() -> None:
    tokens, logprobs = s.draw(
        torch.tensor([[0.0, 2.0, 2.0, 1.0]]), config(temperature=0), torch.zeros(1, dtype=torch.float64), NONE
    )
    assert (tokens.tolist(), logprobs.tolist()) == ([1], [0.0])


def test_tiny_temperature_does_not_overflow() -> None:
    logits = torch.tensor([[1e4, 2e4, -1e4, 0.0]])
    tokens, logprobs = s.draw(
        logits, config(temperature=1e-30), torch.tensor([0.999], dtype=torch.float64), NONE
    )
    assert (tokens.tolist(), logprobs.tolist()) == ([1], [0.0])


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_logits_that_are_no_numbers_are_an_error(bad: float, temperature: float) -> None:
    with pytest.raises(FloatingPointError):
        s.draw(
            torch.tensor([LOG, [0.0, bad, 0.0, 0.0]]),
            config(temperature=temperature),
            torch.zeros(2, dtype=torch.float64),
            NONE,
        )


def test_nothing_left_to_draw_is_an_error() -> None:
    with pytest.raises(FloatingPointError):
        s.draw(torch.tensor([LOG]), config(), torch.zeros(1, dtype=torch.float64), ~NONE)


@pytest.mark.parametrize(
    ("number", "token"),
    [
        (0.0, 0),
        (0.0999, 0),
        (0.1001, 1),
        (0.4999, 1),
        (0.5001, 2),
        (0.6999, 2),
        (0.7001, 3),
        (math.nextafter(1, 0), 3),
    ],
)
def test_inverse_of_the_cumulative_distribution(number: float, token: int) -> None:
    assert s.invert(torch.tensor([LOG]), torch.tensor([number], dtype=torch.float64)).tolist() == [token]


@given(st.lists(st.floats(-8, 8), min_size=2, max_size=12), st.floats(0, math.nextafter(1, 0)), st.data())
@settings(deadline=None)
def test_a_token_of_probability_zero_is_never_drawn(
    row: list[float], number: float, data: st.DataObject
) -> None:
    dropped = data.draw(st.sets(st.integers(0, len(row) - 1), max_size=len(row) - 1))
    logits = torch.tensor([[-math.inf if i in dropped else x for i, x in enumerate(row)]])
    token = s.invert(torch.log_softmax(logits, -1), torch.tensor([number], dtype=torch.float64)).item()
    assert token not in dropped
    assert 0 <= token < len(row)


def test_frequencies_match_probabilities() -> None:
    n = 20_000
    numbers = torch.from_numpy(s.uniforms([(7, i) for i in range(n)], 1)[:, 0])
    tokens, logprobs = s.draw(torch.tensor([LOG]).expand(n, 4), config(top_k=3), numbers, NONE)
    counts = torch.bincount(tokens, minlength=4).numpy()
    assert counts[0] == 0
    assert stats.chisquare(counts[1:], n * np.array([4 / 9, 2 / 9, 3 / 9])).pvalue > 1e-4
    assert logprobs[tokens == 2][0].item() == pytest.approx(math.log(2 / 9), abs=1e-6)


def test_uniforms_are_a_function_of_seed_and_index() -> None:
    pairs = [(seed, index) for seed in (0, 1, 2**62) for index in range(10)]
    streams = s.uniforms(pairs, 4)
    assert len({tuple(one) for one in streams}) == 30
    assert ((streams >= 0) & (streams < 1)).all()
    for pair, stream in zip(pairs, streams, strict=True):
        assert s.uniforms([pair], 9)[0, :4].tolist() == stream.tolist()
    # Frozen, so that a change of generator cannot pass unnoticed: results are compared across machines and
    # versions.
    assert s.uniforms([(12345, 2)], 2).tolist() == [[0.7572868924852594, 0.48762703241346117]]
