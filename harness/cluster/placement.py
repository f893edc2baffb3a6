"""What a stage needs of a cluster, all of it or nothing."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.runs.environment import threads_of
from vzero.config import Preset
from vzero.errors import InputError, InterruptedRun
from vzero.runtime import scratch
from vzero.selfplay import Stage, processes_of

if TYPE_CHECKING:
    from ray.util.placement_group import PlacementGroup

_NOTHING = "nothing"
Share = Mapping[str, float]  # of one process: CPUs and GPUs of one machine, by Ray's names


# Whose model each kind of stage asks without training it.
ASKED = {
    "evaluate": "model",
    "probe": "model",
    "train-questioner": "solver",
    "write-questions": "questioner",
    "label": "solver",
    "check-options": "solver",
    "choose-images": "solver",
}


@dataclass(frozen=True)
class Demand:
    """What a stage needs: a share for each of its own processes, and for each server of the model that it
    asks. Without `ranks` its one process stands by the first server: it only asks."""

    ranks: Sequence[Share] = ()
    replicas: Sequence[Share] = ()

    @property
    def bundles(self) -> list[Share]:
        """All shares."""
        return [*self.ranks, *self.replicas]

    @property
    def placed(self) -> list[tuple[int, Share]]:
        """For each process, the stage's own first: its bundle, and what it takes of it."""
        own = list(enumerate(self.ranks)) or [(0, dict[str, float]())]
        return [*own, *enumerate(self.replicas, len(self.ranks))]


def demand_of(preset: Preset, stage: Stage) -> Demand:
    """A GPU for each process that trains and each server; without GPUs a server for each machine."""
    launch, cpus = preset.launch, float(threads_of(preset, stage))
    share = {"CPU": cpus, "GPU": 1.0} if launch.gpus else {"CPU": cpus}
    if stage.kind.startswith("train-"):
        served = stage.kind == "train-questioner" and preset.engine.name == "server"
        solvers = launch.solver_gpus * launch.nodes if served and not preset.engine.urls else 0
        return Demand([share] * processes_of(preset, stage.kind), [share] * solvers)
    role = ASKED.get(stage.kind)
    count = max(1, launch.gpus + launch.solver_gpus) * launch.nodes
    if role is None:
        return Demand([{"CPU": cpus}])
    if count == 1 or (preset.engine.urls and role == "solver"):
        return Demand([share])
    each = max(1.0, cpus * launch.nodes // count)
    return Demand(replicas=[{**share, "CPU": each}] * count)


def await_machines(demands: Sequence[Sequence[Share]], seconds: float, begun: bool = False) -> None:
    """Return once the cluster has the machines for each of `demands`, one at a time.

    Args:
        seconds: for those that are missing to join.
        begun: it had them all a while ago.

    Raises:
        InputError: it could not meet one even if nothing else ran.
        InterruptedRun: the same of one that it could meet before.
    """
    end, told = time.monotonic() + seconds, False
    while problem := next(filter(None, (lacking(shares, _machines()) for shares in demands)), ""):
        if time.monotonic() > end and begun:
            raise InterruptedRun(
                f"A machine is gone: the stage {problem}; bring it back, then run the same command again to "
                "resume."
            )
        if time.monotonic() > end:
            raise InputError(
                f"The stage {problem}; add machines, or ask for less (launch.*, engine.threads)."
            )
        if not told:
            scratch.note(f"waiting {seconds:g} s for machines to join: the stage {problem}")
            told = True
        time.sleep(1)


@contextmanager
def reserved(shares: Sequence[Share], seconds: float = 60.0) -> Iterator[PlacementGroup]:
    """The bundles for `shares`, close together, once all are free; given back after the body. `seconds`: for
    a machine that is lost meanwhile to come back.

    Raises:
        InterruptedRun: it does not.
    """
    import ray
    from ray.util.placement_group import placement_group, remove_placement_group

    group, told = placement_group([dict(one) for one in shares], strategy="PACK"), False
    try:
        while not group.wait(5):
            if not told:
                free = ray.available_resources()
                scratch.note(f"waiting for the cluster: wants {_wanted(shares)}; free: {_named(free)}")
                told = True
            await_machines([shares], seconds, begun=True)
        yield group
    finally:
        remove_placement_group(group)


def lacking(shares: Sequence[Share], machines: Sequence[Share]) -> str:
    """What does not fit on machines that nobody uses, the largest shares placed first; "" where all does."""
    free = [dict(one) for one in machines]
    for share in sorted(shares, key=lambda one: sorted(one.values()), reverse=True):
        fits = (one for one in free if all(one.get(name, 0) >= count for name, count in share.items()))
        found = next(fits, None)
        if found is None:
            has = Counter(name for one in machines if (name := _named(one)) != _NOTHING)
            return f"wants {_wanted(shares)}, each of one machine, and the cluster has {_times(has)}"
        for name, count in share.items():
            found[name] -= count
    return ""


def fitting(share: Share) -> int:
    """How many such shares the cluster holds when nothing else runs."""
    return sum(int(min(one.get(name, 0) // count for name, count in share.items())) for one in _machines())


def everywhere(threads: int) -> Sequence[Share]:
    """A share for each server of all that the cluster holds: a GPU; or where no machine has one, `threads`
    CPUs, as far as every machine has so many.

    Raises:
        InputError: it has neither.
    """
    machines = _machines()
    cpus = [one["CPU"] for one in machines if one.get("CPU", 0) >= 1]
    if not cpus:
        raise InputError("The cluster has no CPU to run a server on; add machines (docs/launch.md).")
    on_gpu = any(one.get("GPU", 0) >= 1 for one in machines)
    share = {"CPU": 1.0, "GPU": 1.0} if on_gpu else {"CPU": float(min(threads, *cpus))}
    return [share] * fitting(share)


def _machines() -> list[dict[str, float]]:
    """What each machine of the cluster has."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _wanted(shares: Sequence[Share]) -> str:
    return _times(Counter(map(_named, shares)))


def _times(found: Mapping[str, int]) -> str:
    return ", ".join(f"{count} x {name}" for name, count in found.items()) or "no machine"


def _named(share: Share) -> str:
    """CPUs and GPUs in words."""
    counts = {name: share.get(name, 0) for name in ("CPU", "GPU")}
    return " + ".join(f"{count:g} {name}" for name, count in counts.items() if count) or _NOTHING
