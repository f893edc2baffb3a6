"""Servers of one model on all of a cluster, for a command that asks it here: `evaluate --cluster`.

`python -m harness.cluster.serving SETTINGS` is their driver, a process of its own since Ray ends one that
loses its cluster. It leaves what tells of them in a file that the command has given it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from harness.cluster import placement, replicas, session
from harness.cluster.part import end_of, placed, places_of, stop
from harness.cluster.replicas import Served
from harness.runs import supervise
from vzero.config import EngineConfig
from vzero.errors import InterruptedRun, VZeroError
from vzero.runtime import artefacts
from vzero.runtime.processes import REPLICAS

NAME = "evaluate"  # of the driver, in sentences, and how the names of the servers' logs begin
LOOK = 0.2  # seconds between two looks at the driver


@contextmanager
def serving(
    cluster: str, checkpoint: Path, engine: EngineConfig, logs: Path, say: Callable[[str], None]
) -> Iterator[None]:
    """While the body runs `open_engine` finds servers of `checkpoint`, which all machines must see.

    Raises:
        InputError: there is no such cluster, or its machines have other programs.
        InterruptedRun: the servers do not start, or were all lost.
    """
    with session.local(cluster), TemporaryDirectory(prefix="vzero-servers-") as private:
        told = Path(private, "replicas.json")
        settings = {"cluster": cluster, "checkpoint": str(checkpoint.absolute()), "told": str(told)}
        settings |= {"engine": engine.model_dump_json(), "logs": str(logs.absolute())}
        command = [sys.executable, "-P", "-m", __name__, json.dumps(settings)]
        driver = supervise.start_command(command, logs / "cluster.log", {}, driver=True)
        try:
            while not told.exists() and driver.poll(LOOK) is None:
                for note in driver.notes():
                    say(note)
            if told.exists():
                os.environ[REPLICAS] = told.read_text("utf-8")
                yield
            else:
                raise InterruptedRun("The cluster's servers did not start; run the same command again.")
        except VZeroError:
            if (code := driver.poll(LOOK)) is not None:  # which knows better why
                raise supervise.failure(NAME, code, driver) from None
            raise
        finally:
            os.environ.pop(REPLICAS, None)
            supervise.stop([driver])


def hold(settings: dict[str, str]) -> None:
    """Start a server on each share of the cluster, tell of them, and keep them until this process ends."""
    import ray

    with ExitStack() as stack:
        stack.enter_context(session.joined(settings["cluster"]))
        engine = EngineConfig.model_validate_json(settings["engine"])
        shares = placement.everywhere(engine.threads)
        group = stack.enter_context(placement.reserved(shares))
        if "GPU" not in shares[0]:
            engine = engine.model_copy(update={"threads": int(shares[0]["CPU"])})
        try:
            parts = [placed(group, *one) for one in enumerate(shares)]
            places = places_of(parts)
            runs = dict[Any, Any]()
            stack.callback(lambda: stop(runs))
            served = Served(Path(settings["checkpoint"]), engine, Path(settings["logs"]), NAME)
            found = replicas.started(served, parts, places, runs)
            artefacts.write_json(Path(settings["told"]), vars(found))
            ray.wait([*runs], num_returns=len(runs))
            raise InterruptedRun(
                f"All {len(runs)} servers of the model ended; run the same command again to resume: "
                f"{end_of([*runs][-1]).reason}"
            )
        except ray.exceptions.RayError as error:
            reason = " ".join(str(error).split())[:300]
            raise InterruptedRun(
                f"The cluster was lost ({reason}); run the same command again to resume."
            ) from None


if __name__ == "__main__":
    sys.exit(session.driven(lambda: hold(json.loads(sys.argv[1]))))
