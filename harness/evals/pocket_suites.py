"""Which suites exist: a name and a loader each. A new suite is one more entry in `SUITES`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Protocol

from PIL import Image

from vzero.errors import InputError

LETTERS = frozenset("ABCD")


class Item(Protocol):
    """One held-out question. `question` holds its four options; `gold` is one of "A".."D"."""

    @property
    def item_id(self) -> str: ...
    @property
    def family(self) -> str: ...
    @property
    def image(self) -> Image.Image: ...
    @property
    def question(self) -> str: ...
    @property
    def gold(self) -> str: ...


Loader = Callable[
    [str, int], Sequence[Item]
]  # (split, items per family) -> items, always the same ones in the same order


def _pocket(suite: str, split: str, per_family: int) -> Sequence[Item]:
    from vzero.pocket import suites

    return suites.items(suite, split, per_family)


SUITES: Mapping[str, Loader] = {
    name: partial(_pocket, name) for name in ("pocket_math", "pocket_logic", "pocket_vision")
}


def load(name: str, split: str, per_family: int, loaders: Mapping[str, Loader] = SUITES) -> Sequence[Item]:
    """The items of one suite, checked.

    Raises:
        InputError: an unknown or empty suite, an id that occurs twice, or a gold answer that is no option.
    """
    if name not in loaders:
        raise InputError(
            f"There is no suite {name!r}; choose among {', '.join(sorted(loaders))} in evaluation.suites."
        )
    items = loaders[name](split, per_family)
    if not items:
        raise InputError(
            f"The suite {name} has no items in its {split} split; choose another split or suite."
        )
    repeated = [item_id for item_id, count in Counter(item.item_id for item in items).items() if count > 1]
    if repeated:
        raise InputError(
            f"The suite {name} has several items called {repeated[0]!r}; each needs an id of its own."
        )
    for item in items:
        if item.gold not in LETTERS:
            raise InputError(
                f"Item {item.item_id} of the suite {name} has the gold answer {item.gold!r}, which is none of A, B, C, D."
            )
    return items
