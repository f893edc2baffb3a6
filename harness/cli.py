"""The command line `vzero-harness`: one thin file per command in `harness.commands`, imported when it is
called; everything heavy is imported when it runs."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
import traceback
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from io import TextIOWrapper
from itertools import pairwise
from json import dumps
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from vzero import __version__
from vzero.errors import InputError, InterruptedRun, VZeroError, escaped, machine_failure

# How the help of each command begins, in the order of the list.
COMMANDS = {
    "reproduce": "Run V-Zero from unlabeled images to a table of results; the same command resumes.",
    "train": "Train both roles and stop: all stages but those that measure.",
    "evaluate": "Measure a checkpoint through lmms-eval; the same command resumes at the item.",
    "fetch": "Fetch suites, decode every picture once, and pin each row by its digest.",
    "score": "Score a file of answers by our rules, and by the suite's own where they can be computed.",
    "profile": "Measure seconds, tokens, padding, image-encoder passes, memory and utilisation by phase.",
    "audit": "Play scripted Questioners against Solvers of known skill: how can the reward be exploited?",
    "new-arm": "Write NAME.toml and NAME.py: an arm with its reward file, V-Zero until you change it.",
    "open": "Open the report of a run, or the page of a grid, in the browser; print its path.",
    "watch": "Follow a run on a page of this machine: progress, curves, questions with votes, alarms.",
    "table": "Compare arms and checkpoints by suite: gain, interval, corrected p, unreadable answers.",
    "diff": "Name what differs between two evaluations or two runs, and whether it matters.",
    "check": "Did training silently break? Recompute rewards, votes and advantages from a run's records.",
    "export": "Write a trained checkpoint as a plain Hugging Face folder with a model card, and load it.",
    "publish": "Write a finished run as a folder for reviewers: logbook, data set, checkpoint, hashes.",
    "plan": "Compute memory by phase, disk, steps, tokens, hours and the smallest detectable gain.",
    "doctor": "Look for what would stop a run on this machine, and say how to fix it.",
    "pocket": "The pocket world: a small drawn world and its small model.",
}
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

    def list_commands(self, ctx: Any) -> list[str]:
        """All of them; none is imported for it."""
        return [*COMMANDS, *(name for name in self.commands if name not in COMMANDS)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The one that is called, imported now."""
        for name in [cmd_name] if cmd_name in COMMANDS else COMMANDS:  # of a wrong one, all that it may mean
            if name not in self.commands:
                self.commands[name] = _imported(name)
        return super().get_command(ctx, cmd_name)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """As Click's, with the whole first sentence of each command."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _imported(name: str) -> Any:
    module = import_module(f"harness.commands.{name.replace('-', '_')}")
    if isinstance(one := getattr(module, "app", None), typer.Typer):  # a group of commands
        return typer.main.get_group(one)
    one = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    function = getattr(module, name.replace("-", "_"), None) or getattr(module, f"{name}_")
    one.command(name)(function)
    return typer.main.get_command(one)


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
