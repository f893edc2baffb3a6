"""One phase of one side as a row of the profile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from harness.perf.flops import Shape
from harness.perf.profile.clock import summary
from harness.perf.profile.counts import Counts

OURS, STOCK = "vzero", "stock"


@dataclass(frozen=True)
class Measured:
    """What is known of a phase.

    Attributes:
        target: "rollout", "votes" or "grpo": what was run; a GRPO batch has rollouts and votes of its own.
        seconds: of each timed repetition.
        prompt_tokens, completion_tokens: real tokens of the task, each sequence's own: what throughput is
            counted in.
        counts, real: what was computed, and how many of its positions hold a token.
        pictures: distinct ones.
        needed, computed: floating-point operations by the formulas.
        shape: of the model, for the bytes that decoding reads.
        peak_mib: None where it could not be measured.
    """

    target: str
    phase: str
    role: str
    side: str
    seconds: Sequence[float]
    prompt_tokens: int
    completion_tokens: int
    counts: Counts
    real: int
    pictures: int
    needed: float
    computed: float
    shape: Shape
    peak_mib: float | None = None


def row(one: Measured, machine: dict[str, Any]) -> dict[str, Any]:
    """JSON row: counts, times, rates, and both utilisations of the measured roof (see
    docs/performance.md)."""
    times, counts = summary(one.seconds), one.counts
    median, roof = times["median"], machine["matmul_tflops"] * 1e12
    moved = counts.decode_calls * one.shape.weight_bytes + counts.kv_tokens * one.shape.kv_bytes
    return {
        "target": one.target,
        "phase": one.phase,
        "role": one.role,
        "side": one.side,
        "seconds": times,
        "prompt_tokens": one.prompt_tokens,
        "completion_tokens": one.completion_tokens,
        "prompt_tokens_per_second": _quotient(one.prompt_tokens, median),
        "completion_tokens_per_second": _quotient(one.completion_tokens, median),
        "calls": counts.calls,
        "positions": counts.positions,
        "real_positions": one.real,
        "padding_factor": _quotient(counts.positions, one.real),
        "pictures": one.pictures,
        "encoder_passes": counts.images,
        "encoder_passes_per_picture": _quotient(counts.images, one.pictures),
        "peak_mib": one.peak_mib,
        "flops_needed": one.needed,
        "flops_computed": one.computed,
        "mfu": _quotient(one.needed, median * roof),
        "hfu": _quotient(one.computed, median * roof),
        "decode_bytes": moved,
        "bandwidth_use": _quotient(moved, median * machine["bandwidth_gbs"] * 1e9) if moved else None,
    }


def _quotient(value: float, by: float) -> float | None:
    return value / by if by else None


def ratios(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Stock over ours wherever both sides were measured; above 1 means that ours is better.

    `speedup` is the ratio of median seconds a completion token (generation draws other tokens on either
    side), its range that of the repetitions run side by side.
    """
    sides = {(one["target"], one["phase"], one["role"], one["side"]): one for one in rows}
    found = []
    for (target, phase, role, side), ours in sides.items():
        stock = sides.get((target, phase, role, STOCK))
        if side != OURS or stock is None:
            continue
        fair = ours["completion_tokens"] / stock["completion_tokens"]
        pairs = [
            fair * theirs / mine
            for mine, theirs in zip(ours["seconds"]["values"], stock["seconds"]["values"], strict=True)
            if mine > 0
        ]
        found.append(
            {
                "target": target,
                "phase": phase,
                "role": role,
                "speedup": fair * stock["seconds"]["median"] / ours["seconds"]["median"],
                "speedup_range": [min(pairs), max(pairs)],
                "positions": _quotient(stock["positions"], ours["positions"]),
                "encoder_passes": _quotient(stock["encoder_passes"], ours["encoder_passes"]),
                "peak_memory": _quotient(stock["peak_mib"], ours["peak_mib"])
                if stock["peak_mib"] and ours["peak_mib"]
                else None,
            }
        )
    return found
