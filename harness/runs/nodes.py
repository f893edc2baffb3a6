"""What the nodes of one run tell each other: one small file each, RUN/nodes/K/state.json, rewritten whole by
node K and read by the others.

Node 0 leads: it runs the stages and alone writes to the run (head.py). Its file calls the others to a
training: which one, and where to meet. Theirs say that they came and how their part ended (agent.py). No
command travels: each node makes its own from its own preset and code, which are compared first. A file that
changes is a sign of life; clocks of machines are never compared.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

import harness
import vzero
from harness.runs.several import Meeting
from vzero.config import Preset, Section
from vzero.errors import InputError, InterruptedRun, VZeroError
from vzero.runtime import artefacts

FOLDER = "nodes"
LOOK = 0.5  # seconds between two looks at another node's file
BEATS = 10  # signs of life in the time after which a silent node counts as gone


class Identity(Section):
    """What must be equal on all nodes: digests of the settings that a training may see and of the program's
    files, and versions."""

    settings: str
    code: str
    python: str
    packages: dict[str, str | None]

    def differences(self, other: Identity) -> list[str]:
        """What is not equal, in words."""
        found = [
            name for name in ("settings", "code", "python") if getattr(self, name) != getattr(other, name)
        ]
        return found + sorted(
            name for name in self.packages if self.packages[name] != other.packages.get(name)
        )


class Call(Section):
    """Of node 0: all nodes are to take part in a stage, and to meet at `address`:`port`. Calls of a session
    are counted from 1."""

    number: int
    stage: str
    address: str
    port: int

    def meeting(self, nodes: int, rank: int) -> Meeting:
        """The same for node `rank`."""
        return Meeting(nodes, rank, self.address, self.port)


class End(Section):
    """A node has left, or its part of a stage has failed: with which exit code of the command line, and
    why."""

    exit_code: int
    reason: str

    def error(self, said: str) -> VZeroError:
        """The same as an exception, its reason after the words `said`."""
        kind = {InputError.exit_code: InputError, InterruptedRun.exit_code: InterruptedRun}.get(
            self.exit_code, VZeroError
        )
        return kind(f"{said}{self.reason}")


class Answer(Section):
    """How a node's part in a call ended: its exit code, None where it was ended when the call was withdrawn;
    the error it amounts to."""

    call: int
    code: int | None
    failure: End | None = None


class State(Section):
    """One node's file. `session` is node 0's runner, by a random name: the one that is, or the one that this
    node has joined; `agent` is this node's, so that one which was started again is not taken for the one
    before."""

    session: str
    agent: str
    identity: Identity
    beat: int = 0
    call: Call | None = None
    answer: Answer | None = None
    end: End | None = None


def identity(preset: Preset) -> Identity:
    """This node's. Of the preset without the evaluation, which is node 0's alone."""
    settings = preset.model_dump(mode="json", exclude={"evaluation"})
    roots = [Path(str(package.__file__)).parent for package in (vzero, harness)]
    files = {
        f"{root.name}/{path.relative_to(root)}": artefacts.sha256_file(path)
        for root in roots
        for path in sorted(root.rglob("*.py"))
    }
    packages = artefacts.provenance()["packages"]
    return Identity(
        settings=artefacts.digest(settings),
        code=artefacts.digest(files),
        python=platform.python_version(),
        packages=packages,
    )


def folder(run: Path, rank: int) -> Path:
    """Of node `rank`'s file and its lock."""
    return run / FOLDER / str(rank)


def named(ranks: Sequence[int]) -> str:
    """The nodes in words."""
    return f"node{'s' if len(ranks) > 1 else ''} {', '.join(map(str, ranks))}"


class Voice:
    """This node's file."""

    def __init__(self, run: Path, rank: int, state: State, every: float) -> None:
        """`every`: seconds between two signs of life."""
        self.path, self.state, self.every = folder(run, rank) / "state.json", state, every
        self._spoke = float("-inf")

    def say(self, state: State) -> None:
        """Write `state` now."""
        self.state = state.model_copy(update={"beat": self.state.beat + 1})
        artefacts.write_json(self.path, self.state.model_dump(mode="json"))
        self._spoke = time.monotonic()

    def beat(self) -> None:
        """Give a sign of life, where one is due."""
        if time.monotonic() - self._spoke >= self.every:
            self.say(self.state)


class Ear:
    """Another node's file."""

    def __init__(self, run: Path, rank: int) -> None:
        self.rank, self.path = rank, folder(run, rank) / "state.json"
        self.changes = 0  # since the first look
        self._found: bytes | None = None
        self._state: State | None = None
        self._changed = self._looked = time.monotonic()
        self._found = self._read()

    def hear(self) -> State | None:
        """What it says, None before it says anything; looked up at most every `LOOK` seconds."""
        if time.monotonic() - self._looked >= LOOK:
            self._looked = time.monotonic()
            found = self._read()
            if found is not None and found != self._found:
                self._found, self._changed, self.changes = found, self._looked, self.changes + 1
        return self._state

    @property
    def silent(self) -> float:
        """Seconds without a sign of life, counted from the first look."""
        return time.monotonic() - self._changed

    def _read(self) -> bytes | None:
        try:
            found = self.path.read_bytes()
            if found != self._found:
                self._state = State.model_validate(json.loads(found))
        except (
            OSError,
            ValueError,
            ValidationError,
        ):  # not there, just being replaced, or of another version: no sign of life
            return None
        return found
