"""What nodes tell each other, without any training: who joins, who is refused, who is gone, and whose fault a
failure was."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from harness.commands.options import other_node
from harness.runs import leader as leaders
from harness.runs import network, nodes, supervise, worker
from harness.runs.launcher import Rendezvous
from harness.runs.leader import Leader, leading
from harness.runs.nodes import Exit, NodeState, OwnState, PartResult, PeerState
from vzero.config import Preset
from vzero.errors import InputError, InterruptedRun, VZeroError
from vzero.presets import load_preset
from vzero.runtime import artefacts, processes
from vzero.runtime.processes import World
from vzero.selfplay import Stage, plan

STAGE = "02-train-questioner-1"


def shared_by(count: int, join: float = 20.0, silent: float = 20.0, *words: str) -> Preset:
    preset = load_preset("smoke", [f"launch.nodes={count}", "launch.strategy=ddp", *words])
    times = {"join_seconds": join, "node_seconds": silent}  # shorter ones than a preset may have
    return preset.model_copy(update={"launch": preset.launch.model_copy(update=times)})


def training(preset: Preset) -> Stage:
    return next(stage for stage in plan(preset) if stage.name == STAGE)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.delenv("MASTER_PORT", raising=False)
    monkeypatch.setattr(nodes, "LOOK", 0.02)
    monkeypatch.setattr(leaders, "GRACE", 0.3)


def until(condition: Callable[[], bool]) -> None:
    """Wait until `condition` holds; generous, for a busy machine."""
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


class Other(threading.Thread):
    """A whole other node in a thread."""

    def __init__(self, run: Path, preset: Preset, rank: int = 1) -> None:
        super().__init__(daemon=True)
        self.told: list[str] = []
        self.error: Exception | None = None
        self._arguments = (run, preset, rank, self.told.append)
        self.start()

    def run(self) -> None:
        try:
            worker.serve(*self._arguments)
        except Exception as error:
            self.error = error

    def join_while_alive(self, leader: Leader) -> None:
        """Let `leader`, which has no thread of its own, live until this node has joined."""

        def joined() -> bool:
            leader.own.write()
            return any(one.endswith(": joined.") for one in self.told)

        until(joined)


class Puppet:
    """Another node's file alone: says what a test wants."""

    def __init__(self, run: Path, leader: Leader, rank: int = 1) -> None:
        state = NodeState(session=leader.own.state.session, process="a", identity=leader.own.state.identity)
        self.own = OwnState(run, rank, state, 0.1)
        self.say()

    def say(self, **changes: Any) -> None:
        self.own.write(**changes)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Leader, Puppet]]:
    """A leader and one other node that has joined."""
    with ExitStack() as stack:
        leader = stack.enter_context(leading(tmp_path, shared_by(2)))
        assert leader is not None
        puppet = Puppet(tmp_path, leader)
        leader.gather(lambda missing: None)
        yield leader, puppet


def nobody(missing: list[int]) -> None:
    """Who is missing, told to nobody."""


def test_one_node_has_no_leader(tmp_path: Path) -> None:
    with leading(tmp_path, load_preset("smoke")) as leader:
        assert leader is None
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_changes_is_a_sign_of_life_and_one_that_lies_there_is_none(tmp_path: Path) -> None:
    identity = nodes.identity(load_preset("smoke"))
    own = OwnState(tmp_path, 0, NodeState(session="s", process="s", identity=identity), 0.0)
    own.write()
    peer = PeerState(tmp_path, 0)
    assert peer.read() == own.state and peer.changes == 0  # said before anybody listened
    time.sleep(0.05)
    before = peer.silent
    own.heartbeat()
    time.sleep(0.05)
    assert peer.read() == own.state and peer.changes == 1 and peer.silent < before
    for rubbish in (b"", b"{", b'{"session": 1}', b"\xff"):
        peer.path.write_bytes(rubbish)
        time.sleep(0.05)
        assert peer.read() == own.state and peer.changes == 1


def test_all_join_and_end_with_the_run(tmp_path: Path) -> None:
    others = [Other(tmp_path, shared_by(4), rank) for rank in (1, 2, 3)]
    asked: list[int] = []
    with leading(tmp_path, shared_by(4)) as leader:
        assert leader is not None
        leader.gather(asked.extend)
    for other in others:
        other.join(30)
        assert not other.is_alive() and other.error is None and other.told[1].endswith(": joined.")
    assert set(asked) <= {1, 2, 3}


@pytest.mark.parametrize(
    ("error", "kind"), [(InterruptedRun("stopped"), InterruptedRun), (InputError("bad"), InputError)]
)
def test_a_run_that_failed_ends_the_others_alike(
    tmp_path: Path, error: VZeroError, kind: type[VZeroError]
) -> None:
    other = Other(tmp_path, shared_by(2))
    with pytest.raises(kind), leading(tmp_path, shared_by(2)) as leader:
        assert leader is not None
        leader.gather(nobody)
        raise error
    other.join(30)
    assert type(other.error) is kind and str(other.error) == f"Node 0 ended the run: {error}"


def test_other_settings_are_refused_on_both_sides_by_name(tmp_path: Path) -> None:
    preset = shared_by(2)
    artefacts.write_json(tmp_path / "run.json", {"preset": preset.model_dump(mode="json")})
    other = Other(tmp_path, shared_by(2, 20.0, 20.0, "seed=7", "evaluation.items_per_family=9"))
    with (
        pytest.raises(InputError, match="Node 1 left: Node 1 and node 0 differ in seed;"),
        leading(tmp_path, preset) as leader,
    ):
        assert leader is not None
        leader.gather(nobody)
    other.join(30)
    assert isinstance(other.error, InputError) and "differ in seed;" in str(other.error)


def test_other_code_or_packages_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = nodes.identity(shared_by(2))
    assert own.differences(own) == [] and own == nodes.identity(shared_by(2))
    others = own.model_copy(update={"code": "x", "packages": {**own.packages, "torch": "1.0"}})
    assert own.differences(others) == ["code", "torch"]
    with ExitStack() as stack:
        stack.enter_context(pytest.raises(InputError, match="differ in code, torch"))
        leader = stack.enter_context(leading(tmp_path, shared_by(2)))
        monkeypatch.setattr(nodes, "identity", lambda preset: others)
        other = Other(tmp_path, shared_by(2))
        assert leader is not None
        leader.gather(nobody)
    other.join(30)
    assert isinstance(other.error, InputError)


def test_what_the_code_is_follows_every_file_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    preset = shared_by(2)
    before = nodes.identity(preset).code
    for package in ("vzero", "harness"):
        (tmp_path / package).mkdir()
        (tmp_path / package / "__init__.py").write_text("")
    monkeypatch.setattr(nodes.vzero, "__file__", str(tmp_path / "vzero" / "__init__.py"))
    monkeypatch.setattr(nodes.harness, "__file__", str(tmp_path / "harness" / "__init__.py"))
    empty = nodes.identity(preset).code
    (tmp_path / "vzero" / "__init__.py").write_text("x = 1")
    assert len({before, empty, nodes.identity(preset).code}) == 3


def test_a_node_that_does_not_come_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    asked: list[list[int]] = []
    with (
        pytest.raises(InterruptedRun, match=r"Nodes 1, 2, 3 did not join within 0\.2 s"),
        leading(tmp_path, shared_by(4, join=0.2)) as leader,
    ):
        assert leader is not None
        leader.gather(asked.append)
    assert asked == [[1, 2, 3]]


def test_a_leader_that_does_not_come_and_one_of_an_earlier_run_are_not_waited_for_for_ever(
    tmp_path: Path,
) -> None:
    with pytest.raises(InterruptedRun, match="No run began"):
        worker.serve(tmp_path, shared_by(2, join=0.2), 1, print)
    assert list(tmp_path.iterdir()) == []  # nothing is written where no run is
    with pytest.raises(KeyError), leading(tmp_path, shared_by(2)):
        raise KeyError
    with pytest.raises(InterruptedRun, match="No run began"):
        worker.serve(tmp_path, shared_by(2, join=0.2), 1, print)


def test_a_run_that_was_finished_before_a_node_looked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker, "LINGER", 0.1)
    with leading(tmp_path, shared_by(2)):
        pass
    told: list[str] = []
    worker.serve(tmp_path, shared_by(2), 1, told.append)
    assert "finished already" in told[-1]


def test_two_nodes_of_one_rank(tmp_path: Path) -> None:
    with leading(tmp_path, shared_by(2)) as leader:
        first = Other(tmp_path, shared_by(2))
        assert leader is not None
        leader.gather(nobody)
        with pytest.raises(InputError, match="Another run"):
            worker.serve(tmp_path, shared_by(2), 1, print)
    first.join(30)
    assert first.error is None


def test_a_leader_that_falls_silent_ends_the_others(tmp_path: Path) -> None:
    other = Other(tmp_path, shared_by(2, silent=2.0))
    other.join_while_alive(Leader(tmp_path, shared_by(2, silent=2.0)))
    other.join(30)
    assert isinstance(other.error, InterruptedRun) and "Node 0 has given no sign of life" in str(other.error)


def test_a_new_leader_is_joined_by_a_node_that_lives(tmp_path: Path) -> None:
    other = Other(tmp_path, shared_by(2))
    other.join_while_alive(Leader(tmp_path, shared_by(2)))
    with leading(tmp_path, shared_by(2)) as leader:
        assert leader is not None
        leader.gather(nobody)
    other.join(30)
    assert other.error is None and sum(one.endswith(": joined.") for one in other.told) == 2


def test_a_part_that_failed_elsewhere(pair: tuple[Leader, Puppet]) -> None:
    leader, puppet = pair
    rendezvous = leader.assign(training(shared_by(2)))
    assert (rendezvous.nodes, rendezvous.rank, rendezvous.address) == (
        2,
        0,
        "127.0.0.1",
    ) and rendezvous.port > 0
    assert not leader.broken()
    puppet.say(
        result=PartResult(assignment=1, code=137, failure=Exit(exit_code=75, reason="ended by SIGKILL"))
    )
    until(lambda: leader._failure(leader._peers[0]) is not None)
    assert not leader.broken()  # this one's part is given time to say something itself
    until(leader.broken)
    found = leader.verdict(1, VZeroError("Connection closed by peer"))
    assert isinstance(found, InterruptedRun) and str(found) == "Node 1: ended by SIGKILL"
    assert leader.own.state.assignment is None


def test_a_part_that_failed_here_is_not_blamed_on_others(pair: tuple[Leader, Puppet]) -> None:
    leader, puppet = pair
    leader.assign(training(shared_by(2)))
    puppet.say(
        result=PartResult(assignment=1, code=1, failure=Exit(exit_code=1, reason="Connection closed by peer"))
    )
    own = InputError("no such picture")
    assert leader.verdict(2, own) is own
    leader.assign(training(shared_by(2)))
    assert not leader.broken()  # an answer to an earlier call
    puppet.say(result=PartResult(assignment=2, code=None))
    assert leader.verdict(-9, InterruptedRun("here")).args == ("here",)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"process": "b"}, "Node 1 was started again"),
        ({"exit": Exit(exit_code=75, reason="Stopped by SIGTERM.")}, "Node 1 left: Stopped by SIGTERM"),
    ],
)
def test_a_node_that_is_no_longer_the_one_it_was(
    pair: tuple[Leader, Puppet], change: dict[str, Any], sentence: str
) -> None:
    leader, puppet = pair
    leader.assign(training(shared_by(2)))
    puppet.say(**change)
    time.sleep(0.05)
    leader.broken()
    found = leader.verdict(1, VZeroError("Connection closed by peer"))
    assert isinstance(found, InterruptedRun) and sentence in str(found)


def test_a_node_that_falls_silent_ends_the_stage(tmp_path: Path) -> None:
    with leading(tmp_path, shared_by(2, silent=1.0)) as leader:
        assert leader is not None
        Puppet(tmp_path, leader)
        leader.gather(nobody)
        leader.assign(training(shared_by(2)))
        found = leader.verdict(1, VZeroError("Connection closed by peer"))
    assert isinstance(found, InterruptedRun) and "Node 1 has given no sign of life" in str(found)


def test_the_leader_lives_while_its_runner_is_busy(tmp_path: Path) -> None:
    with leading(tmp_path, shared_by(2, silent=0.5)):
        peer = PeerState(tmp_path, 0)
        until(lambda: peer.read() is not None and peer.changes >= 4)


def test_which_node_this_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SLURM_NODEID", "JOB_COMPLETION_INDEX"):
        monkeypatch.delenv(name, raising=False)
    alone, two = load_preset("smoke"), shared_by(2)
    assert other_node(None, two) is None and other_node(0, two) is None and other_node(1, two) == 1
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "1")
    assert other_node(None, two) == 1 and other_node(None, alone) is None
    monkeypatch.setenv("SLURM_NODEID", "0")
    assert other_node(None, two) is None
    for rank, preset in ((2, two), (1, alone)):
        with pytest.raises(InputError, match=f"no node {rank} of {preset.launch.nodes}"):
            other_node(rank, preset)


def test_where_nodes_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    assert network.own_address() == "127.0.0.1" and network.interface_to("127.0.0.1") == "lo"
    monkeypatch.delenv("MASTER_ADDR")

    def answers(*addresses: str) -> None:
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, 0)) for one in addresses]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_: found)

    answers("127.0.1.1", "10.1.2.3")
    assert network.own_address() == "10.1.2.3"
    answers("127.0.1.1")
    with pytest.raises(InputError, match="MASTER_ADDR=HOST"):
        network.own_address()
    monkeypatch.setenv("MASTER_PORT", "29511")
    assert network.own_port() == 29511
    monkeypatch.setenv("MASTER_PORT", "70000")
    with pytest.raises(InputError, match="not a port"):
        network.own_port()


def test_a_nodes_part_of_a_training(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    preset = shared_by(2, 20.0, 20.0, "launch.processes=2", "engine.threads=4")
    rendezvous = Rendezvous(2, 1, "127.0.0.1", 29511)
    found = supervise.environment(preset, training(preset), rendezvous)
    assert found["OMP_NUM_THREADS"] == "2" and found["GLOO_SOCKET_IFNAME"] == "lo"
    words = supervise.command_of(tmp_path, preset, training(preset), rendezvous)
    assert words[4:9] == ["4", "2", "1", "127.0.0.1", "29511"]
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "ib0")
    assert supervise.environment(preset, training(preset), rendezvous)["GLOO_SOCKET_IFNAME"] == "ib0"


def test_the_first_process_of_each_machine_answers_its_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four processes on two machines, one after the other: what each would put into the common list, then
    what it takes out of it."""
    worlds = [World(rank, 4, 2, rank % 2) for rank in range(4)]
    put, taken = [], []
    for here in worlds:
        monkeypatch.setattr(processes, "world", lambda here=here: here)
        monkeypatch.setattr(processes, "all_gather_object", lambda value: put.append(value) or [value] * 4)
        processes.broadcast_on_machine(lambda here=here: f"machine {here.rank // 2}")
    assert put == ["machine 0", None, "machine 1", None]
    for here in worlds:
        monkeypatch.setattr(processes, "world", lambda here=here: here)
        monkeypatch.setattr(processes, "all_gather_object", lambda value: put)
        taken.append(processes.broadcast_on_machine(lambda: None))
    assert taken == ["machine 0", "machine 0", "machine 1", "machine 1"]
