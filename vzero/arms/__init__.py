"""Arms: V-Zero, its ablations and controls, baselines of other papers, and our fixes - over the same stages.

The plan of stages follows from the preset (vzero.selfplay), so there is no code of an arm beyond its reward,
labels or objective. `docs/arms.md` has the table.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from vzero.arms import own
from vzero.arms.arm import Arm, shipped
from vzero.errors import InputError

REFERENCE = "v-zero"
ARMS: Mapping[str, Arm] = MappingProxyType({arm.name: arm for arm in shipped()})
CATEGORIES: tuple[str, ...] = tuple(dict.fromkeys(arm.category for arm in ARMS.values()))
TAKEN = frozenset({*ARMS, *CATEGORIES, "all", "base", own.CATEGORY})  # no file's name
_CHOICE = f"all, {', '.join(CATEGORIES)}, {', '.join(ARMS)}, or a .py or .toml file (docs/extending.md)"

_SUFFIX = {"steps": "-step-matched", "compute": "-compute-matched"}

__all__ = [
    "ARMS",
    "CATEGORIES",
    "REFERENCE",
    "TAKEN",
    "Arm",
    "changes_of",
    "chosen",
    "known",
    "matched",
    "matched_by",
    "matched_names",
]


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
            arm = own.read(Path(word), {*TAKEN, *files})
            files[arm.name] = arm
        else:
            raise InputError(f"There is no arm {word!r}; choose among {_CHOICE}.")
    if not words:
        raise InputError(f"--arms names no arm; choose among {_CHOICE}.")
    return (*(arm for arm in ARMS.values() if arm.name in wanted), *files.values())


def matched(arm: Arm, by: Literal["steps", "compute"]) -> Arm:
    """The form of an arm that has the reference's Solver steps, or its total compute; a shipped one where
    there is one."""
    if arm.name == REFERENCE or (by == "steps" and arm.step_matched):
        return arm
    form = ARMS.get(arm.matched_form_of or "")  # frozen-twice is one of an arm that has other changes
    base = form.name if form is not None and form.changes == arm.changes else arm.name
    for one in ARMS.values():
        same = one.matched_form_of == base and one.changes == arm.changes
        if by == "steps" and same and one.step_matched:
            return one
    return replace(
        arm,
        name=base + _SUFFIX[by],
        summary=f"{base} at V-Zero's {'number of Solver steps' if by == 'steps' else 'total compute'}",
        step_matched=by == "steps",
        compute_matched=by == "compute",
        matched_form_of=base,
    )


def matched_names(name: str) -> tuple[str, ...]:
    """Names of the forms of an arm at the reference's compute or steps, the stricter one first."""
    shipped_forms = (one.name for one in ARMS.values() if one.matched_form_of == name)
    return (name + _SUFFIX["compute"], *shipped_forms, name + _SUFFIX["steps"])


def matched_by(name: str) -> Literal["steps", "compute"]:
    """What an arm that is held to the reference has like it."""
    return "compute" if name.endswith(_SUFFIX["compute"]) else "steps"


def known(name: str) -> Arm | None:
    """The shipped arm of a name, or the one that a matched form of this name was made of."""
    bases = (name.removesuffix(suffix) for suffix in _SUFFIX.values())
    return next((ARMS[one] for one in (name, *bases) if one in ARMS), None)


def changes_of(arm: Arm, step_counts: Sequence[int] | None = None) -> dict[str, Any]:
    """The arm as changes to a preset; `step_counts`: how many questions may train its Solver, by
    iteration, where it is matched."""
    held = arm.step_matched or arm.compute_matched
    limits = {"step_matched": list(step_counts)} if held and step_counts is not None else {}
    return {"arm": arm.name, **arm.changes, **limits}
