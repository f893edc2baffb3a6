"""The profile's tables as data; terminal, Markdown and HTML show the same ones. Pure functions of the object
that profile.json holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Row = tuple[str, ...]
Group = tuple[str, tuple[Row, ...]]
UNITS = ((1e15, "PFLOP"), (1e12, "TFLOP"), (1e9, "GFLOP"), (0.0, "MFLOP"))


@dataclass(frozen=True)
class Grid:
    """A table whose rows stand under headings.

    Attributes:
        columns: names; a space may become a line break where room is short.
        words: leading columns that hold words, the others hold numbers.
        groups: a heading each, and the rows under it.
        notes: sentences below.
    """

    title: str
    columns: tuple[str, ...]
    words: int
    groups: tuple[Group, ...]
    notes: tuple[str, ...] = ()


def grids(profile: Mapping[str, Any]) -> list[Grid]:
    """Every table that this profile has something for."""
    found = [times(profile["phases"]), work(profile["phases"])]
    if profile["ratios"]:
        found.append(ratios(profile["ratios"]))
    if profile["parts"]:
        found.append(parts(profile["parts"]))
    return found


def heading(one: Mapping[str, Any]) -> str:
    """What was run to measure a row: rollouts or votes by themselves, or a generation batch of a role, which
    has its own."""
    return {"rollout": "Rollouts alone", "votes": "Votes alone"}.get(
        one["target"], f"{one['role'].capitalize()}'s batch"
    )


def times(phases: Sequence[Mapping[str, Any]]) -> Grid:
    """Seconds, rates and memory by phase and side."""
    shaky = any(one["seconds"]["stable"] is False for one in phases)
    return Grid(
        "Time and memory",
        ("phase", "side", "seconds", "+-", "prompt tok/s", "compl. tok/s", "peak MiB"),
        2,
        _grouped(
            phases,
            lambda one: (
                number(one["seconds"]["median"]) + ("?" if one["seconds"]["stable"] is False else ""),
                number(one["seconds"]["stdev"], 2),
                number(one["prompt_tokens_per_second"]),
                number(one["completion_tokens_per_second"]),
                number(one["peak_mib"]),
            ),
        ),
        ("?: the repetitions differ too much for this time to be trusted.",) if shaky else (),
    )


def work(phases: Sequence[Mapping[str, Any]]) -> Grid:
    """What was computed, and the share of the machine's roof that was put to use."""
    most = max((one["flops_needed"] for one in phases), default=0.0)
    scale, unit = next((scale, unit) for scale, unit in UNITS if most >= scale)
    return Grid(
        "Work",
        ("phase", "side", "padding", "enc. passes", unit, "MFU", "HFU", "bandw."),
        2,
        _grouped(
            phases,
            lambda one: (
                "-" if one["padding_factor"] is None else f"{one['padding_factor']:.2f}",
                number(one["encoder_passes_per_picture"]),
                number(one["flops_needed"] / (scale or 1e6)),
                share(one["mfu"]),
                share(one["hfu"]),
                share(one["bandwidth_use"]),
            ),
        ),
        (
            "padding: positions computed for each that holds a token; enc. passes: pictures encoded for each distinct one; "
            f"{unit}, MFU: what the task needs; HFU: what was computed.",
        ),
    )


def ratios(found: Sequence[Mapping[str, Any]]) -> Grid:
    """Stock over ours."""
    return Grid(
        "Stock over ours (above 1: ours is better)",
        ("phase", "speed", "range", "positions", "encoder passes", "peak memory"),
        1,
        _grouped(
            found,
            lambda one: (
                quotient(one["speedup"]),
                "{:.2f} to {:.2f}".format(*one["speedup_range"]),
                *(quotient(one[key]) for key in ("positions", "encoder_passes", "peak_memory")),
            ),
        ),
    )


def parts(found: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Grid:
    """Seconds of what is timed by itself: parsing rewards, which is in no phase; pictures, old and reference
    pass, which are."""
    sides = tuple(dict.fromkeys(side for of_role in found.values() for side in of_role))
    groups = []
    for role, of_role in found.items():
        names = dict.fromkeys(name for values in of_role.values() for name in values)
        rows = tuple((name, *(number(of_role.get(side, {}).get(name)) for side in sides)) for name in names)
        groups.append((f"{role.capitalize()}'s batch", rows))
    return Grid(
        "Timed within a batch, seconds",
        ("part", *sides),
        1,
        tuple(groups),
        ("There is no weight sync: the engine reads the weights that are trained.",),
    )


def _grouped(found: Iterable[Mapping[str, Any]], cells: Any) -> tuple[Group, ...]:
    """Rows under their headings, the sides of a phase below each other; its name stands on the first of
    them."""
    groups: dict[str, dict[str, list[Row]]] = {}
    for one in found:
        side = (one["side"],) if "side" in one else ()
        groups.setdefault(heading(one), {}).setdefault(one["phase"], []).append((*side, *cells(one)))
    return tuple(
        (
            title,
            tuple(
                (phase if index == 0 else "", *row)
                for phase, rows in phases.items()
                for index, row in enumerate(rows)
            ),
        )
        for title, phases in groups.items()
    )


def number(value: float | None, digits: int = 3) -> str:
    """Three significant digits, all of an integer part; a dash for nothing."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.{digits}g}"


def quotient(value: float | None) -> str:
    """A ratio."""
    return "-" if value is None else f"{value:.2f}x"


def share(value: float | None) -> str:
    """A share of the roof, at most five characters wide below 1,000 %."""
    return "-" if value is None else f"{value:.1%}" if value < 0.9995 else f"{value:.0%}"
