"""A plan as tables and sentences: pure functions of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from harness.perf.plan import gains
from harness.perf.plan.plan import Plan
from harness.tables.table import Cell, Table, keys, numbers, texts
from harness.tables.words import amount, counted, size

if TYPE_CHECKING:
    from rich.console import Console


def show(plan: Plan, console: Console) -> None:
    """Memory, work, gains, disk, assumptions, then the verdict."""
    from harness.tables import terminal

    for sentence in _opening(plan):
        terminal.say(sentence, console)
    for table in tables(plan):
        terminal.say("", console)
        terminal.show(table, console)
    for sentence in (_disk(plan), _assumed(plan), verdict(plan)):
        terminal.say(sentence + "\n", console)


def _opening(plan: Plan) -> list[str]:
    launch = plan.preset.launch
    where = plan.machine.name
    if plan.gpus:
        where = f"{plan.gpus} x {where}, {counted(launch.nodes, 'node')}"
    return [
        f"Plan of {plan.preset.name} on {where}",
        f"{plan.preset.model}: {amount(plan.size.total)} parameters, "
        f"{amount(plan.trained)} of them trained by {_split(plan)}",
        f"a picture of {plan.picture[0]} x {plan.picture[1]} pixels is {plan.picture_tokens} tokens",
    ]


def _split(plan: Plan) -> str:
    launch = plan.preset.launch
    if not launch.gpus:
        return "one process on the CPU"
    ways = {"single": "one process", "ddp": "DDP", "fsdp2": "FSDP2"}[launch.strategy]
    solver = f", {launch.solver_gpus} more a node serve the Solver" if launch.solver_gpus else ""
    return f"{ways} on {counted(launch.gpus * launch.nodes, 'GPU')}{solver}"


def overview(plans: Sequence[Plan]) -> Table:
    """Every plan as a row: its fullest moment, its hours, and what is in its way."""
    rows = []
    for plan in plans:
        fullest = max(plan.phases, key=lambda phase: phase.total)
        launch = plan.preset.launch
        row = (
            Cell.of(plan.preset.name),
            Cell.number((launch.gpus + launch.solver_gpus) * launch.nodes),
            Cell.size(fullest.total),
            Cell.of(fullest.name),
            Cell.significant(plan.hours, digits=2),
            Cell.of(plan.refusals[-1] if plan.refusals else "fits"),
        )
        rows.append(row)
    columns = (
        *keys("preset"),
        *numbers("GPUs", "fullest"),
        *texts("when"),
        *numbers("hours"),
        *texts("verdict"),
    )
    return Table(f"Presets on {plans[0].machine.name}", columns, [rows])


def tables(plan: Plan) -> list[Table]:
    """Memory, work and gains."""
    return [_memory(plan), _work(plan), _gains(plan)]


def _memory(plan: Plan) -> Table:
    rows = []
    for phase in plan.phases:
        largest_first = sorted(phase.parts.items(), key=lambda part: -part[1])
        parts = ", ".join(f"{name} {size(value)}" for name, value in largest_first if value)
        rows.append((Cell.of(phase.name), Cell.size(phase.total), Cell.of(parts)))
    columns = (*keys("phase"), *numbers("total"), *texts("of which"))
    return Table("Memory of one device", columns, [rows])


def _work(plan: Plan) -> Table:
    rows = [
        (
            Cell.of(part.name),
            Cell.number(part.prompts),
            Cell.number(part.steps) if part.steps else Cell(""),
            Cell.amount(part.tokens),
            Cell.significant(part.hours, digits=2),
        )
        for part in plan.parts
    ]
    steps, tokens = sum(part.steps for part in plan.parts), sum(part.tokens for part in plan.parts)
    hours = Cell.significant(plan.hours, digits=2)
    total = (Cell.of("in all"), Cell(""), Cell.number(steps), Cell.amount(tokens), hours)
    columns = (*keys("stage"), *numbers("prompts", "steps", "tokens drawn", "hours"))
    return Table(f"Work, {counted(plan.preset.iterations, 'iteration')}", columns, [rows, [total]])


def _gains(plan: Plan) -> Table:
    rows = [
        (
            Cell.of(gain.suite),
            Cell.number(gain.items),
            Cell.missing("not known") if gain.items is None else Cell.percent(gain.smallest),
        )
        for gain in plan.gains
    ]
    columns = (*keys("suite"), *numbers("items", "points"))
    return Table("Smallest gain that can be significant (80 % power)", columns, [rows])


def _disk(plan: Plan) -> str:
    parts = ", ".join(f"{name} {size(value)}" for name, value in plan.disk.items() if value)
    return f"Disk: {size(sum(plan.disk.values()))} ({parts})"


def _assumed(plan: Plan) -> str:
    assumed, machine = plan.assumed, plan.machine
    rates = machine.rates
    words = {
        "computing": f"{rates.computing:.0%} of {machine.tflops:g} TFLOP/s in training",
        "decoding": f"decoding at {rates.decoding:.0%} of {machine.bandwidth / 1e9:,.0f} GB/s by vLLM",
        "unfused": f"at {rates.unfused:.0%} by transformers",
        "read": f"models read at {rates.read / 1e9:.1f} GB/s",
        "write": f"written at {rates.write / 1e9:.1f} GB/s",
        "picture_seconds": f"{rates.picture_seconds:g} core seconds a megapixel",
        "start_seconds": f"{rates.start_seconds:g} s until a stage has started",
        "engine_seconds": f"{rates.engine_seconds:g} s until vLLM has",
    }
    guesses = "; ".join(text for name, text in words.items() if name not in machine.measured)
    found = "; ".join(text for name, text in words.items() if name in machine.measured)
    return (
        f"Assumed: completions of {assumed.completion_tokens} tokens on average, where as many are allowed;"
        f" {assumed.valid:.0%} of questions valid, {assumed.kept:.0%} of those kept; {guesses};"
        f" {gains.CHANGED:.0%} of items change their answer;"
        f" gains spread by {100 * gains.SEED_SPREAD:g} points over seeds."
        + (f" Measured on such a card: {found}." if found else "")
        + (" No hour and no byte of this was measured on a GPU." if plan.gpus and not found else "")
    )


def verdict(plan: Plan) -> str:
    """Whether it fits, and if not, what does."""
    if not plan.refusals:
        return "Fits."
    fitting = "No shipped preset of this model fits here; a smaller model may."
    if plan.fitting:
        fitting = f"What fits here: {', '.join(plan.fitting)}."
    return f"Does not fit. {' '.join(plan.refusals)} {fitting}"
