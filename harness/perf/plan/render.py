"""A plan for the terminal: a pure function of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.perf.plan import gains
from harness.perf.plan.plan import Plan

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

GB = 1e9


def show(plan: Plan, terminal: Console) -> None:
    """Memory, work, disk, gains, assumptions, then the verdict."""

    def say(text: str) -> None:
        terminal.print(text, markup=False, highlight=False)

    launch, size = plan.preset.launch, plan.size
    where = (
        f"{plan.gpus} x {plan.machine.name}, {launch.nodes} node{'s' if launch.nodes > 1 else ''}"
        if plan.gpus
        else plan.machine.name
    )
    say(f"Plan of {plan.preset.name} on {where}")
    say(
        f"{plan.preset.model}: {_count(size.total)} parameters, {_count(plan.trained)} of them trained by {_split(plan)}"
    )
    say(f"a picture of {plan.picture[0]} x {plan.picture[1]} pixels is {plan.picture_tokens} tokens\n")
    for table in (_memory(plan), _work(plan), _gains(plan)):
        terminal.print(table)
        say("")
    parts = ", ".join(f"{name} {_bytes(value)}" for name, value in plan.disk.items() if value)
    say(f"Disk: {_bytes(sum(plan.disk.values()))} ({parts})")
    told = plan.assumed
    say(
        f"Assumed: completions of {told.completion_tokens} tokens on average (where that many are allowed); {told.valid:.0%} of questions "
        f"valid, {told.kept:.0%} of those kept; {plan.machine.computing:.0%} of {plan.machine.tflops:g} TFLOP/s in training, decoding at "
        f"{_decoding(plan)} of {plan.machine.bandwidth / 1e9:,.0f} GB/s; {gains.CHANGED:.0%} of items "
        f"change their answer; gains spread by {100 * gains.SEED_SPREAD:g} points over seeds."
        + (" No hour and no byte of this was measured on a GPU." if plan.gpus else "")
    )
    say("")
    if plan.refusals:
        say(f"Does not fit. {' '.join(plan.refusals)}")
        say(
            f"What fits here: {', '.join(plan.fitting)}."
            if plan.fitting
            else "No shipped preset of this model fits here; a smaller model may."
        )
    else:
        say("Fits.")


def _decoding(plan: Plan) -> str:
    """The share of the bandwidth, and what is left of it where transformers draws."""
    fast, slow = plan.machine.decoding, plan.machine.decoding * plan.machine.unfused
    engines = {plan.preset.engine.name, plan.preset.rollouts.engine}
    if slow == fast or "transformers" not in engines:
        return f"{fast:.0%}"
    return f"{slow:.0%}" if engines == {"transformers"} else f"{fast:.0%} ({slow:.0%} by transformers)"


def _split(plan: Plan) -> str:
    launch = plan.preset.launch
    if not launch.gpus:
        return "one process on the CPU"
    ways = {"single": "one process", "ddp": "DDP", "fsdp2": "FSDP2"}[launch.strategy]
    solver = f", {launch.solver_gpus} more a node serve the Solver" if launch.solver_gpus else ""
    return (
        f"{ways} on {launch.gpus * launch.nodes} GPU{'s' if launch.gpus * launch.nodes > 1 else ''}{solver}"
    )


def _memory(plan: Plan) -> Table:
    table = _table("Memory of one device", ["phase", "total", "of which"], numbers=(1,))
    for phase in plan.phases:
        parts = ", ".join(
            f"{name} {_bytes(value)}"
            for name, value in sorted(phase.parts.items(), key=lambda one: -one[1])
            if value
        )
        table.add_row(phase.name, _bytes(phase.total), parts)
    return table


def _work(plan: Plan) -> Table:
    table = _table(
        f"Work, {plan.preset.iterations} iterations",
        ["stage", "prompts", "steps", "tokens drawn", "hours"],
        numbers=(1, 2, 3, 4),
    )
    for part in plan.parts:
        table.add_row(
            part.name,
            f"{part.prompts:,}",
            f"{part.steps:,}" if part.steps else "",
            _count(part.tokens),
            _hours(part.hours),
        )
    steps, tokens = sum(part.steps for part in plan.parts), sum(part.tokens for part in plan.parts)
    table.add_row("in all", "", f"{steps:,}", _count(tokens), _hours(plan.hours), style="bold")
    return table


def _gains(plan: Plan) -> Table:
    table = _table(
        "Smallest gain that can be told from nothing (80 % power)",
        ["suite", "items", "points"],
        numbers=(1, 2),
    )
    for gain in plan.gains:
        points = (
            "not known"
            if gain.items is None
            else "none"
            if gain.smallest is None
            else f"{100 * gain.smallest:.1f}"
        )
        table.add_row(gain.suite, "" if gain.items is None else f"{gain.items:,}", points)
    return table


def _table(title: str, columns: list[str], numbers: tuple[int, ...]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for index, name in enumerate(columns):
        table.add_column(
            name, justify="right" if index in numbers else "left", no_wrap=index in numbers or index == 0
        )
    return table


def _bytes(value: float) -> str:
    return (
        f"{value / GB:.0f} GB"
        if value >= 10 * GB
        else f"{value / GB:.1f} GB"
        if value >= 0.1 * GB
        else f"{value / 1e6:.0f} MB"
    )


def _count(value: float) -> str:
    for unit, name in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if value >= unit:
            return f"{value / unit:.3g} {name}" if name != "B" else f"{value / unit:.2f} B"
    return f"{value:.0f}"


def _hours(value: float) -> str:
    return f"{value:.1f}" if value >= 0.1 else f"{60 * value:.1f} min"
