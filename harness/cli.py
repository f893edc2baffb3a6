"""The command line `vzero-harness`: one thin file a command in `harness.commands`, everything heavy imported
when a command runs."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from harness.commands import (
    audit,
    check,
    doctor,
    evaluate,
    export,
    fetch,
    plan,
    pocket,
    profile,
    reproduce,
    score,
    seeds,
    table,
    train,
)
from vzero import __version__
from vzero.errors import InterruptedRun, VZeroError

INTERRUPTED = InterruptedRun.exit_code
KEYBOARD = 130  # what Typer makes of Ctrl-C in a command that is not resumable


class OneSentence(TyperGroup):
    """Says every failure in one sentence on stderr, with the exit codes 1 (failed), 2 (wrong use), 75
    (interrupted, resumable)."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        try:
            result = super().main(args, prog_name, complete_var, False, windows_expand_args, **extra)
            sys.stdout.flush()
            code = result if isinstance(result, int) else 0
            if code == KEYBOARD:
                code = _say("error: Stopped by Ctrl-C.", 1)
        except Exception as error:
            if os.environ.get("VZERO_DEBUG") and not hasattr(error, "format_message"):
                raise
            code = explain(error)
        sys.exit(code)


def explain(error: Exception) -> int:
    """Print `error` as a sentence; the exit code."""
    if isinstance(error, InterruptedRun):
        return _say(str(error), INTERRUPTED)
    if isinstance(error, VZeroError):
        return _say(f"error: {error}", error.exit_code)
    if hasattr(error, "format_message"):  # wrong use, found by Typer
        message = str(error.format_message()).strip()
        if message.startswith("Usage:"):  # no command given: the help itself
            print(message, file=sys.stderr)
            return 2
        return _say(f"error: {message.rstrip('.')} (see --help)", 2)
    if isinstance(error, BrokenPipeError):
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), 1
        )  # the reader of our output left; Python's last flush must not complain
        return INTERRUPTED
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        where = f" ({error.filename})" if error.filename else ""
        return _say(
            f"No space left on the disk{where}; free some, then run the same command again to resume.",
            INTERRUPTED,
        )
    if isinstance(error, OSError):
        return _say(f"error: {error.strerror or error}{f': {error.filename}' if error.filename else ''}.", 1)
    return _say(
        f"error: this is a fault in the program ({type(error).__name__}: {error}); run it again with --debug before the command "
        "and report what it prints.",
        1,
    )


def _say(sentence: str, code: int) -> int:
    line = " ".join(
        sentence.split()
    )  # what it quotes may hold anything: nothing in it may reach the terminal as a control sequence
    print("".join(c if c.isprintable() else ascii(c)[1:-1] for c in line), file=sys.stderr)
    return code


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"vzero-harness {__version__}")
        raise typer.Exit


app = typer.Typer(
    cls=OneSentence,
    name="vzero-harness",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def root(
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks, also those of the stages.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Label-free self-improvement of a vision-language model, and the evidence for or against its gain.

    Example: vzero-harness reproduce
    """
    if debug:
        os.environ["VZERO_DEBUG"] = "1"


app.command("reproduce")(reproduce.reproduce)
app.command("train")(train.train)
app.command("evaluate")(evaluate.evaluate)
app.command("fetch")(fetch.fetch)
app.command("score")(score.score)
app.command("seeds")(seeds.seeds)
app.command("profile")(profile.profile)
app.command("audit")(audit.audit)
app.command("table")(table.table)
app.command("check")(check.check)
app.command("export")(export.export)
app.command("plan")(plan.plan)
app.command("doctor")(doctor.doctor)
app.add_typer(pocket.app, name="pocket")
