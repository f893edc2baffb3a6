"""The processes that train one stage together; who starts them says in the environment which one this is.

A process that was not started so is alone: nothing here imports torch then, or waits for anybody. Objects go
by torch's object collectives over the group that `join` makes: gloo on CPUs, NCCL on GPUs.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar, cast

T = TypeVar("T")
STORE = "VZERO_STORE"  # the file in which the processes of one machine meet
# By which a launcher says who is who.
VARIABLES = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", STORE)
REPLICAS = "VZERO_REPLICAS"  # servers of a stage's model on a cluster: see rollout/replica.py
ALL_GPUS = "VZERO_ALL_GPUS"  # what CUDA_VISIBLE_DEVICES was, where a training is shown its own GPUs only
# For a process that still draws; one that died is noticed by the launcher, which ends the others at once.
TIMEOUT = timedelta(hours=6)


@dataclass(frozen=True)
class World:
    """This process is `rank` of `size` in its stage; `local_size` of them share a machine's CPU threads."""

    rank: int = 0
    size: int = 1
    local_size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the one process that writes."""
        return self.rank == 0


def world() -> World:
    """What the launcher said; a process without a launcher is alone."""
    said = os.environ
    size = int(said.get("WORLD_SIZE", "1"))
    if size == 1 or "RANK" not in said:
        return World()
    rank = int(said["RANK"])
    return World(rank, size, int(said.get("LOCAL_WORLD_SIZE", size)))


def join() -> None:
    """Meet the others, each process on a device of its own; alone, do nothing.

    On one machine they meet in a file: torch's own store would listen on all interfaces and ask nobody who is
    there.
    """
    here = world()
    if here.size > 1:
        import torch
        from accelerate import PartialState
        from accelerate.utils import check_cuda_p2p_ib_support

        meeting = {}
        if path := os.environ.get(STORE):
            store = torch.distributed.FileStore(path, here.size)
            store.set_timeout(TIMEOUT)
            meeting = {"store": store, "rank": here.rank, "world_size": here.size}
        on_gpu = torch.cuda.is_available()
        if not on_gpu:  # accelerate would say "cpu:0", from which torch cannot load an optimizer's state
            os.environ["ACCELERATE_TORCH_DEVICE"] = "cpu"
        elif not check_cuda_p2p_ib_support():  # some GPUs under old drivers, which accelerate refuses
            os.environ |= {"NCCL_P2P_DISABLE": "1", "NCCL_IB_DISABLE": "1"}
        PartialState(cpu=not on_gpu, timeout=TIMEOUT, **meeting)


def wait() -> None:
    """Return when every process has come here."""
    all_gather_object(None)


def all_gather_object(value: T) -> list[T]:
    """Everyone's `value`, by rank; all must call it."""
    size = world().size
    if size == 1:
        return [value]
    from torch import distributed

    found: list[T] = [value] * size
    distributed.all_gather_object(found, value)
    return found


def broadcast(find: Callable[[], T]) -> T:
    """What `find` returns in the first process, in all of them; only the first calls it, all must ask.

    It must not leave the others waiting for long: see `TIMEOUT`.
    """
    here = world()
    if here.size == 1:
        return find()
    from torch import distributed

    found = [find() if here.first else None]
    distributed.broadcast_object_list(found, src=0)
    return cast(T, found[0])
