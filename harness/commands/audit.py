"""`vzero-harness audit`: what the Questioner's reward pays for, without a model."""

from __future__ import annotations

from json import dumps
from typing import Annotated

import typer

from harness.commands import options
from vzero.errors import InputError


def audit(
    reward: Annotated[list[str] | None, typer.Option("--reward", help="A reward to audit; may be repeated. Default: all.")] = None,
    votes: Annotated[int, typer.Option("--votes", min=1, max=100, help="Answers of the Solver a question.")] = 10,
    draws: Annotated[
        int | None, typer.Option("--draws", min=100, max=20_000, help="Simulate so many replies of each player instead of enumerating.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Seed of a simulation.")] = 0,
    json: options.Json = False,
) -> None:
    """Play scripted Questioners against Solvers of known skill and name what the reward can be exploited for. No model, seconds.

    Example: vzero-harness audit --reward dual_track
    """
    from harness.audit import RULES
    from harness.audit import audit as play
    from harness.audit.report import as_json, show

    names = list(dict.fromkeys(reward or RULES))
    for name in names:
        if name not in RULES:
            raise InputError(f"There is no reward {name!r} to audit; choose one of {', '.join(RULES)}.")
    found = play([RULES[name] for name in names], votes, draws, seed)
    if json:
        print(dumps(as_json(found), indent=2, allow_nan=False))
    else:
        show(found, options.console(json))
