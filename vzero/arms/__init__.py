"""Arms: V-Zero, its ablations and controls, baselines of other papers, and our fixes - over the same stages.

The plan of stages follows from the preset (vzero.selfplay), so there is no code of an arm beyond its reward,
labels or objective. `docs/arms.md` has the table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from vzero.arms import own
from vzero.arms.arm import Arm, shipped
from vzero.errors import InputError

REFERENCE = "v-zero"
ARMS: Mapping[str, Arm] = MappingProxyType({arm.name: arm for arm in shipped()})
CATEGORIES: tuple[str, ...] = tuple(dict.fromkeys(arm.category for arm in ARMS.values()))
_CHOICE = f"all, {', '.join(CATEGORIES)}, {', '.join(ARMS)}, or a .py or .toml file (docs/extending.md)"

__all__ = ["ARMS", "CATEGORIES", "REFERENCE", "Arm", "changes_of", "chosen"]


def chosen(text: str) -> tuple[Arm, ...]:
    """The arms that "paper,controls", "all", "v-zero,random-label" or "v-zero,ideas/doubt.py" names, each
    once.

    Shipped arms come in their order, then those out of files (vzero.arms.own). "all" leaves out the defects.

    Raises:
        InputError: a name that is neither an arm nor a category nor a file, or a file that is no arm.
    """
    words = list(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    wanted: set[str] = set()
    files: dict[str, Arm] = {}
    for word in words:
        if word == "all":
            wanted |= {arm.name for arm in ARMS.values() if arm.category != "defects"}
        elif word in CATEGORIES:
            wanted |= {arm.name for arm in ARMS.values() if arm.category == word}
        elif word in ARMS:
            wanted.add(word)
        elif word.endswith(own.SUFFIXES):
            arm = own.read(Path(word), {*ARMS, *CATEGORIES, *files, "all", "base", own.CATEGORY})
            files[arm.name] = arm
        else:
            raise InputError(f"There is no arm {word!r}; choose among {_CHOICE}.")
    if not words:
        raise InputError(f"--arms names no arm; choose among {_CHOICE}.")
    return (*(arm for arm in ARMS.values() if arm.name in wanted), *files.values())


def changes_of(arm: Arm, step_counts: Sequence[int] | None = None) -> dict[str, Any]:
    """The arm as changes to a preset; `step_counts`: how many questions train the reference's Solver."""
    limits = {"step_matched": list(step_counts)} if arm.step_matched and step_counts is not None else {}
    return {"arm": arm.name, **arm.changes, **limits}
