"""Rebuilding the shipped base checkpoint from a seed: `vzero-harness pocket build`."""

from __future__ import annotations

import os
import shutil
from dataclasses import asdict, replace
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.distributed as dist
from torch import multiprocessing

from vzero.errors import InputError, VZeroError, machine_failure
from vzero.pocket.model import SIZES, Size, build_processor
from vzero.pocket.pretrain import Schedule, train
from vzero.runtime import artefacts, owned
from vzero.runtime.checkpoints import save

SHIPPED = Schedule(seeing=500, clean=1000, mixture=500)
PHASES = ("seeing", "clean", "mixture")
NEEDED = 128 * 2**20  # bytes: a checkpoint, its staging copy, and two states of its pretraining


def scaled(scale: float, size: Size) -> Schedule:
    """The shipped schedule for `size`, with every phase `scale` times as long, at least one step each."""
    steps = {name: max(1, round(getattr(SHIPPED, name) * scale)) for name in PHASES}
    return replace(SHIPPED, size=size, **steps)


def main(out: Path, seed: int = 0, scale: float = 1.0, processes: int = 2, size: str = "small") -> None:
    """Pretrain a base and save it to `out` as a Hugging Face folder with a `build.json` of how it was made.
    Interrupted, the same call goes on.

    Args:
        out: a folder that does not exist yet, is empty, or holds the same pretraining, unfinished.
        seed: of weights and data. The shipped checkpoint was made with seed 0 and two processes.
        scale: multiplies the length of the curriculum; below about 0.5 the model stays weak.
        processes: data-parallel processes, one CPU thread each.
        size: a name of `SIZES`.

    Raises:
        InputError: `out` holds files already or cannot be written; found before the training, not after.
    """
    schedule = scaled(scale, SIZES[size])
    asked = artefacts.digest({"schedule": asdict(schedule), "seed": seed, "processes": processes})
    states = out / f".pretraining-{asked[:16]}"
    _claim(out, states)
    if processes == 1:
        _work(0, 1, "", schedule, seed, states)
        return
    with TemporaryDirectory(prefix="vzero-pocket-") as private:
        work = (processes, str(Path(private, "store")), schedule, seed, states)
        said = multiprocessing.get_context("spawn").SimpleQueue()
        try:
            multiprocessing.spawn(  # type: ignore[no-untyped-call]
                _spawned, (said, *work), processes, daemon=True
            )
        except multiprocessing.ProcessRaisedException:
            if said.empty():
                raise
            raise said.get() from None


def _claim(out: Path, states: Path) -> None:
    """See that `out` is free, or ours and unfinished, and that a checkpoint fits into it; make `states`."""
    try:
        if out.is_dir() and any(path != states for path in out.iterdir()):
            raise InputError(f"{out} is not empty; name a new folder with --out.")
        states.mkdir(parents=True, exist_ok=True)
        owned.refuse_links(states)
        artefacts.write_bytes(states / "probe", b"")
    except OSError as error:
        raise InputError(f"Cannot write into {out}: {error.strerror}; choose another --out.") from None
    if shutil.disk_usage(out).free < NEEDED:
        raise InputError(
            f"The disk of {out} has less than {NEEDED // 2**20} MB left; free some or choose another --out."
        )


def _spawned(rank: int, said: SimpleQueue[VZeroError], *work: Any) -> None:
    """As `_work`; a failure that has a sentence is handed over, since else its traceback would be."""
    try:
        _work(rank, *work)
    except Exception as error:
        states = work[-1]
        if failure := error if isinstance(error, VZeroError) else machine_failure(error, states):
            said.put(failure)
        raise


def _work(rank: int, processes: int, store: str, schedule: Schedule, seed: int, states: Path) -> None:
    torch.set_num_threads(1)
    if processes > 1:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        meeting = dist.FileStore(store, processes)
        dist.init_process_group("gloo", store=meeting, rank=rank, world_size=processes)
    learner = train(schedule, seed, rank, lambda line: print(line, flush=True), states)
    if rank == 0:
        made = {
            "seed": seed,
            "processes": processes,
            "size": asdict(schedule.size),
            **{name: getattr(schedule, name) for name in PHASES},
            "provenance": artefacts.provenance(),
        }
        with artefacts.atomic_folder(states.parent) as whole:  # in place of the states
            save(learner.model.eval(), build_processor(), whole)
            artefacts.write_json(whole / "build.json", made)
    if processes > 1:
        dist.destroy_process_group()
