"""Any node but 0: joins the run that node 0 leads, takes part in each training it is assigned, and ends with
the run.

It writes nothing into the run but its own file and log. When node 0 is gone its part ends with it.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from harness.runs import nodes, supervise
from harness.runs.folder import locked
from harness.runs.launcher import shell_code
from harness.runs.leader import AGAIN
from harness.runs.nodes import Assignment, Exit, NodeState, OwnState, PartResult, PeerState
from harness.runs.supervise import StageProcess
from vzero.config import Preset
from vzero.errors import InputError, InterruptedRun
from vzero.presets import differences
from vzero.runtime import owned
from vzero.runtime.stage import read_preset
from vzero.selfplay import Stage, plan

LINGER = 30.0  # seconds for a run that was finished before this node looked to begin once more


def serve(run: Path, preset: Preset, rank: int, say: Callable[[str], None]) -> None:
    """Take part in the run in `run` as node `rank`, until node 0 ends it.

    Args:
        say: told each thing that happens, as a sentence.

    Raises:
        InputError: node 0 has other code or settings.
        InterruptedRun: no run begins, node 0 is gone or was interrupted; the same command resumes.
        VZeroError: the run failed.
    """
    say(f"Node {rank} of {preset.launch.nodes}: waiting for node 0 in {run}.")
    leader, own = PeerState(run, 0), nodes.identity(preset)
    state = _awaited(leader, preset, run)
    if state is None:
        say(f"Node {rank}: the run was finished already.")
        return
    place = nodes.folder(run, rank)
    place.mkdir(parents=True, exist_ok=True)
    owned.refuse_links(place.parent, run / "logs", below=False)
    owned.refuse_links(place)
    with locked(place) as lock:
        owned.sweep(place)
        joined = NodeState(session=state.session, process=secrets.token_hex(8), identity=own)
        every = preset.launch.node_seconds / nodes.BEATS
        worker = Worker(run, preset, rank, lock, say, OwnState(run, rank, joined, every))
        try:
            worker.follow(leader)
        except BaseException as error:
            with suppress(OSError):  # a full disk must not hide why
                worker.drop()
                worker.own.write(exit=Exit.of(error))  # this node will not come again
            raise


def _awaited(leader: PeerState, preset: Preset, run: Path) -> NodeState | None:
    """What a living node 0 says; None where it ended well before this node looked. A file that does not
    change is of an earlier run."""
    begin = time.monotonic()
    while True:
        state, waited = leader.read(), time.monotonic() - begin
        if state is not None and leader.changes:
            return state
        if state is not None and state.exit is not None and state.exit.exit_code == 0 and waited > LINGER:
            return None
        if waited > preset.launch.join_seconds:
            raise InterruptedRun(
                f"No run began in {run} within {preset.launch.join_seconds:g} s; start the same command "
                "as node 0, and keep the folder on a shared file system."
            )
        time.sleep(nodes.LOOK)


@dataclass
class Worker:
    """A node that has found node 0: the session it belongs to, and its part of the current assignment."""

    run: Path
    preset: Preset
    rank: int
    lock: int
    say: Callable[[str], None]
    own: OwnState
    assignment: Assignment | None = None
    part: StageProcess | None = field(default=None, repr=False)

    def follow(self, leader: PeerState) -> None:
        """Do what node 0 says, until it says that the run is over."""
        session = ""
        while True:
            state = leader.read()
            assert state is not None  # once read it is kept
            if leader.silent > self.preset.launch.node_seconds:
                raise InterruptedRun(f"Node 0 has given no sign of life for {leader.silent:.0f} s; {AGAIN}")
            if state.session != session:
                self.drop()
                self._join(state)
                session = state.session
            if state.exit is not None:
                self.drop()
                self.say(f"Node {self.rank}: node 0 ended the run.")
                if state.exit.exit_code:
                    raise state.exit.error("Node 0 ended the run: ")
                return
            self._obey(state.assignment)
            self._look()
            self.own.heartbeat()
            time.sleep(nodes.LOOK)

    def _join(self, state: NodeState) -> None:
        self.own.state = self.own.state.model_copy(update={"session": state.session, "result": None})
        if different := self.own.state.identity.differences(state.identity):
            raise InputError(
                f"Node {self.rank} and node 0 differ in {', '.join(self._named(different))}; start the same "
                "command of the same program on all nodes."
            )
        self.own.write()
        self.say(f"Node {self.rank}: joined.")

    def _named(self, different: list[str]) -> list[str]:
        """The same, with the very settings by name where node 0's can be read."""
        if "settings" not in different:
            return different
        theirs, ours = (
            one.model_dump(mode="json", exclude={"evaluation"})
            for one in (read_preset(self.run), self.preset)
        )
        return [*differences(theirs, ours), *(name for name in different if name != "settings")] or different

    def _obey(self, assignment: Assignment | None) -> None:
        if assignment == self.assignment:
            return
        self.drop()
        self.assignment = assignment
        if assignment is None:
            return
        rendezvous = assignment.rendezvous(self.preset.launch.nodes, self.rank)
        self.part = supervise.start(self.run, self.preset, self._stage(assignment), self.lock, rendezvous)
        self.say(f"Node {self.rank}: {assignment.stage} started.")

    def _stage(self, assignment: Assignment) -> Stage:
        return next(
            one for one in plan(self.preset) if one.name == assignment.stage
        )  # same settings, same plan

    def _look(self) -> None:
        """Tell node 0 when this node's part has ended."""
        if self.part is None or self.assignment is None or (code := self.part.poll()) is None:
            return
        part, self.part = self.part, None
        failure = Exit.of(supervise.failure(self._stage(self.assignment), code, part)) if code else None
        self.own.write(
            result=PartResult(assignment=self.assignment.number, code=shell_code(code), failure=failure)
        )
        how = "done." if failure is None else "failed; node 0 is told why."
        self.say(f"Node {self.rank}: {self.assignment.stage} {how}")

    def drop(self) -> None:
        """End this node's part of the current assignment, where it still goes on."""
        part, self.part = self.part, None
        if part is not None and self.assignment is not None:
            part.stop()
            self.own.write(result=PartResult(assignment=self.assignment.number, code=None))
        self.assignment = None
