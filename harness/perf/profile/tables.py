"""A profile as tables and sentences; terminal, Markdown and HTML show the same ones. Pure functions of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from harness.perf.profile.results import OURS, STOCK, PhaseRow, Profile, Ratio
from harness.tables import markdown
from harness.tables.table import Cell, Column, Table, keys, numbers
from harness.tables.words import amount, counted, significant

if TYPE_CHECKING:
    from rich.console import Console

Compared = TypeVar("Compared", PhaseRow, Ratio)
UNITS = ((1e15, "PFLOP"), (1e12, "TFLOP"), (1e9, "GFLOP"), (1e6, "MFLOP"))


def tables(profile: Profile) -> list[Table]:
    """Every table that this profile has something for."""
    found = [_times(profile.phases), _work(profile.phases)]
    if profile.ratios:
        found.append(_ratios(profile.ratios))
    if profile.parts:
        found.append(_parts(profile))
    return found


def heading(one: PhaseRow | Ratio) -> str:
    """What was run to measure a row: rollouts or votes by themselves, or a generation batch of a role, which
    has its own."""
    alone = {"rollout": "Rollouts alone", "votes": "Votes alone"}
    return alone.get(one.target, f"{one.role.capitalize()}'s batch")


def _times(phases: Sequence[PhaseRow]) -> Table:
    def cells(one: PhaseRow) -> list[Cell]:
        times = one.seconds
        shaky = "?" if times.stable is False else ""
        return [
            Cell.of(one.phase),
            Cell.of(one.side),
            Cell(significant(times.median) + shaky, times.median),
            Cell.significant(times.stdev, digits=2),
            Cell.significant(one.prompt_tokens_per_second),
            Cell.significant(one.completion_tokens_per_second),
            Cell.significant(one.peak_mib),
        ]

    named = numbers("seconds", "+-", "prompt tok/s", "compl. tok/s", "peak MiB")
    unstable = any(one.seconds.stable is False for one in phases)
    notes = ["?: the repetitions differ too much for this time to be trusted."] if unstable else []
    return _grouped("Time and memory", (*keys("phase", "side"), *named), phases, cells, notes)


def _work(phases: Sequence[PhaseRow]) -> Table:
    """What was computed, and the share of the machine's roof that was put to use."""
    most = max((one.flops_needed for one in phases), default=0.0)
    scale, unit = next((one for one in UNITS if most >= one[0]), UNITS[-1])

    def cells(one: PhaseRow) -> list[Cell]:
        return [
            Cell.of(one.phase),
            Cell.of(one.side),
            Cell.number(one.padding_factor, digits=2),
            Cell.significant(one.encoder_passes_per_picture),
            Cell.significant(one.flops_needed / scale),
            *map(Cell.percent, (one.mfu, one.hfu, one.bandwidth_use)),
        ]

    columns = (
        *keys("phase", "side"),
        *numbers("padding", "enc. passes", unit),
        *numbers("MFU", "HFU", "bandw.", unit="%"),
    )
    note = (
        "padding: positions computed for each that holds a token; "
        "enc. passes: pictures encoded for each distinct one; "
        f"{unit}, MFU: what the task needs; HFU: what was computed."
    )
    return _grouped("Work", columns, phases, cells, [note])


def _ratios(ratios: Sequence[Ratio]) -> Table:
    def cells(one: Ratio) -> list[Cell]:
        low, high = one.speedup_range
        measures = (one.positions, one.encoder_passes, one.peak_memory)
        speed = Cell.ratio(one.speedup, f"{low:.2f} to {high:.2f}")
        return [Cell.of(one.phase), speed, *map(Cell.ratio, measures)]

    columns = (*keys("phase"), *numbers("speed", "positions", "encoder passes", "peak memory"))
    return _grouped("Stock over ours (above 1: ours is better)", columns, ratios, cells)


def _parts(profile: Profile) -> Table:
    """Seconds of what is timed by itself: parsing rewards, which is in no phase; pictures, old and reference
    pass, which are."""
    sides = [side for side in (OURS, STOCK) if any(side in by_side for by_side in profile.parts.values())]
    groups = []
    for by_side in profile.parts.values():
        names = dict.fromkeys(name for values in by_side.values() for name in values)
        groups.append(
            [
                (Cell.of(name), *(Cell.significant(by_side.get(side, {}).get(name)) for side in sides))
                for name in names
            ]
        )
    return Table(
        "Timed within a batch, seconds",
        (*keys("part"), *numbers(*sides)),
        groups,
        ["There is no weight sync: the engine reads the weights that are trained."],
        [f"{role.capitalize()}'s batch" for role in profile.parts],
    )


def _grouped(
    title: str,
    columns: Sequence[Column],
    found: Sequence[Compared],
    cells: Callable[[Compared], list[Cell]],
    notes: Sequence[str] = (),
) -> Table:
    """Rows under what was run, the sides of a phase below each other."""
    groups: dict[str, dict[str, list[list[Cell]]]] = {}
    for one in found:
        groups.setdefault(heading(one), {}).setdefault(one.phase, []).append(cells(one))
    rows = [[row for of_phase in phases.values() for row in of_phase] for phases in groups.values()]
    return Table(title, columns, rows, notes, list(groups))


def facts(profile: Profile) -> list[str]:
    """Sentences beside the tables: the machine, the workload, the log-prob gap, the software."""
    machine, workload = profile.machine, profile.workload
    found = [
        f"{machine.device}, {counted(machine.threads, 'thread')}: {machine.matmul_tflops:.3g} TFLOP/s "
        f"{machine.dtype} and {machine.bandwidth_gbs:.3g} GB/s, measured.",
        f"Model {profile.model.name} ({amount(profile.model.parameters)} parameters), "
        f"{workload.pictures} pictures, {workload.questions} questions ({workload.questions_written} of them "
        f"valid ones of the Questioner), {counted(profile.options.repetitions, 'repetition')}.",
    ]
    for role, gap in profile.logprob_gap.items():
        if gap.tokens:
            found.append(
                f"Log-probabilities of trainer and rollout, {role}: mean distance {gap.mean:.2e}, "
                f"largest {gap.max:.2e} nats, {gap.tokens} tokens."
            )
    origin, git = profile.provenance, profile.provenance["git"]
    packages = ", ".join(f"{name} {version}" for name, version in origin["packages"].items() if version)
    commit = f"; commit {git['commit'][:12]}{' with changes' if git['dirty'] else ''}" if git else ""
    return [*found, f"Python {origin['python']}, {packages}{commit}."]


def as_markdown(profile: Profile) -> str:
    """profile.md."""
    parts = [f"# Profile of {markdown.plain(profile.preset)}"]
    parts += [markdown.render(table) for table in tables(profile)]
    sentences = [*facts(profile), *(f"Warning: {one}" for one in profile.warnings)]
    parts += ["## Measured on", "\n".join(f"- {markdown.plain(one)}" for one in sentences)]
    return "\n\n".join(parts) + "\n"


def show(profile: Profile, console: Console) -> None:
    """The tables and sentences in the terminal."""
    from harness.tables import terminal

    for table in tables(profile):
        terminal.show(table, console)
        terminal.say("", console)
    for sentence in facts(profile):
        terminal.say(sentence, console, "dim")
    for warning in profile.warnings:
        terminal.say(f"Warning: {warning}", console, "yellow")
