"""Pictures dealt to other questions."""

from __future__ import annotations

import pytest

from harness.evals.shuffled import deal
from vzero.errors import InputError


@pytest.mark.parametrize("count", [2, 3, 50])
def test_every_picture_once_and_none_with_its_own_question(count: int) -> None:
    dealt = deal(count, "suite")
    assert sorted(dealt) == list(range(count))
    assert all(shown != index for index, shown in enumerate(dealt))
    assert deal(count, "suite") == dealt


def test_the_deal_is_not_a_shift_and_differs_by_suite() -> None:
    assert len({(shown - index) % 50 for index, shown in enumerate(deal(50, "suite"))}) > 10
    assert deal(50, "other") != deal(50, "suite")


def test_a_suite_of_one_is_refused() -> None:
    with pytest.raises(InputError):
        deal(1, "suite")


def test_the_deal_is_that_of_the_committed_runs() -> None:
    """Written down from the runs of the arm `shuffled-images`: another order would be another control."""
    assert deal(6, "pocket_math") == (2, 3, 5, 0, 1, 4)
