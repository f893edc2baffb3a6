"""Arms of the user's own, out of files, beside the shipped ones.

A `.py` file is a reward file (vzero.arms.reward_file): what it defines is its own, all else V-Zero's. A
`.toml` file is any change of settings:

    summary = "half the Solver's learning rate"  # one line
    step_matched = false                         # true: its Solver trains on as many questions as V-Zero's
    reward = "doubt.py"                          # optional, a reward file beside this one

    [changes]                                    # settings of a preset, as in a preset
    solver.grpo.learning_rate = 5e-5
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Collection
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from vzero.arms import reward_file
from vzero.arms.arm import Arm
from vzero.config import OWN
from vzero.errors import InputError, machine_failure
from vzero.presets import flatten, read_small, read_toml
from vzero.runtime import artefacts

SUFFIXES = (".py", ".toml")
CATEGORY: Literal["own"] = "own"
KEYS = ("summary", "step_matched", "reward", "changes")
RENAMED = {"says": "summary", "matched": "step_matched"}
OF_THE_GRID = frozenset({"name", "arm", "seed", "step_matched"})  # settings that the grid gives each run


def write_new(name: str, folder: Path, taken: Collection[str]) -> tuple[Path, Path]:
    """An arm to start from, NAME.toml with its NAME.py in `folder`: as it stands, V-Zero.

    Raises:
        InputError: a name that is taken or unfit, or a file that is there or cannot be written.
    """
    arm, reward = folder / f"{name}.toml", folder / f"{name}.py"
    _check_name(name, arm, taken)
    for path in (reward, arm):
        if os.path.lexists(path):
            raise InputError(f"{path} is there already; choose another name, or another folder with --to.")
    for path in (reward, arm):
        text = (resources.files("vzero.arms.methods") / f"template{path.suffix}").read_text(encoding="utf-8")
        try:
            artefacts.write_text(path, text.replace("NAME", name))
        except OSError as error:
            refused = InputError(f"Cannot write {path}: {error.strerror}; choose another folder.")
            raise machine_failure(error, path) or refused from None
    return arm, reward


def read(path: Path, taken: Collection[str]) -> Arm:
    """The arm in a file, named as the file is; names in `taken` are arms already.

    Raises:
        InputError: it cannot be read, is none, or has a name that is taken or unfit for a folder.
    """
    text, name = read_small(path, "arm's file"), _check_name(path.stem, path, taken)
    source = f"{path.name}, sha256 {hashlib.sha256(text.encode()).hexdigest()[:12]}"
    if path.suffix == ".py":
        changes = _reward_changes(path, text)
        return Arm(name, CATEGORY, reward_file.read_source(text).summary, source, changes)
    tree = _checked(path, read_toml(text, str(path)))
    changes = flatten(tree.get("changes", {}))
    for key in changes:
        if key.split(".")[0] in OF_THE_GRID:
            raise InputError(f"{path}: {key!r} is given to each run by the grid; leave it out of an arm.")
        if key.endswith("_source"):
            raise InputError(f"{path}: {key!r} is a program; put it into a file and name that: reward = ...")
    if "reward" in tree:
        reward = path.parent / tree["reward"]
        changes |= _reward_changes(reward, read_small(reward, "arm's file"))
    if not changes:
        raise InputError(f"{path} changes nothing; put settings under [changes].")
    return Arm(name, CATEGORY, tree["summary"].strip(), source, changes, tree.get("step_matched", False))


def _check_name(name: str, path: Path, taken: Collection[str]) -> str:
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,39}", name):
        raise InputError(
            f"{path}: an arm's file is named with small letters, digits and hyphens, at most 40, since its"
            " runs are named so."
        )
    if name in taken:
        raise InputError(f"{path}: there is an arm {name!r} already; give the file another name.")
    return name


def _checked(path: Path, tree: dict[str, Any]) -> dict[str, Any]:
    for key in tree:
        if key in RENAMED:
            raise InputError(f"{path}: {key!r} is now called {RENAMED[key]!r}.")
        if key not in KEYS:
            raise InputError(f"{path}: {key!r} is not part of an arm, which has {', '.join(KEYS)}.")
    summary = tree.get("summary")
    if not (isinstance(summary, str) and summary.strip() and summary.isprintable()):
        raise InputError(f'{path}: an arm needs a summary in one line: summary = "...".')
    for key, kind, what in (
        ("step_matched", bool, "true or false"),
        ("reward", str, "the name of a file"),
        ("changes", dict, "a table of settings"),
    ):
        if key in tree and not isinstance(tree[key], kind):
            raise InputError(f"{path}: {key} is {what}.")
    return tree


def _reward_changes(path: Path, text: str) -> dict[str, Any]:
    """The settings that let a reward file say what it defines."""
    try:
        found = reward_file.read_source(text).functions.keys()
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    changes: dict[str, Any] = {}
    if found & set(reward_file.QUESTIONER):
        changes |= {"questioner.reward": OWN, "questioner.reward_source": text}
    if found & set(reward_file.SOLVER):
        changes |= {"solver.objective": OWN, "solver.reward_source": text}
    for name, key in (("label", "solver.labels"), ("keep", "solver.filter")):
        if name in found:
            changes |= {key: OWN, "solver.selection_source": text}
    return changes
