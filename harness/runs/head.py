"""Node 0 of several: waits for the others, calls them to each training, and says why one failed wherever that
was.

A node that leaves, falls silent or fails ends the stage on all nodes. See nodes.py for what is told to whom.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from harness.runs import network, nodes
from harness.runs.nodes import Call, Ear, End, State, Voice
from harness.runs.several import Meeting, positive, telling
from vzero.config import Preset
from vzero.errors import InterruptedRun, VZeroError
from vzero.selfplay import Stage

GRACE = 5.0  # seconds that a part which lost its partner has to fail by itself, before it is ended
KILLED = 137  # in place of an exit code, for a node that is gone


@contextmanager
def leading(run: Path, preset: Preset) -> Iterator[Head | None]:
    """The head of a run on several nodes, None on one; the other nodes end when this does.

    Raises:
        InputError: the address of this node cannot be told.
    """
    if preset.launch.nodes == 1:
        yield None
        return
    head, end = Head(run, preset), End(exit_code=0, reason="The run is finished.")
    beating = threading.Thread(target=head.live, daemon=True)
    beating.start()
    try:
        yield head
    except BaseException as error:
        end = End(exit_code=getattr(error, "exit_code", 1), reason=str(error) or type(error).__name__)
        raise
    finally:
        head.leave(end)
        beating.join()


class Head:
    """Node 0's side. Its thread gives signs of life, whatever the runner is busy with."""

    def __init__(self, run: Path, preset: Preset) -> None:
        self.run, self.launch = run, preset.launch
        self.address = network.own_address()
        name = secrets.token_hex(8)
        state = State(session=name, agent=name, identity=nodes.identity(preset))
        self._voice = Voice(run, 0, state, preset.launch.node_seconds / nodes.BEATS)
        self._voice.say(state)
        self._others = [Ear(run, rank) for rank in range(1, preset.launch.nodes)]
        self._speaking, self._left = threading.Lock(), threading.Event()
        self._agents: dict[int, str] = {}  # who was there when the current call was made
        self._calls = 0
        self._broken: float | None = None

    def live(self) -> None:
        """Give signs of life until `leave`. A disk that is full for a moment must not end them."""
        while not self._left.wait(nodes.LOOK):
            with self._speaking, suppress(OSError):
                self._voice.beat()

    def leave(self, end: End) -> None:
        """Tell the others that the run is over."""
        self._left.set()
        with self._speaking, suppress(OSError):
            self._voice.say(self._voice.state.model_copy(update={"call": None, "end": end}))

    def gather(self, waiting: Callable[[list[int]], None]) -> None:
        """Return when all nodes have come.

        Args:
            waiting: told once for whom, where somebody is still missing.

        Raises:
            InterruptedRun: not all came within `launch.join_seconds`, or one has left.
            InputError: a node has other code or settings.
        """
        until, told = time.monotonic() + self.launch.join_seconds, False
        self._agents = {}
        while missing := [ear.rank for ear in self._others if self._heard(ear) is None]:
            self._require_all_of([ear for ear in self._others if ear.rank not in missing])
            if time.monotonic() > until:
                raise InterruptedRun(
                    f"{nodes.named(missing).capitalize()} did not join within {self.launch.join_seconds:g} s; start the same command there "
                    f"with --node-rank, and keep {self.run} on a file system that all nodes share."
                )
            if not told:
                waiting(missing)
                told = True
            time.sleep(nodes.LOOK)
        self._require_all_of(self._others)
        self._agents = {
            ear.rank: state.agent for ear in self._others if (state := self._heard(ear)) is not None
        }

    def _require_all_of(self, ears: Iterable[Ear]) -> None:
        for ear in ears:
            if (gone := self._gone(ear)) is not None:
                raise gone

    def call(self, stage: Stage) -> Meeting:
        """Call all nodes to `stage`; where this one's part meets theirs."""
        self._calls, self._broken = self._calls + 1, None
        call = Call(number=self._calls, stage=stage.name, address=self.address, port=network.own_port())
        self._announce(call)
        return call.meeting(self.launch.nodes, 0)

    def _announce(self, call: Call | None) -> None:
        with self._speaking:
            self._voice.say(self._voice.state.model_copy(update={"call": call}))

    def broken(self) -> bool:
        """Whether another node's part has failed, and this one's has had its time to fail of it with words of
        its own."""
        failed = any(error is not None for error in map(self._failure, self._others))
        if failed and self._broken is None:
            self._broken = time.monotonic()
        return self._broken is not None and time.monotonic() - self._broken > GRACE

    def dismiss(self) -> None:
        """Withdraw the call, once the others had the time to end their parts by themselves."""
        self._await(GRACE if self._broken is None else 0.0)
        self._announce(None)

    def _await(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until and not all(map(self._over, self._others)):
            time.sleep(nodes.LOOK)

    def verdict(self, code: int | None, own: VZeroError | None) -> VZeroError:
        """Why the stage failed, once all parts have ended.

        Args:
            code: exit code of this node's part; None: it was ended, because another's failed.
            own: what that amounts to.
        """
        self.dismiss()
        self._await(
            self.launch.node_seconds + GRACE
        )  # whoever lives has ended its part, whoever does not falls silent
        found = [] if own is None or code is None else [(positive(code), own)]
        found += [failure for failure in map(self._failure, self._others) if failure is not None]
        if not found:
            return InterruptedRun(
                "The nodes lost each other; run the same command again on all of them to resume."
            )
        worst = telling(code for code, _ in found)
        return next(error for code, error in found if code == worst)

    def _heard(self, ear: Ear) -> State | None:
        """What a node that has joined this session says."""
        state = ear.hear()
        return state if state is not None and state.session == self._voice.state.session else None

    def _gone(self, ear: Ear) -> VZeroError | None:
        state = self._heard(ear)
        if state is not None and state.end is not None:
            return state.end.error(f"Node {ear.rank} left: ")
        if state is not None and state.agent != self._agents.get(ear.rank, state.agent):
            return InterruptedRun(
                f"Node {ear.rank} was started again meanwhile; run the same command again on all nodes to resume."
            )
        if state is None or ear.silent > self.launch.node_seconds:
            return InterruptedRun(
                f"Node {ear.rank} has given no sign of life for {ear.silent:.0f} s; run the same command again on all nodes to resume."
            )
        return None

    def _failure(self, ear: Ear) -> tuple[int, VZeroError] | None:
        """Exit code and error of a node's part in the current call, where it failed."""
        gone, state = self._gone(ear), self._heard(ear)
        if gone is not None:
            return (KILLED if isinstance(gone, InterruptedRun) else gone.exit_code), gone
        answer = state.answer if state is not None else None
        if answer is None or answer.call != self._calls or answer.code is None or answer.failure is None:
            return None
        return answer.code, answer.failure.error(f"Node {ear.rank}: ")

    def _over(self, ear: Ear) -> bool:
        """Whether a node no longer works on the current call."""
        state = self._heard(ear)
        answered = state is not None and state.answer is not None and state.answer.call == self._calls
        return answered or self._gone(ear) is not None
