"""Pictures dealt to other questions: what a model that looks must lose, and one that guesses from the text
keeps."""

from __future__ import annotations

import random
from functools import lru_cache

from vzero.errors import InputError
from vzero.runtime.seeding import derive


@lru_cache(maxsize=64)
def deal(count: int, name: str) -> tuple[int, ...]:
    """Whose pictures each of `count` questions is shown: all of them once and none with its own question; the
    same in every run, for every model.

    Raises:
        InputError: one question alone has no other picture.
    """
    if count < 2:
        raise InputError(
            f"The suite {name} has one item, whose picture cannot be exchanged; "
            'use evaluation.images = "own".'
        )
    order = list(range(count))
    random.Random(derive(0, "shuffled-images", name)).shuffle(order)
    after = dict(zip(order, [*order[1:], order[0]], strict=True))
    return tuple(after[index] for index in range(count))
