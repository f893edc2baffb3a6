"""Arms of the user's own, out of files, beside the declared ones.

A `.py` file is a reward of the Questioner, of the Solver or of both (vzero.arms.own_reward), and everything
else V-Zero's. A `.toml` file is any change of settings:

    says = "half the Solver's learning rate"     # one line
    step_matched = false                              # true: its Solver is held to V-Zero's number of training questions
    reward = "doubt.py"                          # optional, a reward file beside this one

    [changes]                                    # settings of a preset, as in a preset
    solver.grpo.learning_rate = 5e-5
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Collection
from pathlib import Path
from typing import Any

from vzero.arms.declared import Arm
from vzero.arms.own_reward import QUESTIONER, SOLVER, defined, summary
from vzero.config import OWN
from vzero.errors import InputError

SUFFIXES = (".py", ".toml")
GROUP = "own"
MOST = 1 << 20  # bytes of a file; it is written into every run
NOT_AN_ARMS = frozenset({"name", "arm", "seed", "step_matched"})  # settings that the grid gives each run


def read(path: Path, taken: Collection[str]) -> Arm:
    """The arm in a file, named as the file is.

    Args:
        taken: names that are arms already.

    Raises:
        InputError: it cannot be read, is none, or has a name that is taken or unfit for a folder.
    """
    name, text = path.stem, _text(path)
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]{0,39}", name):
        raise InputError(
            f"{path}: an arm's file is named with small letters, digits and hyphens, at most 40, since its runs are named so."
        )
    if name in taken:
        raise InputError(f"{path}: there is an arm {name!r} already; give the file another name.")
    if path.suffix == ".py":
        changes = _paying(path, text)
        return Arm(name, GROUP, summary(text), _source(path, text), changes)
    return _declared(path, name, text)


def _declared(path: Path, name: str, text: str) -> Arm:
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path} is not valid TOML: {error}.") from None
    says, step_matched, changes, reward = (
        tree.pop("says", None),
        tree.pop("step_matched", False),
        tree.pop("changes", {}),
        tree.pop("reward", None),
    )
    if tree:
        raise InputError(
            f"{path}: {next(iter(tree))!r} is not part of an arm, which has says, step_matched, reward and [changes]."
        )
    if not (isinstance(says, str) and says.strip() and says.isprintable()):
        raise InputError(f'{path}: an arm says in one line what it does: says = "...".')
    if (
        not isinstance(step_matched, bool)
        or not isinstance(changes, dict)
        or not isinstance(reward, str | None)
    ):
        raise InputError(
            f"{path}: step_matched is true or false, reward the name of a file, and changes a table of settings."
        )
    flat = _dotted(changes)
    for key in flat:
        if key.split(".")[0] in NOT_AN_ARMS:
            raise InputError(f"{path}: {key!r} is given to each run by the grid; leave it out of an arm.")
    paying = {} if reward is None else _paying(path.parent / reward, _text(path.parent / reward))
    if not flat and not paying:
        raise InputError(f"{path} changes nothing; put settings under [changes].")
    return Arm(name, GROUP, says.strip(), _source(path, text), {**flat, **paying}, step_matched)


def _paying(path: Path, text: str) -> dict[str, Any]:
    """The settings by which a role is paid as a reward file says."""
    try:
        found = defined(text)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    asked = {"questioner.reward": OWN, "questioner.reward_source": text} if QUESTIONER in found else {}
    solved = {"solver.objective": OWN, "solver.reward_source": text} if SOLVER in found else {}
    return {**asked, **solved}


def _dotted(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Settings by their dotted keys; a list or a plain value is a leaf."""
    found: dict[str, Any] = {}
    for key, value in tree.items():
        found |= _dotted(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return found


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"Cannot read the arm's file {path}: {error.strerror}.") from None
    if len(data) > MOST:
        raise InputError(f"{path} is larger than 1 MiB, so it is no arm.")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise InputError(f"{path} is not text in UTF-8.") from None


def _source(path: Path, text: str) -> str:
    return f"{path.name}, sha256 {hashlib.sha256(text.encode()).hexdigest()[:12]}"
