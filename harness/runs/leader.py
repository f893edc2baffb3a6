"""Node 0 of several: waits for the others, assigns them each training, and says why one failed, wherever that
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
from harness.runs.launcher import Rendezvous, root_cause, shell_code
from harness.runs.nodes import Assignment, Exit, NodeState, OwnState, PartResult, PeerState
from vzero.config import Preset
from vzero.errors import InterruptedRun, VZeroError
from vzero.selfplay import Stage

GRACE = 5.0  # seconds that a part which lost its partner has to fail by itself, before it is ended
KILLED = 137  # in place of an exit code, for a node that is gone
AGAIN = "run the same command again on all nodes to resume."


@contextmanager
def leading(run: Path, preset: Preset) -> Iterator[Leader | None]:
    """The leader of a run on several nodes, None on one; the other nodes end when this does.

    Raises:
        InputError: the address of this node cannot be found.
    """
    if preset.launch.nodes == 1:
        yield None
        return
    leader, end = Leader(run, preset), Exit(exit_code=0, reason="The run is finished.")
    beating = threading.Thread(target=leader.live, daemon=True)
    beating.start()
    try:
        yield leader
    except BaseException as error:
        end = Exit.of(error)
        raise
    finally:
        leader.leave(end)
        beating.join()


class Leader:
    """Node 0's side. Its thread gives heartbeats, whatever the runner is busy with."""

    def __init__(self, run: Path, preset: Preset) -> None:
        self.run, self.launch = run, preset.launch
        self.address = network.own_address()
        name = secrets.token_hex(8)
        state = NodeState(session=name, process=name, identity=nodes.identity(preset))
        self.own = OwnState(run, 0, state, preset.launch.node_seconds / nodes.BEATS)
        self.own.write()
        self._peers = [PeerState(run, rank) for rank in range(1, preset.launch.nodes)]
        self._writing, self._left = threading.Lock(), threading.Event()
        self._processes: dict[int, str] = {}  # who was there when the current assignment was made
        self._assignments = 0
        self._broken: float | None = None

    def live(self) -> None:
        """Give heartbeats until `leave`. A disk that is full for a moment must not end them."""
        while not self._left.wait(nodes.LOOK):
            with self._writing, suppress(OSError):
                self.own.heartbeat()

    def leave(self, end: Exit) -> None:
        """Tell the others that the run is over."""
        self._left.set()
        with self._writing, suppress(OSError):
            self.own.write(assignment=None, exit=end)

    def gather(self, waiting: Callable[[list[int]], None]) -> None:
        """Return when all nodes have come.

        Args:
            waiting: told once for whom, where somebody is still missing.

        Raises:
            InterruptedRun: not all came within `launch.join_seconds`, or one has left.
            InputError: a node has other code or settings.
        """
        limit = self.launch.join_seconds
        until, told = time.monotonic() + limit, False
        self._processes = {}
        while missing := [peer.rank for peer in self._peers if self._joined(peer) is None]:
            self._require_all_of(peer for peer in self._peers if peer.rank not in missing)
            if time.monotonic() > until:
                raise InterruptedRun(
                    f"{nodes.named(missing).capitalize()} did not join within {limit:g} s; "
                    f"start the same command there with --node-rank, and keep {self.run} on a shared disk."
                )
            if not told:
                waiting(missing)
                told = True
            time.sleep(nodes.LOOK)
        self._require_all_of(self._peers)
        self._processes = {
            peer.rank: state.process for peer in self._peers if (state := self._joined(peer)) is not None
        }

    def _require_all_of(self, peers: Iterable[PeerState]) -> None:
        for peer in peers:
            if (gone := self._gone(peer)) is not None:
                raise gone

    def assign(self, stage: Stage) -> Rendezvous:
        """Assign `stage` to all nodes; where this one's part meets theirs."""
        self._assignments, self._broken = self._assignments + 1, None
        made = Assignment(
            number=self._assignments, stage=stage.name, address=self.address, port=network.own_port()
        )
        with self._writing:
            self.own.write(assignment=made)
        return made.rendezvous(self.launch.nodes, 0)

    def broken(self) -> bool:
        """Whether another node's part has failed, and this one's has had its time to fail of it with words of
        its own."""
        if self._broken is None and any(self._failure(peer) is not None for peer in self._peers):
            self._broken = time.monotonic()
        return self._broken is not None and time.monotonic() - self._broken > GRACE

    def withdraw(self) -> None:
        """Withdraw the assignment, once the others had the time to end their parts by themselves."""
        self._await(GRACE if self._broken is None else 0.0)
        with self._writing:
            self.own.write(assignment=None)

    def _await(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until and not all(map(self._over, self._peers)):
            time.sleep(nodes.LOOK)

    def verdict(self, code: int | None, own: VZeroError | None) -> VZeroError:
        """Why the stage failed, once all parts have ended.

        Args:
            code: exit code of this node's part; None: it was ended, because another's failed.
            own: what that amounts to.
        """
        self.withdraw()
        # Whoever lives has ended its part, whoever does not falls silent.
        self._await(self.launch.node_seconds + GRACE)
        found = [] if own is None or code is None else [(shell_code(code), own)]
        found += [failure for failure in map(self._failure, self._peers) if failure is not None]
        if not found:
            return InterruptedRun(f"The nodes lost each other; {AGAIN}")
        worst = root_cause(code for code, _ in found)
        return next(error for code, error in found if code == worst)

    def _joined(self, peer: PeerState) -> NodeState | None:
        """What a node that has joined this session says."""
        state = peer.read()
        return state if state is not None and state.session == self.own.state.session else None

    def _gone(self, peer: PeerState) -> VZeroError | None:
        state = self._joined(peer)
        if state is not None and state.exit is not None:
            return state.exit.error(f"Node {peer.rank} left: ")
        if state is not None and state.process != self._processes.get(peer.rank, state.process):
            return InterruptedRun(f"Node {peer.rank} was started again meanwhile; {AGAIN}")
        if state is None or peer.silent > self.launch.node_seconds:
            return InterruptedRun(
                f"Node {peer.rank} has given no sign of life for {peer.silent:.0f} s; {AGAIN}"
            )
        return None

    def _failure(self, peer: PeerState) -> tuple[int, VZeroError] | None:
        """Exit code and error of a node's part in the current assignment, where it failed."""
        if (gone := self._gone(peer)) is not None:
            return (KILLED if isinstance(gone, InterruptedRun) else gone.exit_code), gone
        result = self._result(peer)
        if result is None or result.code is None or result.failure is None:
            return None
        return result.code, result.failure.error(f"Node {peer.rank}: ")

    def _over(self, peer: PeerState) -> bool:
        """Whether a node no longer works on the current assignment."""
        return self._result(peer) is not None or self._gone(peer) is not None

    def _result(self, peer: PeerState) -> PartResult | None:
        """How a node's part in the current assignment ended."""
        state = self._joined(peer)
        result = None if state is None else state.result
        return result if result is not None and result.assignment == self._assignments else None
