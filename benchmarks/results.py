"""What `make bench` writes: results/benchmarks/<machine class>.json and the same as a Markdown table."""

from __future__ import annotations

import os
import platform
import re
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from benchmarks.case import Case, padding_factor
from benchmarks.shapes import SEED, SHAPES
from harness.perf.profile.clock import summary
from harness.perf.profile.counts import Counts
from vzero.runtime import artefacts

Timed = Sequence[tuple[float, float]]  # of each round: seconds, work done


def row(
    benchmark: str, shape: str, case: Case, ours: Timed, stock: Timed, counts: tuple[Counts, Counts] | None
) -> dict[str, Any]:
    """One line of the results. `ratio` is stock's median seconds a unit of work over ours, so above 1 means
    that ours is faster."""
    sides = {"ours": _side(case.ours_is, ours), "stock": _side(case.stock_is, stock)}
    for side, counted in zip(sides.values(), counts or (), strict=False):
        side["counts"] = _counts(counted)
    pairs = [
        (theirs / done) / (mine / work) for (mine, work), (theirs, done) in zip(ours, stock, strict=True)
    ]
    return {
        "benchmark": benchmark,
        "shape": shape,
        "workload": dict(case.workload),
        "unit": case.unit,
        **sides,
        "ratio": sides["stock"]["seconds_per_unit"] / sides["ours"]["seconds_per_unit"],
        "ratio_range": [min(pairs), max(pairs)],
        "stable": bool(sides["ours"]["seconds"]["stable"] and sides["stock"]["seconds"]["stable"]),
        "difference": case.difference() if case.difference else None,
        "notes": list(case.notes),
    }


def _side(what: str, timed: Timed) -> dict[str, Any]:
    return {
        "what": what,
        "seconds": summary([seconds for seconds, _ in timed]),
        "work": [work for _, work in timed],
        "seconds_per_unit": statistics.median(seconds / work for seconds, work in timed),
    }


def _counts(counts: Counts) -> dict[str, Any]:
    return {
        "forward_passes": counts.calls,
        "positions": counts.positions,
        "decode_positions": counts.decode_positions,
        "padding_factor": padding_factor(counts),
        "encoder_passes": counts.images,
    }


def skipped(benchmark: str, shape: str, reason: str) -> dict[str, Any]:
    """A line that says why there is no number."""
    return {"benchmark": benchmark, "shape": shape, "skipped": reason}


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def machine_class() -> str:
    """Names machines that should measure alike, never one machine: "cpu-2-cores-x86_64",
    "gpu-nvidia-h200"."""
    import torch

    if torch.cuda.is_available():
        return "gpu-" + re.sub(r"[^a-z0-9]+", "-", torch.cuda.get_device_name().lower()).strip("-")
    return f"cpu-{cores()}-cores-{platform.machine()}"


def document(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """All of a run, with where it came from."""
    provenance = artefacts.provenance()
    provenance["packages"]["pytest-benchmark"] = metadata.version("pytest-benchmark")
    return {
        "machine": {"class": machine_class(), "cores": cores(), "processor": _processor()},
        "provenance": provenance,
        "seed": SEED,
        "shapes": {shape.name: asdict(shape) for shape in SHAPES},
        "benchmarks": [dict(one) for one in rows],
    }


def _processor() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), None)


def write(folder: Path, result: Mapping[str, Any]) -> Path:
    """Both files, each whole or absent; returns the JSON's path."""
    path = folder / f"{result['machine']['class']}.json"
    artefacts.write_json(path, result)
    artefacts.write_text(path.with_suffix(".md"), markdown(result))
    return path


def markdown(result: Mapping[str, Any]) -> str:
    """The table, and what the numbers are."""
    versions, git = result["provenance"]["packages"], result["provenance"]["git"] or {}
    commit = (
        f"commit {git['commit'][:12]}{' with uncommitted changes' if git['dirty'] else ''}"
        if git
        else "no commit known"
    )
    lines = [
        f"# Benchmarks on {result['machine']['class']}",
        "",
        f"{result['machine']['processor'] or 'Unknown processor'}, {result['machine']['cores']} cores; torch {versions['torch']}, "
        f"transformers {versions['transformers']}, trl {versions['trl']}; {commit}; seed {result['seed']}.",
        "",
        "Medians of interleaved rounds (stock, ours, stock, ours ...) in one process. *Ratio* is stock's seconds a unit of work over ours:",
        "above 1, ours is faster; in brackets the range over rounds; `~` marks times that varied too much to be trusted. *Padding* is",
        "positions computed a token, *pictures* vision-encoder passes, each ours : stock. Written by `make bench`.",
        "",
        "| benchmark | shape | ours | stock | ratio | padding | pictures | rounds |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [_line(one) for one in result["benchmarks"]]
    lines += ["", "What is compared:", ""]
    described: dict[str, str] = {}
    for one in result["benchmarks"]:
        if "skipped" not in one:
            described.setdefault(
                one["benchmark"], f"- **{one['benchmark']}**: {one['ours']['what']} | {one['stock']['what']}"
            )
    return "\n".join([*lines, *described.values()]) + "\n"


def _line(one: Mapping[str, Any]) -> str:
    if "skipped" in one:
        return f"| {one['benchmark']} | {one['shape']} | | | not run: {one['skipped']} | | | |"
    ours, stock = one["ours"], one["stock"]
    low, high = one["ratio_range"]
    cells = [
        one["benchmark"],
        one["shape"],
        _seconds(ours["seconds"]["median"]),
        _seconds(stock["seconds"]["median"]),
        f"{'' if one['stable'] else '~'}{one['ratio']:.2f} ({low:.2f} to {high:.2f})",
        _pair(one, "padding_factor", ".2f"),
        _pair(one, "encoder_passes", "d"),
        str(len(ours["work"])),
    ]
    return "| " + " | ".join(cells) + " |"


def _pair(one: Mapping[str, Any], name: str, form: str) -> str:
    values = [one[side].get("counts", {}).get(name) for side in ("ours", "stock")]
    return " : ".join(format(value, form) for value in values) if all(value for value in values) else ""


def _seconds(value: float) -> str:
    return f"{value:.2f} s" if value >= 1 else f"{1000 * value:.3g} ms"
