"""What `make bench` writes: results/benchmarks/<machine class>.json and the same as a Markdown table."""

from __future__ import annotations

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
from harness.perf.profile.roofline import processor
from harness.tables import markdown
from harness.tables.table import Cell, Row, Table, keys, numbers
from vzero.runtime import artefacts
from vzero.runtime.machine import cores

Timed = Sequence[tuple[float, float]]  # of each round: seconds, work done
EXPLAINED = (
    "Medians of interleaved rounds (stock, ours, stock, ours ...) in one process. Ratio is stock's seconds "
    "a unit of work over ours: above 1, ours is faster; in brackets the range over rounds; "
    "~ marks times that varied too much to be trusted. Padding is positions computed a token, "
    "pictures vision-encoder passes, each ours : stock. Written by make bench."
)


def row(
    benchmark: str, shape: str, case: Case, ours: Timed, stock: Timed, counts: tuple[Counts, Counts] | None
) -> dict[str, Any]:
    """One line of the results. `ratio` is stock's median seconds a unit of work over ours, so above 1 means
    that ours is faster."""
    sides = {"ours": _side(case.ours_is, ours), "stock": _side(case.stock_is, stock)}
    for side, counted in zip(sides.values(), counts or (), strict=False):
        side["counts"] = {
            "forward_passes": counted.calls,
            "positions": counted.positions,
            "decode_positions": counted.decode_positions,
            "padding_factor": padding_factor(counted),
            "encoder_passes": counted.images,
        }
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
        "seconds": summary([seconds for seconds, _ in timed]).model_dump(mode="json"),
        "work": [work for _, work in timed],
        "seconds_per_unit": statistics.median(seconds / work for seconds, work in timed),
    }


def skipped(benchmark: str, shape: str, reason: str) -> dict[str, Any]:
    """A line that says why there is no number."""
    return {"benchmark": benchmark, "shape": shape, "skipped": reason}


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
        "machine": {"class": machine_class(), "cores": cores(), "processor": processor()},
        "provenance": provenance,
        "seed": SEED,
        "shapes": {shape.name: asdict(shape) for shape in SHAPES},
        "benchmarks": [dict(one) for one in rows],
    }


def write(folder: Path, result: Mapping[str, Any]) -> Path:
    """Both files, each whole or absent; returns the JSON's path."""
    path = folder / f"{result['machine']['class']}.json"
    artefacts.write_json(path, result)
    artefacts.write_text(path.with_suffix(".md"), as_markdown(result))
    return path


def as_markdown(result: Mapping[str, Any]) -> str:
    """The table, and what the numbers are."""
    machine, versions, git = result["machine"], result["provenance"]["packages"], result["provenance"]["git"]
    dirty = " with uncommitted changes" if git and git["dirty"] else ""
    measured = [
        machine["processor"] or "Unknown processor",
        f"{machine['cores']} cores",
        *(f"{name} {versions[name]}" for name in ("torch", "transformers", "trl")),
        f"commit {git['commit'][:12]}{dirty}" if git else "no commit known",
        f"seed {result['seed']}",
    ]
    columns = (
        *keys("benchmark", "shape"),
        *numbers("ours", "stock", "ratio", "padding", "pictures", "rounds"),
    )
    rows = [_cells(one) for one in result["benchmarks"]]
    table = Table(
        f"Benchmarks on {machine['class']}", columns, [rows], [f"{', '.join(measured)}.", EXPLAINED]
    )
    described = {
        one["benchmark"]: f"- **{one['benchmark']}**: {one['ours']['what']} | {one['stock']['what']}"
        for one in reversed(result["benchmarks"])
        if "skipped" not in one
    }
    compared = "\n".join(reversed(described.values()))
    return f"{markdown.render(table, level=1)}\n\n## What is compared: ours, then stock\n\n{compared}\n"


def _cells(one: Mapping[str, Any]) -> Row:
    names = (Cell.of(one["benchmark"]), Cell.of(one["shape"]))
    if "skipped" in one:
        return (*names, Cell(""), Cell(""), Cell.of(f"not run: {one['skipped']}"), *[Cell("")] * 3)
    ours, stock, (low, high) = one["ours"], one["stock"], one["ratio_range"]
    return (
        *names,
        _seconds(ours["seconds"]["median"]),
        _seconds(stock["seconds"]["median"]),
        Cell.of(f"{'' if one['stable'] else '~'}{one['ratio']:.2f}", f"{low:.2f} to {high:.2f}"),
        _pair(one, "padding_factor", ".2f"),
        _pair(one, "encoder_passes", "d"),
        Cell.number(len(ours["work"])),
    )


def _pair(one: Mapping[str, Any], name: str, form: str) -> Cell:
    values = [one[side].get("counts", {}).get(name) for side in ("ours", "stock")]
    return Cell(" : ".join(format(value, form) for value in values) if all(values) else "")


def _seconds(value: float) -> Cell:
    return Cell(f"{value:.2f} s" if value >= 1 else f"{1000 * value:.3g} ms", value)
