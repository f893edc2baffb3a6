"""The runs of a grid on a cluster: `python -m harness.cluster.grid SETTINGS`, which `run` starts.

A worker on each share of the cluster gives the very command of the grid, without the cluster: they divide the
runs and the stages among themselves by locks in the grid's folder, as several processes of one machine do, so
that a stage which several runs share is computed once. What a worker that is lost was at, another takes up.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.cluster import placement, session
from harness.cluster.part import KILLED, End, Part, end_of, here, passed_on, stop
from harness.runs import supervise
from vzero.config import Preset
from vzero.errors import InputError, InterruptedRun, VZeroError

WORKER = "VZERO_WORKER"  # which worker of a grid this is: it begins with another run
LOOK = 1.0  # seconds between two looks at the index


@dataclass(frozen=True)
class Work:
    """What the driver is told.

    Attributes:
        folder: of the grid.
        cluster: address, "auto" or "local".
        words: the command of each worker, of `harness`.
        share: what one run needs of a machine.
        workers: at most so many.
        join_seconds: for a machine to join where there is none.
    """

    folder: str
    cluster: str
    words: Sequence[str]
    share: placement.Share
    workers: int
    join_seconds: float


def run(
    folder: Path, preset: Preset, words: Sequence[str], workers: int, look: Callable[[Sequence[str]], None]
) -> None:
    """Give the command `words` on every machine until the grid in `folder`, which is there, is done.

    Args:
        look: called about every second meanwhile, with what the driver has to say.

    Raises:
        VZeroError: as the grid on one machine.
    """
    launch = preset.launch
    if launch.nodes > 1:
        raise InputError("Each run of a grid has one machine of the cluster; set launch.nodes = 1.")
    gpus = float(launch.gpus + launch.solver_gpus)
    share = {"CPU": float(preset.engine.threads), **({"GPU": gpus} if gpus else {})}
    with session.local(launch.cluster):
        place = str(folder.absolute())
        work = Work(place, launch.cluster or session.LOCAL, words, share, workers, launch.join_seconds)
        command = [sys.executable, "-P", "-m", __name__, json.dumps(vars(work))]
        process = supervise.start_command(command, folder / "logs" / "cluster.log", {}, driver=True)
        try:
            while (code := process.poll(LOOK)) is None:
                look(process.notes())
        except BaseException:
            supervise.stop([process])
            raise
        if code:
            raise supervise.failure("grid", code, process)


def spread(work: Work) -> None:
    """Keep a worker on each share of the cluster until one of them finds all runs done."""
    with session.joined(work.cluster):
        workers: dict[Any, Any] = {}
        try:
            _await(work, workers)
        finally:
            stop(workers)


def _start(work: Work, number: int, workers: dict[Any, Any]) -> None:
    import ray

    resources = {"num_cpus": work.share["CPU"], "num_gpus": work.share.get("GPU", 0)}
    part = ray.remote(Part).options(**resources, max_concurrency=3).remote()
    log = Path(work.folder, "logs", f"worker-{number}.log")
    variables = {**passed_on(), WORKER: str(number)}
    workers[part.give.remote(list(work.words), Path.cwd(), log, variables, here())] = part


def _await(work: Work, workers: dict[Any, Any]) -> None:
    """Return once a worker has found all runs done. A machine that joins gets one, and in place of each that
    was lost there is another, as many in all as the cluster had room for at once."""
    import ray

    ended: list[End] = []
    started = most = 0
    while True:
        placement.await_machines([[work.share]], work.join_seconds, begun=started > 0)
        room = min(work.workers, placement.fitting(work.share))
        most = max(most, room)
        failed = sum(end.code != KILLED for end in ended)
        while len(workers) + failed < room and started < 2 * most:
            _start(work, started, workers)
            started += 1
        if not workers and room:
            break
        for done in ray.wait(list(workers), timeout=LOOK)[0] if workers else ():
            end = end_of(done)
            del workers[done]
            if end.code == 0:
                return
            if end.exit_code == InputError.exit_code:
                raise InputError(end.reason)
            ended.append(end)
    codes = {end.exit_code for end in ended}
    kind = VZeroError if 1 in codes else InterruptedRun
    raise kind(next(end.reason for end in ended if end.exit_code == kind.exit_code))


if __name__ == "__main__":
    sys.exit(session.driven(lambda: spread(Work(**json.loads(sys.argv[1])))))
