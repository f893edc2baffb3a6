"""Any node but 0: joins the run that node 0 leads, takes part in each training it is called to, and ends with
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

from harness.runs import lock, nodes, supervise
from harness.runs.nodes import Answer, Call, Ear, End, State, Voice
from harness.runs.several import positive
from harness.runs.supervise import StageProcess
from vzero.config import Preset
from vzero.errors import InputError, InterruptedRun
from vzero.presets import differences
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
    head, own = Ear(run, 0), nodes.identity(preset)
    state = _awaited(head, preset, run)
    if state is None:
        say(f"Node {rank}: the run was finished already.")
        return
    place = nodes.folder(run, rank)
    place.mkdir(parents=True, exist_ok=True)
    with lock.hold(place) as descriptor:
        joined = State(session=state.session, agent=secrets.token_hex(8), identity=own)
        agent = Agent(
            run,
            preset,
            rank,
            descriptor,
            say,
            Voice(run, rank, joined, preset.launch.node_seconds / nodes.BEATS),
        )
        try:
            agent.follow(head)
        except BaseException as error:
            with suppress(OSError):  # a full disk must not hide why
                agent.drop()
                agent.leave(
                    End(exit_code=getattr(error, "exit_code", 1), reason=str(error) or type(error).__name__)
                )
            raise


def _awaited(head: Ear, preset: Preset, run: Path) -> State | None:
    """What a living node 0 says; None where it ended well before this node looked. A file that does not
    change is of an earlier run."""
    begin = time.monotonic()
    while True:
        state, waited = head.hear(), time.monotonic() - begin
        if state is not None and head.changes:
            return state
        if state is not None and state.end is not None and state.end.exit_code == 0 and waited > LINGER:
            return None
        if waited > preset.launch.join_seconds:
            raise InterruptedRun(
                f"No run began in {run} within {preset.launch.join_seconds:g} s; start the same command as node 0, and keep the "
                "folder on a file system that all nodes share."
            )
        time.sleep(nodes.LOOK)


@dataclass
class Agent:
    """A node that has found node 0: the session it belongs to, and its part of the current call."""

    run: Path
    preset: Preset
    rank: int
    lock: int
    say: Callable[[str], None]
    voice: Voice
    call: Call | None = None
    part: StageProcess | None = field(default=None, repr=False)

    def follow(self, head: Ear) -> None:
        """Do what node 0 says, until it says that the run is over."""
        session = ""
        while True:
            state = head.hear()
            assert state is not None  # an ear keeps what it has heard
            if head.silent > self.preset.launch.node_seconds:
                raise InterruptedRun(
                    f"Node 0 has given no sign of life for {head.silent:.0f} s; run the same command again on all nodes to resume."
                )
            if state.session != session:
                self.drop()
                self._join(state)
                session = state.session
            if state.end is not None:
                return self._dismissed(state.end)
            self._obey(state.call)
            self._look()
            self.voice.beat()
            time.sleep(nodes.LOOK)

    def _join(self, state: State) -> None:
        self.voice.state = self.voice.state.model_copy(update={"session": state.session, "answer": None})
        if different := self.voice.state.identity.differences(state.identity):
            raise InputError(
                f"Node {self.rank} and node 0 differ in {', '.join(self._named(different))}; start the same command of the same program "
                "on all nodes."
            )
        self.voice.say(self.voice.state)
        self.say(f"Node {self.rank}: joined.")

    def _named(self, different: list[str]) -> list[str]:
        """The same, with the very settings by name where node 0's can be read."""
        if "settings" not in different:
            return different
        pair = [
            one.model_dump(mode="json", exclude={"evaluation"})
            for one in (read_preset(self.run), self.preset)
        ]
        return [*differences(*pair), *(name for name in different if name != "settings")] or different

    def _dismissed(self, end: End) -> None:
        self.drop()
        self.say(f"Node {self.rank}: node 0 ended the run.")
        if end.exit_code:
            raise end.error("Node 0 ended the run: ")

    def _obey(self, call: Call | None) -> None:
        if call == self.call:
            return
        self.drop()
        self.call = call
        if call is None:
            return
        meeting = call.meeting(self.preset.launch.nodes, self.rank)
        self.part = supervise.start(self.run, self.preset, self._stage(call), self.lock, meeting)
        self.say(f"Node {self.rank}: {call.stage} started.")

    def _stage(self, call: Call) -> Stage:
        return next(
            one for one in plan(self.preset) if one.name == call.stage
        )  # the same settings, so the same plan

    def _answer(self, answer: Answer) -> None:
        self.voice.say(self.voice.state.model_copy(update={"answer": answer}))

    def _look(self) -> None:
        """Tell node 0 when this node's part has ended."""
        if self.part is None or self.call is None or (code := self.part.poll()) is None:
            return
        part, self.part = self.part, None
        failure = None
        if code != 0:
            error = supervise.failure(self._stage(self.call), code, part)
            failure = End(exit_code=error.exit_code, reason=str(error))
        self._answer(Answer(call=self.call.number, code=positive(code), failure=failure))
        self.say(
            f"Node {self.rank}: {self.call.stage} {'done.' if failure is None else 'failed; node 0 is told why.'}"
        )

    def drop(self) -> None:
        """End this node's part of the current call, where it still goes on."""
        part, self.part = self.part, None
        if part is not None and self.call is not None:
            part.stop()
            self._answer(Answer(call=self.call.number, code=None))
        self.call = None

    def leave(self, end: End) -> None:
        """Tell node 0, should it live, that this node will not come again."""
        self.voice.say(self.voice.state.model_copy(update={"end": end}))
