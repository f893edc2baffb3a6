"""A stage's processes on a cluster: `python -m harness.cluster.ranks RUN STAGE`.

The runner starts this in the stage's place, and takes its exit code and its last words for the stage's.
Whenever it ends, Ray ends its actors, and these end with their processes.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from harness.cluster import placement, replicas, session
from harness.cluster.part import End, Place, end_of, passed_on, placed, places_of, stop
from harness.runs import ledger, supervise
from harness.runs.launcher import root_cause
from vzero.config import Preset
from vzero.errors import InputError, InterruptedRun, VZeroError
from vzero.runtime.stage import read_preset
from vzero.selfplay import Stage, plan, processes_of

GRACE = 5.0  # seconds that the others have to fail by themselves, once one has said why
LOSS_SECONDS = 45.0  # the same where it lost a partner: Ray takes so long to see that a machine is gone
# Last words of a process that lost its partners, or did not meet them: the port is free when it is chosen.
_PARTED = re.compile(
    r"gloo|nccl|TCPStore|DistStore|EADDRINUSE|connection (closed|reset|refused)|broken pipe", re.I
)


def main(run: Path, name: str) -> None:
    """Run the stage to its end."""
    preset = read_preset(run)
    _run(run, preset, next(one for one in plan(preset) if one.name == name))


def _run(run: Path, preset: Preset, stage: Stage) -> None:
    import ray

    with ExitStack() as stack:
        stack.enter_context(session.joined(preset.launch.cluster or session.LOCAL))
        seconds = preset.launch.join_seconds
        bundles = [placement.demand_of(preset, one).bundles for one in plan(preset)]
        placement.await_machines(bundles, seconds, begun=_begun(run))
        demand = placement.demand_of(preset, stage)
        group = stack.enter_context(placement.reserved(demand.bundles, seconds))
        try:
            parts = [placed(group, *one) for one in demand.placed]
            places = places_of(parts)
            started = dict[Any, Any]()
            stack.callback(lambda: stop(started))
            count = len(parts) - len(demand.replicas)
            served = replicas.of_stage(run, preset, stage, parts[count:], places[count:], started)
            for rank in range(count):
                given = _variables(preset, stage, places[:count], rank) | served
                started[parts[rank].run.remote(run.absolute(), stage.name, rank, given)] = parts[rank]
            _judge(_ends([*started][-count:]), places)
        except ray.exceptions.RayError as error:
            raise InterruptedRun(_lost(stage, " ".join(str(error).split())[:300])) from None


def _begun(run: Path) -> bool:
    """Whether the command has finished a stage: then the cluster had all that the run needs."""
    begins = ("run-started", "run-resumed")
    events = (row.get("event") for row in reversed(ledger.read(run)))
    return next((one for one in events if one in (*begins, "stage-finished")), None) == "stage-finished"


def _variables(preset: Preset, stage: Stage, places: Sequence[Place], rank: int) -> dict[str, str]:
    """What tells the process `rank` of the others; the names are torch's and accelerate's."""
    if len(places) == 1:
        return passed_on()
    return passed_on() | {
        "RANK": str(rank),
        "WORLD_SIZE": str(len(places)),
        "LOCAL_RANK": "0",  # each sees its own GPU alone
        "LOCAL_WORLD_SIZE": str(processes_of(preset, stage.kind) // preset.launch.nodes),
        "MASTER_ADDR": places[0].address,
        "MASTER_PORT": str(places[0].port),
    }


def _ends(runs: Sequence[Any]) -> dict[int, End]:
    """How the processes ended, by rank; of a failure those that ended within its grace."""
    import ray

    ends: dict[int, End] = {}
    waiting = {one: rank for rank, one in enumerate(runs)}
    until = float("inf")
    while waiting and time.monotonic() < until:
        for done in ray.wait(list(waiting), num_returns=1, timeout=1)[0]:
            end = ends[waiting.pop(done)] = end_of(done)
            if end.code:
                grace = LOSS_SECONDS if _parted(end) else GRACE
                until = min(until, time.monotonic() + grace)
    return ends


def _parted(end: End) -> bool:
    return end.code == 1 and _PARTED.search(end.reason) is not None


def _judge(ends: Mapping[int, End], places: Sequence[Place]) -> None:
    """Raise what the failure of some processes amounts to: the first cause, not what followed from it."""
    print(f"{supervise.PEAK}{max((end.peak_mib for end in ends.values()), default=0.0)}", flush=True)
    failed = {rank: end for rank, end in ends.items() if end.code}
    if not failed:
        return
    own = {rank: end for rank, end in failed.items() if not _parted(end)}
    if not own:
        reason = next(iter(failed.values())).reason
        raise InterruptedRun(f"The processes lost each other; run the same command again to resume: {reason}")
    worst = root_cause(end.code for end in own.values())
    rank, end = next((rank, end) for rank, end in own.items() if end.code == worst)
    kinds = {kind.exit_code: kind for kind in (InputError, InterruptedRun)}
    raise kinds.get(end.exit_code, VZeroError)(f"Rank {rank} on {places[rank].host}: {end.reason}")


def _lost(stage: Stage, reason: str) -> str:
    return f"The cluster was lost during {stage.name} ({reason}); run the same command again to resume."


if __name__ == "__main__":
    sys.exit(session.driven(lambda: main(Path(sys.argv[1]), sys.argv[2])))
