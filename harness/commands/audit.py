"""`vzero-harness audit`: what the Questioner's reward pays for, without a model."""

from __future__ import annotations

from typing import Annotated

from typer import Option

from harness.commands import options
from vzero.errors import InputError

Rewards = Annotated[
    list[str] | None, Option("--reward", help="A reward to audit; may be repeated. Default: all.")
]
Arms = Annotated[
    str | None,
    Option(
        "--arm",
        metavar="ARMS",
        help="Audit what arms pay and keep: all, a category, names, or your own files, with commas between.",
    ),
]
Votes = Annotated[int, Option("--votes", min=1, max=100, help="Answers of the Solver per question.")]
Draws = Annotated[
    int | None,
    Option(
        "--draws", min=100, max=20_000, help="Simulate so many replies of each player instead of enumerating."
    ),
]


def audit(
    reward: Rewards = None,
    arm: Arms = None,
    votes: Votes = 10,
    draws: Draws = None,
    seed: Annotated[int, Option("--seed", help="Seed of a simulation.")] = 0,
    json: options.Json = False,
) -> None:
    """Play scripted Questioners against Solvers of known skill: how can the reward be exploited? No model,
    seconds.

    Example: vzero-harness audit --reward dual_track

    Example: vzero-harness audit --arm fixes
    """
    from harness.audit import RULES, damages, of_arms
    from harness.audit import audit as play
    from harness.audit.report import as_json, findings, tables
    from harness.tables import terminal
    from vzero.arms import chosen

    if arm is not None and reward:
        raise InputError("Give either --reward or --arm.")
    names = list(dict.fromkeys(reward or RULES))
    for name in names:
        if name not in RULES:
            raise InputError(f"There is no reward {name!r} to audit; choose one of {', '.join(RULES)}.")
    rules, notes = ([RULES[name] for name in names], []) if arm is None else of_arms(chosen(arm))
    found, defects = play(rules, votes, draws, seed), () if arm or reward else damages()
    if json:
        options.out_json(as_json(found, defects, notes))
        return
    console = options.console(json)
    for table in tables(found, defects):
        terminal.show(table, console)
    tricked = {one.rules for one in found.exploits}
    for sentence in findings(found):
        terminal.say(f"- {sentence}", console, "red" if sentence.split(":")[0] in tricked else "green")
    for note in notes:
        terminal.say(note, console, "dim")
