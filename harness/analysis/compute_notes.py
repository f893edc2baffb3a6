"""Equal compute is a rule: where an arm took other images, rollouts or steps than the yardstick, the
difference stands in its row."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from harness.analysis.groups import Group
from harness.analysis.load import DEFAULT_ARM, Loaded

TOLERANCE = 0.005
COMPARED = ("images", "rollouts", "steps")


def beside(rows: Sequence[dict[str, Any]], groups: Sequence[Group], over: Group | None) -> None:
    """Give each row `compute` (means over its seeds) and `compute_note` (how it differs from the yardstick;
    None where it does not).

    The yardstick is the reference where it was trained, else V-Zero, else the first trained arm, at the same
    checkpoint.
    """
    for row, group in zip(rows, groups, strict=True):
        row["compute"] = {} if group.checkpoint == "base" else _spent(group)
        row["compute_note"] = None
    trained = [(row, group) for row, group in zip(rows, groups, strict=True) if group.checkpoint != "base"]
    yardstick = (
        over.arm
        if over is not None and over.checkpoint != "base"
        else _first_arm([group for _, group in trained])
    )
    measures = {group.checkpoint: row["compute"] for row, group in trained if group.arm == yardstick}
    for row, group in trained:
        if group.arm != yardstick:
            row["compute_note"] = difference(
                row["compute"], measures.get(group.checkpoint, {}), str(yardstick)
            )


def difference(own: Mapping[str, float], other: Mapping[str, float], name: str) -> str | None:
    """ "optimizer steps 40 (v-zero: 80)" for every measure known of both that differs by more than half a
    percent; None where none does."""
    if not own or not other:
        return f"not recorded for both this arm and {name}"
    said = [
        f"{key} {own[key]:,.0f} ({name}: {other[key]:,.0f})"
        for key in other
        if key in own and abs(own[key] - other[key]) > TOLERANCE * max(abs(other[key]), 1)
    ]
    return "; ".join(said) or None


def _first_arm(groups: Sequence[Group]) -> str | None:
    arms = [group.arm for group in groups]
    return DEFAULT_ARM if DEFAULT_ARM in arms else arms[0] if arms else None


def _spent(group: Group) -> dict[str, float]:
    found = [_of_run(run, group.checkpoint) for run in group.runs]
    return {
        key: fmean(one.get(key, 0) for one in found)
        for key in dict.fromkeys(key for one in found for key in one)
    }


def _of_run(run: Loaded, checkpoint: str) -> dict[str, float]:
    """Images and optimizer steps up to `checkpoint`; where the run's `compute` is stated and this is its last
    one, also its rollouts."""
    stated = run.results.get("compute")
    if isinstance(stated, Mapping) and checkpoint == run.results["models"][-1]:
        whole = {key: value for key, value in _flat(stated) if key.split(" ")[-1] in COMPARED}
    else:
        whole = {}
    iteration = int(checkpoint[1:]) if checkpoint[1:].isdigit() else 1
    found = {"images": float(run.results["images"]["used"])} if run.results.get("images") else {}
    found |= dict.fromkeys(("questioner steps", "solver steps"), 0.0) if run.results.get("training") else {}
    for name, one in run.results.get("training", {}).items():
        if one.get("iteration", 1) <= iteration:
            key = f"{'questioner' if 'questioner' in name else 'solver'} steps"
            found[key] = found.get(key, 0.0) + one["steps"]
    return {**found, **whole}


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """{"steps": {"solver": 4}} -> ("solver steps", 4.0)."""
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, str(key))
        elif isinstance(value, int | float):
            yield f"{key} {prefix}".strip(), float(value)
