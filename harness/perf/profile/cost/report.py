"""The estimate in Markdown: a pure function of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from harness.perf.profile.cost.assumptions import PAPER_CARDS, PAPER_HOURS, Card, Workload, said
from harness.perf.profile.cost.iteration import WAYS, Estimate

COMMAND = "python -m harness.perf.profile.cost"
PASSES = ("log-probabilities", "update")
TOGETHER = {  # rows of the summary, which docs/performance.md holds as well
    "Questioner: rollouts": ("Questioner: rollouts",),
    "Questioner: votes": ("Questioner: votes",),
    "Questioner: log-probabilities and update": tuple(f"Questioner: {one}" for one in PASSES),
    "writing, votes for labels": ("Questions written", "Votes for labels"),
    "Solver: rollouts": ("Solver: rollouts",),
    "Solver: log-probabilities and update": tuple(f"Solver: {one}" for one in PASSES),
}


def markdown(
    found: Mapping[str, Estimate], others: Mapping[float, Mapping[str, Estimate]], work: Workload, card: Card
) -> str:
    """The whole page.

    Args:
        found: estimates by model.
        others: the same where completions are that many times as long.
    """
    parts = [
        "# What an iteration would cost on large models: an estimate",
        f"Written by `{COMMAND}`. **Nothing here was measured or run on a GPU**: operations follow from the formulas of "
        "docs/performance.md over simulated lengths, hours from the assumptions below.",
        "Stock is TRL and `transformers.generate`: prompts and pictures computed once a completion, training batches padded to the longest "
        "of the generation batch, every sequence scored by the old policy, decoding batches that wait for their longest.",
    ]
    parts += ["## In short", summary(found)]
    parts += [_phases(name, one) for name, one in found.items()]
    parts += [
        _levers(found),
        _lengths({**others, 1.0: found}),
        _paper(found),
        "## Assumptions",
        "\n".join(f"- {one}" for one in said(work, card)),
    ]
    return "\n\n".join(parts) + "\n"


def summary(found: Mapping[str, Estimate]) -> str:
    """One table of all models: operations and hours of stock and ours, phases put together."""
    names = [name.rpartition("-")[2] for name in found]
    head = " | ".join(f"{name}, PFLOP: stock, ours | {name}, GPU-h: stock, ours" for name in names)
    lines = [f"| | {head} |", "| :-- |" + " --: |" * (2 * len(names))]
    for row, phases in TOGETHER.items():
        lines.append(f"| {row} | {' | '.join(_pair(one, phases) for one in found.values())} |")
    cells = " | ".join(
        f"**{cell}**" for one in found.values() for cell in _pair(one, tuple(one.phases)).split(" | ")
    )
    return "\n".join([*lines, f"| **all** | {cells} |"])


def _pair(found: Estimate, phases: Sequence[str]) -> str:
    stock, ours = ([getattr(found.phases[name], side) for name in phases] for side in ("stock", "ours"))
    operations = ", ".join(f"{sum(one.flops for one in side) / 1e15:,.0f}" for side in (stock, ours))
    hours = ", ".join(f"{sum(one.seconds for one in side) / 3600:.1f}" for side in (stock, ours))
    return f"{operations} | {hours}"


def _phases(name: str, found: Estimate) -> str:
    lines = [
        f"## {name}, one iteration",
        "",
        "| phase | stock, PFLOP | ours, PFLOP | ratio | stock, GPU-h | ours, GPU-h | ratio |",
        "|:--|--:|--:|--:|--:|--:|--:|",
    ]
    rows = [(phase, one.stock, one.ours) for phase, one in found.phases.items()] + [
        ("**all**", found.total("stock"), found.total("ours"))
    ]
    for phase, stock, ours in rows:
        operations = f"{stock.flops / 1e15:,.0f} | {ours.flops / 1e15:,.0f} | {stock.flops / ours.flops:.1f}x"
        hours = (
            f"{stock.seconds / 3600:.1f} | {ours.seconds / 3600:.1f} | {stock.seconds / ours.seconds:.1f}x"
        )
        lines.append(f"| {phase} | {operations} | {hours} |")
    return "\n".join(lines)


def _levers(found: Mapping[str, Estimate]) -> str:
    lines = [
        "## Log-probabilities and update: each lever alone",
        "",
        "Operations of both roles, and how many times fewer than stock's. *pack* alone is what training without padding computes elsewhere "
        "(verl's `remove_padding`).",
        "",
        "| computed | " + " | ".join(f"{name}, PFLOP | fewer" for name in found) + " |",
        "|:--|" + "--:|--:|" * len(found),
    ]
    for way in WAYS:
        cells = [
            f"{one.levers[way] / 1e15:,.0f} | {one.levers['stock'] / one.levers[way]:.2f}x"
            for one in found.values()
        ]
        lines.append(f"| {'all of them: ours' if way == 'ours' else way} | {' | '.join(cells)} |")
    ours = next(line for line in lines if line.startswith("| all of them"))
    return "\n".join([*(line for line in lines if line is not ours), ours])


def _lengths(by_factor: Mapping[float, Mapping[str, Estimate]]) -> str:
    names = list(by_factor[1.0])
    lines = [
        "## If completions are shorter or longer than assumed",
        "",
        "GPU-hours of the whole iteration. Caps stay as they are; stock, which waits for the longest, meets them first.",
        "",
        "| completions | " + " | ".join(f"{name}, stock | ours | ratio" for name in names) + " |",
        "|:--|" + "--:|--:|--:|" * len(names),
    ]
    for factor in sorted(by_factor):
        hours = [
            [by_factor[factor][name].total(side).seconds / 3600 for side in ("stock", "ours")]
            for name in names
        ]
        cells = [f"{stock:.1f} | {ours:.1f} | {stock / ours:.1f}x" for stock, ours in hours]
        lines.append(
            f"| {'as assumed' if factor == 1 else f'{factor:g} times as long'} | {' | '.join(cells)} |"
        )
    return "\n".join(lines)


def _paper(found: Mapping[str, Estimate]) -> str:
    paper = PAPER_HOURS * PAPER_CARDS
    rows = [
        f"{name}: {one.total('stock').seconds / 3600:.0f} stock, {one.total('ours').seconds / 3600:.0f} ours"
        for name, one in found.items()
    ]
    return (
        "## Beside the paper\n\n"
        f"The paper reports about {PAPER_HOURS} h an iteration on {PAPER_CARDS} A800, {paper} GPU-hours, everything included and with GPUs "
        f"that wait for one another. By this estimate GPUs work for {'; '.join(rows)}. The paper's own code packs its training batches "
        "and draws by vLLM, so it is neither of the two; and what these numbers leave out (see the assumptions) is in its hours."
    )
