"""Pictures dealt to other questions."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from PIL import Image

from harness.evals.shuffled import deal
from vzero.errors import InputError


@dataclass(frozen=True)
class Item:
    item_id: str
    family: str
    image: Image.Image
    question: str
    gold: str


def items(count: int) -> list[Item]:
    return [
        Item(f"i{i}", "f", Image.new("RGB", (2, 2), (i, 0, 0)), f"q{i}", "ABCD"[i % 4]) for i in range(count)
    ]


@pytest.mark.parametrize("count", [2, 3, 50])
def test_every_picture_once_and_none_with_its_own_question(count: int) -> None:
    own = items(count)
    dealt = deal(own, "suite")
    assert [(one.item_id, one.family, one.question, one.gold) for one in dealt] == [
        (o.item_id, o.family, o.question, o.gold) for o in own
    ]
    assert sorted(id(one.image) for one in dealt) == sorted(id(one.image) for one in own)
    assert all(one.image is not before.image for one, before in zip(dealt, own, strict=True))
    assert [id(one.image) for one in deal(own, "suite")] == [id(one.image) for one in dealt]


def test_the_deal_is_not_a_shift_and_differs_by_suite() -> None:
    own = items(50)
    places = [own.index(next(o for o in own if o.image is one.image)) for one in deal(own, "suite")]
    assert len({(place - i) % 50 for i, place in enumerate(places)}) > 10
    assert [id(one.image) for one in deal(own, "other")] != [id(one.image) for one in deal(own, "suite")]


def test_a_suite_of_one_is_refused() -> None:
    with pytest.raises(InputError):
        deal(items(1), "suite")
