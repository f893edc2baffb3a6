"""A suite with its pictures dealt to other questions: what a model that looks must lose, and one that guesses
from the text keeps."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from harness.evals.pocket_suites import Item
from vzero.errors import InputError
from vzero.runtime.seeding import derive


@dataclass(frozen=True)
class Dealt:
    """An item with another item's picture."""

    item_id: str
    family: str
    image: Image.Image
    question: str
    gold: str


def deal(items: Sequence[Item], suite: str) -> list[Dealt]:
    """Every picture exactly once, none with its own question; the same deal in every run, for every model.

    Raises:
        InputError: a suite of one item has no other picture.
    """
    if len(items) < 2:
        raise InputError(
            f'The suite {suite} has one item, whose picture cannot be exchanged; use evaluation.images = "own".'
        )
    order = list(range(len(items)))
    random.Random(derive(0, "shuffled-images", suite)).shuffle(order)
    picture = {here: items[there].image for here, there in zip(order, [*order[1:], order[0]], strict=True)}
    return [Dealt(one.item_id, one.family, picture[i], one.question, one.gold) for i, one in enumerate(items)]
