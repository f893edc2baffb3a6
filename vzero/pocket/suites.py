"""Held-out suites of the pocket world: `pocket_math`, `pocket_logic`, `pocket_vision`, of equal families."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from vzero.pocket.families import FAMILIES, ask
from vzero.pocket.world import render, sample_scene
from vzero.runtime.seeding import derive

SUITES: dict[str, tuple[str, ...]] = {
    f"pocket_{suite}": tuple(name for name, family in FAMILIES.items() if family.suite == suite)
    for suite in ("math", "logic", "vision")
}
_SEED = 20260111  # of the suites themselves: the same questions in every run


@dataclass(frozen=True)
class PocketItem:
    """One held-out question with its options, a 42 x 42 RGB image, and the right letter."""

    item_id: str
    family: str
    image: Image.Image
    question: str
    gold: str


def items(suite: str, split: Literal["dev", "test"], per_family: int) -> list[PocketItem]:
    """`per_family` questions of each family of `suite`, one image each. A smaller number gives a prefix of
    each family's list.

    Raises:
        KeyError: unknown suite.
    """
    found = []
    for name in SUITES[suite]:
        family = FAMILIES[name]
        for index in range(per_family):
            number = derive(_SEED, split, name, index)
            rng = random.Random(number)
            asked = None
            while asked is None:
                _, scene = sample_scene(rng, split, rng.choice(family.kinds))
                asked = ask(rng, family, scene)
            image = Image.fromarray(render(scene, np.random.default_rng(number)))
            found.append(PocketItem(f"{split}-{name}-{index:04d}", name, image, asked.text, asked.gold))
    return found
