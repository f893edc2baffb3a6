"""Arms: V-Zero, what is left of it in its controls, what others do instead, and what we would mend - all over
the same stages.

An arm is a name, where it comes from, and the few settings by which it differs from V-Zero; the plan of
stages follows from the preset (vzero.selfplay), so there is no code of an arm beyond its reward, labels or
objective. `docs/arms.md` has the table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from vzero.arms import own
from vzero.arms.declared import ARMS as _DECLARED
from vzero.arms.declared import Arm
from vzero.errors import InputError

REFERENCE = "v-zero"
ARMS: Mapping[str, Arm] = MappingProxyType({arm.name: arm for arm in _DECLARED})
GROUPS: tuple[str, ...] = tuple(dict.fromkeys(arm.group for arm in _DECLARED))
_CHOICE = f"all, {', '.join(GROUPS)}, {', '.join(ARMS)}, or a .py or .toml file (docs/extending.md)"

__all__ = ["ARMS", "GROUPS", "REFERENCE", "Arm", "changes_of", "chosen"]


def chosen(text: str) -> tuple[Arm, ...]:
    """The arms that "paper,controls", "all", "v-zero,random-label" or "v-zero,ideas/doubt.py" names, each
    once: the declared ones in their order, then those out of files (vzero.arms.own).

    Raises:
        InputError: a name that is neither an arm nor a group nor a file, or a file that is no arm.
    """
    words = list(dict.fromkeys(word.strip() for word in text.split(",") if word.strip()))
    wanted: set[str] = set()
    files: dict[str, Arm] = {}
    for word in words:
        if word == "all":
            wanted |= {arm.name for arm in _DECLARED if arm.group != "defects"}
        elif word in GROUPS:
            wanted |= {arm.name for arm in _DECLARED if arm.group == word}
        elif word in ARMS:
            wanted.add(word)
        elif word.endswith(own.SUFFIXES):
            arm = own.read(Path(word), {*ARMS, *GROUPS, *files, "all", "base", own.GROUP})
            files[arm.name] = arm
        else:
            raise InputError(f"There is no arm {word!r}; choose among {_CHOICE}.")
    if not words:
        raise InputError(f"--arms names no arm; choose among {_CHOICE}.")
    return (*(arm for arm in _DECLARED if arm.name in wanted), *files.values())


def changes_of(arm: Arm, matched_counts: Sequence[int] | None = None) -> dict[str, Any]:
    """The arm as settings to change in a preset; `matched_counts` is how many questions train the Solver of
    the reference in each iteration."""
    limits = {"step_matched": list(matched_counts)} if arm.step_matched and matched_counts is not None else {}
    return {"arm": arm.name, **arm.changes, **limits}
