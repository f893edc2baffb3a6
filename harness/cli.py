"""The command line `vzero-harness`: one thin file a command in `harness.commands`, everything heavy imported
when a command runs."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
import traceback
from collections.abc import Sequence
from contextlib import suppress
from io import TextIOWrapper
from itertools import pairwise
from json import dumps
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from harness.commands import (
    audit,
    check,
    diff,
    doctor,
    evaluate,
    export,
    fetch,
    new_arm,
    plan,
    pocket,
    profile,
    reproduce,
    score,
    table,
    train,
    watch,
)
from harness.commands.open import open_
from vzero import __version__
from vzero.errors import InputError, InterruptedRun, VZeroError, escaped, machine_failure

KEYBOARD = 130  # what Typer makes of Ctrl-C in a command that is not resumable


class OneSentence(TyperGroup):
    """Says every failure in one sentence on stderr, with the exit codes 1 (failed), 2 (wrong use), 75
    (interrupted, resumable). Where stdout is for JSON, the sentence is JSON too."""

    def main(self, *args: Any, **settings: Any) -> Any:
        """As Click's, whose own messages and exit codes are switched off (`standalone_mode`)."""
        words = list(settings.get("args") or (args[0] if args else None) or sys.argv[1:])
        _open_streams()
        try:
            result = super().main(*args, **{**settings, "standalone_mode": False})
            sys.stdout.flush()
            code = result if isinstance(result, int) else 0
            if code == KEYBOARD:
                code = _say("error: Stopped by Ctrl-C.", 1, wants_json(words))
        except Exception as error:
            if os.environ.get("VZERO_DEBUG") and not hasattr(error, "format_message"):
                traceback.print_exc()
            code = explain(error, wants_json(words))
        sys.exit(code)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """As Click's, with the whole first sentence of each command."""
        rows = [(name, command.get_short_help_str(limit=500)) for name, command in self.commands.items()]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def wants_json(words: Sequence[str]) -> bool:
    """Whether a command line asks for JSON; also one that could not be parsed."""
    return "--json" in words or "--format=json" in words or ("--format", "json") in pairwise(words)


def explain(error: Exception, json: bool = False) -> int:
    """Print `error` as a sentence, or as JSON; the exit code."""
    if isinstance(error, InterruptedRun):
        return _say(str(error), error.exit_code, json)
    if isinstance(error, VZeroError):
        return _say(f"error: {error}", error.exit_code, json)
    if hasattr(error, "format_message"):  # wrong use, found by Typer
        message = str(error.format_message()).strip()
        if message.startswith("Usage:"):  # no command given: the help itself
            print(message, file=sys.stderr)
            return InputError.exit_code
        return _say(f"error: {message.rstrip('.')} (see --help)", InputError.exit_code, json)
    if isinstance(error, BrokenPipeError):  # our reader left; Python's last flush must not complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return InterruptedRun.exit_code
    if failure := machine_failure(error, "the output"):
        return explain(failure, json)
    if isinstance(error, OSError):
        place = error.filename or ""
        return _say(f"error: {error.strerror or error}{f': {place}' if place else ''}.", 1, json)
    return _say(
        f"error: this is a fault in the program ({type(error).__name__}: {error}); run it again with --debug "
        "before the command and report what it prints.",
        1,
        json,
    )


def _say(sentence: str, code: int, json: bool) -> int:
    """One sentence on stderr, the exit code. What it quotes may hold anything; nothing in it may reach the
    terminal as a control sequence."""
    line = " ".join(sentence.split())
    safe = escaped(line)
    if sys.stderr.isatty():  # a long one breaks at words; paths stay whole
        width = shutil.get_terminal_size().columns - 1
        safe = textwrap.fill(safe, width, break_long_words=False, break_on_hyphens=False)
    said = dumps({"error": line.removeprefix("error: "), "exit_code": code}) if json else safe
    with suppress(OSError):  # the terminal is gone
        print(said, file=sys.stderr, flush=True)
    return code


def _open_streams() -> None:
    """Let output that nobody can take be lost: a stream that was closed, or has no code for a character. No
    other file gets the number of a stream."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)
    sys.stdout = sys.stdout or os.fdopen(1, "w", encoding="utf-8", closefd=False)
    sys.stderr = sys.stderr or os.fdopen(2, "w", encoding="utf-8", closefd=False)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _show_version(wanted: bool) -> None:
    if wanted:
        print(f"vzero-harness {__version__}")
        raise typer.Exit


app = typer.Typer(
    cls=OneSentence,
    name="vzero-harness",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
Debug = Annotated[bool, typer.Option("--debug", help="Show tracebacks, also those of the stages.")]
Version = Annotated[
    bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
]


@app.callback()
def root(debug: Debug = False, version: Version = False) -> None:
    """Label-free self-improvement of a vision-language model, and the evidence for or against its gain.

    Example: vzero-harness reproduce
    """
    if debug:
        os.environ["VZERO_DEBUG"] = "1"


for command in (
    reproduce.reproduce,
    train.train,
    evaluate.evaluate,
    fetch.fetch,
    score.score,
    profile.profile,
    audit.audit,
    new_arm.new_arm,
    open_,
    watch.watch,
    table.table,
    diff.diff,
    check.check,
    export.export,
    plan.plan,
    doctor.doctor,
):
    app.command(command.__name__.rstrip("_").replace("_", "-"))(command)
app.add_typer(pocket.app, name="pocket")
