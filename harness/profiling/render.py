"""The profile as Markdown and as tables in the terminal: pure functions of the object that profile.json holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

TIMES = ("in", "phase", "of", "side", "seconds", "+-", "prompt tok/s", "compl. tok/s", "peak MiB")
WORK = ("in", "phase", "of", "side", "padding", "enc/pic", "GFLOP", "MFU", "HFU", "bandw.")
RATIOS = ("in", "phase", "of", "speed", "range", "positions", "encoder", "peak")
WORDS = {"times": 4, "work": 4, "ratios": 3}  # leading columns that are words


def times_cells(one: Mapping[str, Any]) -> list[str]:
    """One row of the table of times; a question mark says that the times may be unstable."""
    times = one["seconds"]
    return [
        *_name(one),
        one["side"],
        _number(times["median"]) + ("?" if times["stable"] is False else ""),
        _number(times["stdev"], 2),
        _number(one["prompt_tokens_per_second"]),
        _number(one["completion_tokens_per_second"]),
        _number(one["peak_mib"]),
    ]


def work_cells(one: Mapping[str, Any]) -> list[str]:
    """One row of the table of work."""
    return [
        *_name(one),
        one["side"],
        _number(one["padding_factor"]),
        _number(one["encoder_passes_per_picture"]),
        _number(one["flops_needed"] / 1e9),
        _share(one["mfu"]),
        _share(one["hfu"]),
        _share(one["bandwidth_use"]),
    ]


def _name(one: Mapping[str, Any]) -> list[str]:
    return [one["target"], one["phase"], one["role"][:1].upper()]


def ratio_cells(one: Mapping[str, Any]) -> list[str]:
    """One row of the table of ratios."""
    low, high = one["speedup_range"]
    return [
        *_name(one),
        f"{one['speedup']:.2f}x",
        f"{low:.2f} to {high:.2f}",
        *(f"{one[key]:.2f}x" if one[key] is not None else "-" for key in ("positions", "encoder_passes", "peak_memory")),
    ]


def notes(profile: Mapping[str, Any]) -> list[str]:
    """Sentences beside the tables: the machine, the workload, the parts of phases, the log-prob gap, the warnings."""
    machine, workload, options = profile["machine"], profile["workload"], profile["options"]
    found = [
        f"{machine['device']}, {machine['threads']} threads: {machine['matmul_tflops']:.3g} TFLOP/s {machine['dtype']} and "
        f"{machine['bandwidth_gbs']:.3g} GB/s, measured.",
        f"Model {profile['model']['name']} ({profile['model']['parameters'] / 1e6:.3g} M parameters), {workload['pictures']} pictures, "
        f"{workload['questions']} questions ({workload['questions_written']} of them valid ones of the Questioner), "
        f"{options['repetitions']} repetitions.",
    ]
    for role, sides in profile["parts"].items():
        for side, parts in sides.items():
            said = ", ".join(f"{name} {_number(seconds)} s" for name, seconds in parts.items())
            found.append(f"Within the {role}'s batch ({side}): {said}. Weight sync: none, the engine reads the weights that are trained.")
    for role, gap in profile["logprob_gap"].items():
        if gap.get("tokens"):
            found.append(
                f"Log-probabilities of trainer and rollout, {role}: mean distance {gap['mean']:.2e}, largest {gap['max']:.2e} nats, "
                f"{gap['tokens']} tokens."
            )
    return found + [f"Warning: {one}" for one in profile["warnings"]]


def markdown(profile: Mapping[str, Any]) -> str:
    """profile.md."""
    git = profile["provenance"]["git"]
    packages = ", ".join(f"{name} {version}" for name, version in profile["provenance"]["packages"].items() if version)
    parts = [f"# Profile of {_plain(profile['preset'])}"]
    for title, columns, cells, words in _tables(profile):
        parts += ["", f"{title}:", "", _table(columns, cells, words)]
    parts += ["", *(f"- {_plain(one)}" for one in notes(profile))]
    commit = f"; commit {git['commit'][:12]}{' with changes' if git['dirty'] else ''}" if git else ""
    parts += [f"- Python {profile['provenance']['python']}, {packages}{commit}."]
    return "\n".join(parts) + "\n"


def show(profile: Mapping[str, Any], console: Console) -> None:
    """The tables and notes in the terminal."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    for title, columns, cells, words in _tables(profile):
        table = Table(title=Text(title, style="bold"), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
        for index, name in enumerate(columns):
            table.add_column(Text(name), justify="left" if index < words else "right", overflow="fold", no_wrap=index < words)
        for one in cells:
            table.add_row(*map(Text, one))
        console.print(table)
    for one in notes(profile):
        console.print(Text(_plain(one), style="yellow" if one.startswith("Warning") else "dim"), soft_wrap=not console.is_terminal)


def _tables(profile: Mapping[str, Any]) -> list[tuple[str, Sequence[str], list[list[str]], int]]:
    """Title, columns, cells and leading columns of words of each table. Q and S are the Questioner and the Solver."""
    phases = profile["phases"]
    found = [
        ("Times (Q: Questioner, S: Solver)", TIMES, [times_cells(one) for one in phases], WORDS["times"]),
        ("Work", WORK, [work_cells(one) for one in phases], WORDS["work"]),
    ]
    if profile["ratios"]:
        found.append(
            ("Stock over ours (above 1: ours is better)", RATIOS, [ratio_cells(one) for one in profile["ratios"]], WORDS["ratios"])
        )
    return found


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], words: int) -> str:
    lines = [columns, [":--" if index < words else "--:" for index in range(len(columns))], *rows]
    return "\n".join(f"| {' | '.join(_plain(cell).replace('|', '/') for cell in line)} |" for line in lines)


def _plain(text: str) -> str:
    """Names come from configuration: nothing in them may reach the terminal as a control sequence."""
    return "".join(c if c.isprintable() else " " for c in text)


def _number(value: float | None, digits: int = 3) -> str:
    if value is None:
        return "-"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.{digits}g}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
