"""Bulk stages streamed and in chunks: `python -m benchmarks.bulk --out results/benchmarks/bulk.json`.

Until they streamed, stages that write, vote and evaluate asked for one engine-full at a time and waited for
its longest completion, with the slots that an engine has beside a trainer. Two parts:

- simulated: GPUs that decode b sequences in a step of `fixed + each * b` seconds, by a model of the step time
  and by lengths of completions, both written down with the result. Lengths are those that the pocket Solver
  drew for this (recorded), scaled to the mean of a real model, and a log-normal of the same mean. Prompts,
  pictures and weights are left out: both ways read the same.
- measured: the transformers engine and the pocket model with its own lengths, on this machine, both ways in
  turn.
"""

from __future__ import annotations

import argparse
import heapq
import os
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks import workload
from benchmarks.case import drawn_tokens
from benchmarks.shapes import POCKET, SEED, subject
from vzero.config import SamplingConfig
from vzero.presets import load_preset
from vzero.rollout import Request, Rollout
from vzero.rollout.protocol import Answer
from vzero.rollout.transformers_engine import TransformersEngine
from vzero.runtime import artefacts

MEAN, LONGEST = 390, 2048  # tokens of a completion: assumed of a Qwen2.5-VL that reasons, the presets' limit
COMPLETIONS = 40_000  # 4,000 questions, ten votes each
ROUNDS = 3


@dataclass(frozen=True)
class Gpu:
    """Seconds of a decoding step with b sequences: `fixed` + `each` * b. Assumed for an H200, not measured:
    reading the weights alone, at the full bandwidth, would take 1.6 ms at 3B and 3.5 ms at 7B."""

    fixed: float
    each: float

    def step(self, sequences: int) -> float:
        return self.fixed + self.each * sequences


@dataclass(frozen=True)
class Setting:
    """A model on GPUs: `chunk` sequences asked together before, dealt to `servers`; `streaming` servers of
    `slots` each now."""

    gpu: Gpu
    chunk: int
    servers: int
    streaming: int
    slots: tuple[int, ...]


SETTINGS = {
    "qwen2.5-vl-3b-1gpu": Setting(Gpu(5.5e-3, 2.0e-5), 60, 1, 1, (64, 256, 512)),
    "qwen2.5-vl-7b": Setting(Gpu(8.5e-3, 2.5e-5), 510, 4, 8, (256, 512)),
}


def barrier(lengths: Sequence[int], gpu: Gpu) -> float:
    """Seconds of a batch that ends with its longest: each step has the sequences that go on."""
    ordered, before, seconds = sorted(lengths), 0, 0.0
    for i, length in enumerate(ordered):
        seconds += (length - before) * gpu.step(len(ordered) - i)
        before = length
    return seconds


def chunked(lengths: np.ndarray, setting: Setting) -> float:
    """Seconds of all chunks; of one the slowest server's part."""
    total = 0.0
    for start in range(0, len(lengths), setting.chunk):
        parts = np.array_split(lengths[start : start + setting.chunk], setting.servers)
        total += max(barrier(part.tolist(), setting.gpu) for part in parts if len(part))
    return total


def streamed(lengths: np.ndarray, setting: Setting, slots: int) -> float:
    """Seconds until the last server is done: a freed slot takes the next sequence."""
    ends = []
    for part in np.array_split(lengths, setting.streaming):
        waiting = part.tolist()
        running, waiting = waiting[:slots], waiting[slots:][::-1]
        heapq.heapify(running)
        now, seconds = 0, 0.0
        while running:
            end = running[0]
            seconds += (end - now) * setting.gpu.step(len(running))
            now = end
            while running and running[0] == end:
                heapq.heappop(running)
                if waiting:
                    heapq.heappush(running, end + waiting.pop())
        ends.append(seconds)
    return max(ends)


def simulate(recorded: Sequence[int]) -> dict[str, Any]:
    """Tokens a second of both ways, by setting and by kind of lengths."""
    rng = np.random.default_rng(SEED)
    scaled = rng.choice(np.asarray(recorded), COMPLETIONS) * (MEAN / float(np.mean(recorded)))
    spread = 0.8
    kinds = {
        "recorded, scaled": scaled,
        "log-normal": rng.lognormal(np.log(MEAN) - spread**2 / 2, spread, COMPLETIONS),
    }
    found: dict[str, Any] = {}
    for kind, drawn in kinds.items():
        lengths = np.clip(np.rint(drawn), 1, LONGEST).astype(int)
        found[kind] = {
            "mean": float(lengths.mean()),
            "longest": int(lengths.max()),
            "settings": {name: _rates(lengths, one) for name, one in SETTINGS.items()},
        }
    return found


def _rates(lengths: np.ndarray, setting: Setting) -> dict[str, Any]:
    before = lengths.sum() / chunked(lengths, setting)
    now = {str(slots): lengths.sum() / streamed(lengths, setting, slots) for slots in setting.slots}
    return {
        **asdict(setting),
        "chunks": round(before),
        "streamed": {slots: round(rate) for slots, rate in now.items()},
        "ratio": {slots: round(rate / before, 2) for slots, rate in now.items()},
    }


def measure(requests: Sequence[Request], votes: SamplingConfig, slots: int) -> dict[str, Any]:
    """Tokens a second of both ways in turn, and whether they draw the same."""
    of = subject(POCKET)
    engine = TransformersEngine(of.model, of.processor, slots)
    together = max(1, slots // votes.n)

    def in_chunks() -> list[Rollout]:
        starts = range(0, len(requests), together)
        return [one for start in starts for one in engine.generate(requests[start : start + together], votes)]

    def in_a_stream() -> list[Rollout]:
        told: dict[int, Answer] = {}
        engine.stream(iter(requests), votes, told.__setitem__)
        return [one for i in range(len(requests)) if isinstance(one := told[i], Rollout)]

    ways: dict[str, Callable[[], list[Rollout]]] = {"chunks": in_chunks, "streamed": in_a_stream}
    drawn = {name: way() for name, way in ways.items()}  # once to warm up
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            start = time.perf_counter()
            rates[name].append(drawn_tokens(way()) / (time.perf_counter() - start))
    pairs = [now / before for before, now in zip(rates["chunks"], rates["streamed"], strict=True)]
    ids = {name: [[c.token_ids for c in one.completions] for one in found] for name, found in drawn.items()}
    return {
        "slots": slots,
        "questions_a_chunk": together,
        "tokens_per_second": {name: round(statistics.median(found), 1) for name, found in rates.items()},
        "ratio": round(statistics.median(pairs), 3),
        "ratio_range": [round(min(pairs), 3), round(max(pairs), 3)],
        "same_tokens": ids["chunks"] == ids["streamed"],
        "lengths": {
            "mean": round(statistics.mean(len(one) for of in ids["streamed"] for one in of), 2),
            "longest": max(len(one) for of in ids["streamed"] for one in of),
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Bulk stages streamed against chunks.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--questions", type=int, default=512)
    options = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    votes, requests = load_preset("pocket").solver.votes, workload.requests(options.questions)
    first = workload.engine(subject(POCKET)).generate(requests[:256], votes)
    recorded = [len(one.token_ids) for rollout in first for one in rollout.completions]
    result = {
        "command": f"python -m benchmarks.bulk --questions {options.questions}",
        "simulated": simulate(recorded),
        "measured": {
            "threads": torch.get_num_threads(),
            "questions": len(requests),
            "by_slots": [measure(requests, votes, slots) for slots in (1280, 160)],
        },
        "provenance": artefacts.provenance(),
    }
    artefacts.write_json(options.out, result)


if __name__ == "__main__":
    main()
