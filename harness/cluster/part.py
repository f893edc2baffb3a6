"""One process of a stage on the machine where Ray has placed it: an actor that starts it as the runner would.

The process ends with the actor (watchdog), and the actor with its machine's raylet, which alone would leave
an actor that is busy to go on.
"""

from __future__ import annotations

import os
import platform
import socket
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import harness
import vzero
from harness.runs import supervise
from harness.runs.environment import fixed
from harness.runs.folder import Busy, locked
from harness.runs.supervise import StageProcess
from vzero.config import Preset
from vzero.errors import InputError, InterruptedRun, VZeroError, machine_failure
from vzero.runtime import artefacts, owned, scratch
from vzero.runtime.stage import read_preset
from vzero.selfplay import Stage, plan

RANKS = "ranks"  # RUN/ranks/K/.lock is held while rank K runs, wherever that is
LOCK_SECONDS = 30.0  # for the processes of a run that was just killed elsewhere to end
PASSED_ON = ("VZERO_", "HF_")  # beginnings of names
KILLED = 137  # in place of an exit code, for a process whose machine or actor is gone
POLL = 0.2  # seconds
START_SECONDS = 60.0  # for a worker of Ray, after which its user is told


@dataclass(frozen=True)
class Place:
    """Where an actor is: its machine, a port that was free there a moment ago, digests of the program's files
    and versions there, and whether it has a GPU."""

    address: str
    host: str
    port: int
    program: Mapping[str, str | None]
    on_gpu: bool = False


@dataclass(frozen=True)
class End:
    """How a process ended: as a shell's exit code, and why where it failed."""

    code: int
    exit_code: int = 0
    reason: str = ""
    peak_mib: float = 0.0


@dataclass
class Part:
    """The actor's class. `run` in one of its threads, `stop` in another."""

    stopped: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        threading.Thread(target=_end_after, args=(os.getppid(),), daemon=True).start()

    def place(self) -> Place:
        """Where this is."""
        import ray

        with socket.socket() as probe:
            probe.bind(("", 0))
            port = int(probe.getsockname()[1])
        address, on_gpu = ray.util.get_node_ip_address(), bool(ray.get_gpu_ids())
        return Place(address, socket.gethostname(), port, program(), on_gpu)

    def run(self, run: Path, name: str, rank: int, variables: Mapping[str, str]) -> End:
        """Run the stage `name` as process `rank` to its end, with `variables` in its environment.

        Raises:
            InterruptedRun: one of an earlier attempt still runs somewhere.
        """
        place = run / RANKS / str(rank)
        preset, stage = _found(run, name)
        place.mkdir(parents=True, exist_ok=True)
        owned.refuse_links(place)
        try:
            with locked(place, LOCK_SECONDS) as lock:
                given = {**_interface(variables), **variables}
                return self._awaited(name, supervise.start_rank(run, preset, stage, lock, rank, given))
        except Busy:
            raise InterruptedRun(
                f"Process {rank} of an earlier attempt still runs on a machine that is out of reach; end it "
                "there, or wait until its raylet has ended, then run the same command again to resume."
            ) from None

    def serve(self, words: Sequence[str], threads: int, log: Path, variables: Mapping[str, str]) -> End:
        """Run a server of a model, which prints into `log`, until `stop`."""
        return self._started(["vzero.rollout.serve", *words], log, fixed(threads) | dict(variables))

    def give(
        self, words: Sequence[str], cwd: Path, log: Path, variables: Mapping[str, str], driver: Place
    ) -> End:
        """Give the command `words` of `driver` in the folder `cwd`, which prints into `log`.

        Raises:
            InputError: the program is another one here.
        """
        require_alike([driver, self.place()])
        os.chdir(cwd)
        return self._started(["harness", *words], log, fixed(1) | dict(variables))

    def _started(self, words: Sequence[str], log: Path, given: Mapping[str, str]) -> End:
        command = [sys.executable, "-P", "-m", *words]
        return self._awaited(log.stem, supervise.start_command(command, log, given, driver=False))

    def _awaited(self, name: str, process: StageProcess) -> End:
        while (code := process.poll(POLL)) is None:
            if self.stopped.is_set():
                supervise.stop([process])
        if code == 0:
            return End(0, peak_mib=process.peak_mib)
        failed = supervise.failure(name, code, process)
        return End(supervise.shell_code(code), failed.exit_code, str(failed), process.peak_mib)

    def stop(self) -> None:
        """End the process; `run` returns then."""
        self.stopped.set()


def _interface(variables: Mapping[str, str]) -> dict[str, str]:
    """Where gloo listens: the interface by which the first process is reached, where that is known. The name
    of a machine often leads to loopback."""
    address = variables.get("MASTER_ADDR")
    if address is None or "GLOO_SOCKET_IFNAME" in os.environ:
        return {}
    import psutil

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((address, 9))  # of a datagram socket: sends nothing
        own = probe.getsockname()[0]
    found = psutil.net_if_addrs().items()
    name = next((name for name, given in found if any(one.address == own for one in given)), None)
    return {} if name is None else {"GLOO_SOCKET_IFNAME": name}


def _found(run: Path, name: str) -> tuple[Preset, Stage]:
    preset = read_preset(run)
    return preset, next(one for one in plan(preset) if one.name == name)


def placed(group: Any, index: int, share: Mapping[str, float]) -> Any:
    """An actor in the `index`-th bundle of a placement group, which takes `share` of it."""
    import ray
    from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

    where = PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=index)
    resources = {"num_cpus": share.get("CPU", 0), "num_gpus": share.get("GPU", 0)}
    return ray.remote(Part).options(**resources, scheduling_strategy=where, max_concurrency=3).remote()


def here() -> Place:
    """This process, a driver."""
    return Place("", socket.gethostname(), 0, program())


def places_of(parts: Sequence[Any]) -> list[Place]:
    """Where actors are.

    Raises:
        InputError: a machine has another program than this driver, or none.
    """
    import ray

    asked = [part.place.remote() for part in parts]
    if late := ray.wait(asked, num_returns=len(asked), timeout=START_SECONDS)[1]:
        scratch.note(
            f"{len(late)} of {len(asked)} machines' workers do not start yet; Ray's logs there say why"
        )
    try:
        places: list[Place] = ray.get(asked)
    except ray.exceptions.RayError as error:
        raise _raised(error) or error from None
    require_alike([here(), *places])
    return places


def require_alike(places: Sequence[Place]) -> None:
    """Refuse machines with another program than the first.

    Raises:
        InputError: some have one.
    """
    first = places[0].program
    for place in places[1:]:
        if different := sorted(name for name in first if first[name] != place.program.get(name)):
            raise InputError(
                f"The machines {places[0].host} and {place.host} differ in {', '.join(different)}; install "
                "the same program on all of them."
            )


def end_of(done: Any) -> End:
    """How the process ended whose `run`, `serve` or `give` has returned or failed, or was lost with its
    actor."""
    import ray

    try:
        return cast(End, ray.get(done))
    except ray.exceptions.RayError as error:
        if (told := _raised(error)) is None:
            return End(KILLED, InterruptedRun.exit_code, "its machine or its worker is gone")
        return End(told.exit_code, told.exit_code, str(told))


def _raised(error: Any) -> VZeroError | None:
    """What failed in an actor; None where it is gone."""
    import ray

    if "failed to import on the worker" in str(error):
        return InputError("A machine of the cluster has not this program; install it on all of them.")
    if not isinstance(error, ray.exceptions.RayTaskError):
        return None
    cause = error.cause
    told = cause if isinstance(cause, VZeroError) else machine_failure(cause, "the machine")
    return told or VZeroError(f"{type(cause).__name__}: {cause}")


def stop(running: Mapping[Any, Any]) -> None:
    """End the processes of actors (values) whose results (keys) are to come, and wait for it."""
    import ray

    for part in running.values():
        part.stop.remote()
    ray.wait(list(running), num_returns=len(running), timeout=2 * supervise.GRACE) if running else None


def passed_on() -> dict[str, str]:
    """The variables of this process that its processes on other machines get."""
    return {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}


def _end_after(raylet: int) -> None:
    while os.getppid() == raylet:
        time.sleep(POLL)
    os._exit(1)


def program() -> dict[str, str | None]:
    """What must be equal on all machines: a digest of the program's files, and versions."""
    roots = [Path(str(package.__file__)).parent for package in (vzero, harness)]
    files = {
        f"{root.name}/{path.relative_to(root)}": artefacts.sha256_file(path)
        for root in roots
        for path in sorted(root.rglob("*.py"))
    }
    return {
        "vzero-harness": artefacts.digest(files),
        "Python": platform.python_version(),
        **artefacts.provenance()["packages"],
    }
