"""One arm: a name, where it comes from, and the few settings by which it differs from V-Zero."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, Literal

from vzero.presets import flatten, read_toml


@dataclass(frozen=True)
class Arm:
    """One way to train.

    Attributes:
        name: on the command line and in results.
        category: the paper's own arms, controls, other methods, our fixes, known defects, or files of a user.
        summary: what it does, in one line.
        source: paper or code, or "ours".
        changes: dotted settings by which it differs from V-Zero.
        step_matched: whether its Solver is held to V-Zero's number of training questions.
        compute_matched: whether its Solver trains on so many questions that the total compute is V-Zero's.
        matched_form_of: the arm that it is at V-Zero's steps or compute; claims about that one are judged by
            this one.
    """

    name: str
    category: Literal["paper", "controls", "baselines", "fixes", "defects", "own"]
    summary: str
    source: str
    changes: Mapping[str, Any] = field(default_factory=dict)
    step_matched: bool = False
    compute_matched: bool = False
    matched_form_of: str | None = None


def shipped() -> tuple[Arm, ...]:
    """The arms of shipped.toml, in its order."""
    text = (resources.files("vzero.arms") / "shipped.toml").read_text(encoding="utf-8")
    tree = read_toml(text, "shipped.toml")
    return tuple(
        Arm(name, **{**one, "changes": flatten(one.get("changes", {}))}) for name, one in tree.items()
    )
