"""Held-out suites of the pocket world: `pocket_math`, `pocket_logic`, `pocket_vision`, of equal families."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from PIL import Image

from vzero.pocket.families import FAMILIES, ask
from vzero.pocket.world import Scene, render, sample_scene
from vzero.runtime.seeding import derive

SUITES: dict[str, tuple[str, ...]] = {
    f"pocket_{suite}": tuple(name for name, family in FAMILIES.items() if family.suite == suite)
    for suite in ("math", "logic", "vision")
}
_SEED = 20260111  # of the suites themselves: the same questions in every run


@dataclass(frozen=True)
class PocketItem:
    """One held-out question with its options, its picture in the world, and the right letter."""

    item_id: str
    family: str
    scene: Scene
    number: int
    question: str
    gold: str

    @cached_property
    def image(self) -> Image.Image:
        """42 x 42 RGB, drawn when it is looked at."""
        return Image.fromarray(render(self.scene, np.random.default_rng(self.number)))


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
            item_id = f"{split}-{name}-{index:04d}"
            found.append(PocketItem(item_id, name, scene, number, asked.text, asked.gold))
    return found
