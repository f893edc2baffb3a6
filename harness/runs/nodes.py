"""What the nodes of one run tell each other: RUN/nodes/K/state.json, rewritten whole by node K, read by the
others.

Node 0 leads: it runs the stages and alone writes to the run (leader.py). Its file assigns the others a
training: which one, and where to meet. Theirs say that they came and how their part ended (worker.py). No
command travels: each node makes its own from its own preset and code, which are compared first. A file that
changes is a heartbeat; clocks of machines are never compared.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Sequence
from pathlib import Path

import harness
import vzero
from harness.runs.launcher import Rendezvous
from vzero.config import Preset, Section
from vzero.errors import InputError, InterruptedRun, VZeroError
from vzero.runtime import artefacts, owned

FOLDER = "nodes"
LOOK = 0.5  # seconds between two looks at another node's file
BEATS = 10  # heartbeats in the time after which a silent node counts as gone


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


class Assignment(Section):
    """Of node 0: all nodes take part in a stage, and meet at `address`:`port`. A session's are counted from
    1."""

    number: int
    stage: str
    address: str
    port: int

    def rendezvous(self, nodes: int, rank: int) -> Rendezvous:
        """The same for node `rank`."""
        return Rendezvous(nodes, rank, self.address, self.port)


class Exit(Section):
    """A node has left, or its part of a stage has failed: with which exit code of the command line, and
    why."""

    exit_code: int
    reason: str

    @classmethod
    def of(cls, error: BaseException) -> Exit:
        """What `error` amounts to."""
        return cls(exit_code=getattr(error, "exit_code", 1), reason=str(error) or type(error).__name__)

    def error(self, prefix: str) -> VZeroError:
        """The same as an exception, its reason after `prefix`."""
        kinds = {kind.exit_code: kind for kind in (InputError, InterruptedRun)}
        return kinds.get(self.exit_code, VZeroError)(f"{prefix}{self.reason}")


class PartResult(Section):
    """How a node's part in an assignment ended: its exit code, None where it was ended when the assignment
    was withdrawn; the error it amounts to."""

    assignment: int
    code: int | None
    failure: Exit | None = None


class NodeState(Section):
    """One node's file. `session` is node 0's runner, by a random name; `process` is this node's, so that one
    which was started again is not taken for the one before."""

    session: str
    process: str
    identity: Identity
    beat: int = 0
    assignment: Assignment | None = None
    result: PartResult | None = None
    exit: Exit | None = None


def identity(preset: Preset) -> Identity:
    """This node's. Of the preset without the evaluation, which is node 0's alone."""
    settings = preset.model_dump(mode="json", exclude={"evaluation"})
    roots = [Path(str(package.__file__)).parent for package in (vzero, harness)]
    files = {
        f"{root.name}/{path.relative_to(root)}": artefacts.sha256_file(path)
        for root in roots
        for path in sorted(root.rglob("*.py"))
    }
    return Identity(
        settings=artefacts.digest(settings),
        code=artefacts.digest(files),
        python=platform.python_version(),
        packages=artefacts.provenance()["packages"],
    )


def folder(run: Path, rank: int) -> Path:
    """Of node `rank`'s file and its lock."""
    return run / FOLDER / str(rank)


def named(ranks: Sequence[int]) -> str:
    """The nodes in words."""
    return f"node{'s' if len(ranks) > 1 else ''} {', '.join(map(str, ranks))}"


class OwnState:
    """This node's file."""

    def __init__(self, run: Path, rank: int, state: NodeState, every: float) -> None:
        """`every`: seconds between two heartbeats."""
        self.path, self.state, self.every = folder(run, rank) / "state.json", state, every
        self._written = float("-inf")

    def write(self, **changes: object) -> None:
        """Write the state with `changes` now."""
        self.state = self.state.model_copy(update={**changes, "beat": self.state.beat + 1})
        artefacts.write_json(self.path, self.state.model_dump(mode="json"))
        self._written = time.monotonic()

    def heartbeat(self) -> None:
        """Write the state again, where a heartbeat is due."""
        if time.monotonic() - self._written >= self.every:
            self.write()


class PeerState:
    """Another node's file."""

    def __init__(self, run: Path, rank: int) -> None:
        self.rank, self.path = rank, folder(run, rank) / "state.json"
        self.changes = 0  # since the first look
        self._found: bytes | None = None
        self._state: NodeState | None = None
        self._changed = self._looked = time.monotonic()
        self._found = self._load()

    def read(self) -> NodeState | None:
        """What it says, None before it says anything; looked up at most every `LOOK` seconds."""
        if time.monotonic() - self._looked >= LOOK:
            self._looked = time.monotonic()
            found = self._load()
            if found is not None and found != self._found:
                self._found, self._changed, self.changes = found, self._looked, self.changes + 1
        return self._state

    @property
    def silent(self) -> float:
        """Seconds without a heartbeat, counted from the first look."""
        return time.monotonic() - self._changed

    def _load(self) -> bytes | None:
        try:
            found = owned.read_bytes(self.path)
            if found != self._found:
                self._state = NodeState.model_validate(json.loads(found))
        except (OSError, ValueError):  # not there, just being replaced, or of another version: no heartbeat
            return None
        return found
