"""The processes that train one stage together. `accelerate launch` says in the environment which of them this
one is.

A stage that was not started so is alone, and then nothing here imports torch or waits for anybody. Whoever
says something to the others says it by torch's own object collectives, over the group that `join` makes: gloo
on CPUs, NCCL on GPUs.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

T = TypeVar("T")
VARIABLES = (
    "RANK",
    "LOCAL_RANK",
    "WORLD_SIZE",
    "LOCAL_WORLD_SIZE",
    "MASTER_ADDR",
    "MASTER_PORT",
)  # by which a launcher says who is who
ALL_GPUS = "VZERO_ALL_GPUS"  # what CUDA_VISIBLE_DEVICES was, where a training is shown its own GPUs only
TIMEOUT = timedelta(
    hours=6
)  # for a process that still draws; one that died is noticed by the launcher, which ends the others at once


@dataclass(frozen=True)
class World:
    """`rank` 0..size - 1 among all processes of a stage; of the `local_size` on this machine this one is
    `local_rank`."""

    rank: int = 0
    size: int = 1
    local_size: int = 1
    local_rank: int = 0

    @property
    def first(self) -> bool:
        """Whether this is the one process that writes."""
        return self.rank == 0

    @property
    def first_here(self) -> bool:
        """Whether this is the first one of its machine."""
        return self.local_rank == 0


def world() -> World:
    """What the launcher said; a process without a launcher is alone."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1 or "RANK" not in os.environ:
        return World()
    local_size, local_rank = (
        int(os.environ.get("LOCAL_WORLD_SIZE", size)),
        int(os.environ.get("LOCAL_RANK", os.environ["RANK"])),
    )
    return World(int(os.environ["RANK"]), size, local_size, local_rank)


def join() -> None:
    """Meet the others, each process on a device of its own; alone, do nothing."""
    if world().size > 1:
        import torch
        from accelerate import PartialState

        on_gpu = torch.cuda.is_available()
        if not on_gpu:  # accelerate would say "cpu:0", from which torch cannot load an optimizer's state
            os.environ["ACCELERATE_TORCH_DEVICE"] = "cpu"
        PartialState(cpu=not on_gpu, timeout=TIMEOUT)


def wait() -> None:
    """Return when every process has come here."""
    all_gather_object(None)


def all_gather_object(value: T) -> list[T]:
    """Everyone's `value`, by rank; all must ask."""
    size = world().size
    if size == 1:
        return [value]
    from torch import distributed

    found: list[T] = [value] * size
    distributed.all_gather_object(found, value)
    return found


def broadcast(find: Callable[[], T]) -> T:
    """What `find` returns in the first process, in all of them; the others do not call it, and all must ask.

    It must not leave the others waiting for long: see `TIMEOUT`.
    """
    here = world()
    if here.size == 1:
        return find()
    from torch import distributed

    said = [find() if here.first else None]
    distributed.broadcast_object_list(said, src=0)
    return said[0]


def broadcast_on_machine(find: Callable[[], T]) -> T:
    """As `broadcast`, machine by machine: what `find` returns in the first process of each, in all of that
    machine's."""
    here = world()
    if here.size == 1:
        return find()
    return all_gather_object(find() if here.first_here else None)[here.rank - here.local_rank]
