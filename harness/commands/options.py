"""Options that several commands share, and the preset they resolve to. Imports nothing heavy: the command
line loads it at start."""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from typer import BadParameter, Option

from vzero.errors import InputError, escaped

if TYPE_CHECKING:
    from rich.console import Console

    from vzero.config import Preset


def path_option(text: str) -> Path:
    """A path that was given: an empty one, as from an unset shell variable, would mean the current folder."""
    if not text.strip():
        raise BadParameter("is empty; name a folder.")
    return Path(text)


_IMAGES = "Unlabeled pictures: a folder, a Parquet file or a hub data set; default: the preset's."
_OUT = "Run directory; default: runs/<preset>. The same command resumes it."
_SET = "Change a setting, e.g. solver.grpo.learning_rate=2e-6; repeatable."
_SOLVER_URL = "A server that votes for the frozen Solver, see docs/engines.md; repeat it for several."
_SUITE_DATA = "Where `fetch` put the benchmark suites, or a copy; default: evaluation.data of the preset."
_CLUSTER = 'Run on a Ray cluster: HOST:PORT, "auto", or "local", made for the run (docs/launch.md).'


def _presets(beginning: str) -> list[str]:
    """What a shell completes --preset to."""
    from vzero.presets import preset_names

    return [name for name in preset_names() if name.startswith(beginning)]


def _installed(tracker: str) -> str:
    """Raises InputError where the tracker is not there."""
    if tracker != "none":
        from harness.report.track import require

        require(tracker)
    return tracker


PresetName = Annotated[
    str,
    Option(
        "--preset",
        help="A shipped preset (pocket, smoke) or the path of a .toml file.",
        autocompletion=_presets,
    ),
]
Images = Annotated[Path | None, Option("--images", parser=path_option, metavar="SOURCE", help=_IMAGES)]
Out = Annotated[Path | None, Option("--out", parser=path_option, metavar="PATH", help=_OUT)]
Seed = Annotated[int | None, Option("--seed", help="Seed of everything drawn; default: the preset's.")]
Set = Annotated[list[str] | None, Option("--set", metavar="KEY=VALUE", help=_SET)]
SolverUrl = Annotated[list[str] | None, Option("--solver-url", metavar="URL", help=_SOLVER_URL)]
Suites = Annotated[
    str, Option("--suites", help="Suites or groups (math, logic, vision, pocket, all), with commas between.")
]
SuiteData = Annotated[Path | None, Option("--data", metavar="PATH", help=_SUITE_DATA)]
Fresh = Annotated[bool, Option("--fresh", help="Delete the run in --out and start anew.")]
Plain = Annotated[
    bool, Option("--plain", help="Lines instead of a live panel; the default outside a terminal.")
]
Verbose = Annotated[bool, Option("--verbose", help="At the end, print the findings and the main tables too.")]
Watch = Annotated[bool, Option("--watch", help="Show the run on a page of this machine while it goes on.")]
Track = Annotated[
    Literal["trackio", "wandb", "tensorboard", "none"],
    Option("--track", callback=_installed, help="Curves to a tracker, on this machine unless told else."),
]
Json = Annotated[bool, Option("--json", help="Print the result as JSON on stdout; progress goes to stderr.")]
To = Annotated[
    str, Option("--to", metavar="DIR|hub:ORG/NAME", help="A new folder, or a new place on the hub.")
]
Public = Annotated[bool, Option("--public", help="Make what is new on the hub public; default: private.")]
Cluster = Annotated[str | None, Option("--cluster", metavar="ADDRESS", help=_CLUSTER)]
TrustCode = Annotated[
    bool,
    Option("--trust-code", help="Run the programs in Python that the preset's file brings; read them first."),
]
Show = Annotated[
    bool, Option("--show", help="Print the resolved preset as TOML (as JSON with --json) and exit.")
]


def resolve(
    preset: str,
    images: Path | None,
    seed: int | None,
    changes: list[str] | None,
    solver_urls: list[str] | None = None,
    cluster: str | None = None,
) -> Preset:
    """The validated preset of one command line. An image folder becomes absolute, so a resume may start
    anywhere.

    Raises:
        InputError: unknown preset or key, a bad value, an image folder that cannot be read.
    """
    from vzero.presets import changed, load_preset

    overrides: dict[str, Any] = {} if seed is None else {"seed": seed}
    if cluster is not None:
        overrides["launch.cluster"] = cluster or None
    if solver_urls:
        overrides["engine.urls"] = solver_urls
    if images is not None:
        overrides["images.source"] = str(images)
    resolved = load_preset(preset, changes or [], overrides)
    source = resolved.images.source
    return resolved if source == "pocket" else changed(resolved, {"images.source": _located(source)})


def refuse_code(preset: str, resolved: Preset, changes: list[str] | None, trusted: bool) -> None:
    """Refuse a program in Python that came with a preset's file; one of --set or --arms was named here.

    Raises:
        InputError: there is such a program, and the user does not trust it.
    """
    named = {change.partition("=")[0].strip() for change in changes or []}
    for key, text in resolved.programs().items():
        if key not in named and not trusted:
            raise InputError(
                f"The preset {preset} brings a program, {len(text.splitlines())} lines of Python in {key}, "
                "which would run with your rights; read it (--show), then add --trust-code."
            )


def _located(source: str) -> str:
    """An image source as a run records it: an absolute path, or a hub id as it is."""
    path = Path(source)
    if path.suffix in (".parquet", ".arrow") and path.is_file():
        return str(path.absolute())
    if not path.exists() and re.fullmatch(r"[A-Za-z0-9][\w.-]*/[\w.-]+", source):
        return source
    try:
        next(path.iterdir(), None)
    except OSError as error:
        raise InputError(
            f"Cannot read the image folder {path}: {error.strerror}; name another with --images."
        ) from None
    return str(path.absolute())


def run_folder(out: Path | None, preset: Preset) -> Path:
    """Where the run goes: `out`, or runs/<name of the preset>."""
    return out or Path("runs") / (re.sub(r"[^\w.-]+", "-", preset.name).strip(".-") or "run")


def say(text: str, terminal: Console) -> None:
    """One line, as it is."""
    terminal.print(text, markup=False, highlight=False, soft_wrap=True)


def out(text: str, keep: str = "\n", end: str = "\n") -> None:
    """A result on stdout, as it is but for control characters that are not in `keep`."""
    print(escaped(text, keep), end=end)


def out_json(value: object, indent: int | None = 2) -> None:
    """A result on stdout for programs."""
    print(dumps(value, indent=indent, allow_nan=False).replace("\x7f", "\\u007f"))


def say_line(text: str, terminal: Console) -> None:
    """One line, on a terminal cut at its edge."""
    if terminal.is_terminal:
        terminal.print(text, markup=False, highlight=False, no_wrap=True, overflow="ellipsis")
    else:
        say(text, terminal)


def working(what: str) -> AbstractContextManager[Any]:
    """Say on a terminal, at once, what goes on until the body ends; it goes to stderr and leaves nothing
    behind."""
    return console(json=True).status(what)


def console(json: bool) -> Console:
    """Where progress and tables go: stdout, or stderr when stdout is kept for JSON."""
    from rich.console import Console, ConsoleOptions, RenderableType
    from rich.segment import Segment

    class SafeConsole(Console):
        """Nothing in a name, path or reply reaches the terminal as a control sequence, and a terminal that
        cannot be written is no failure of what is shown there. What a reader that went away means is left to
        the command line; Rich itself would exit with 1."""

        def render(
            self, renderable: RenderableType, options: ConsoleOptions | None = None
        ) -> Iterator[Segment]:
            for text, style, control in super().render(renderable, options):
                yield Segment(text if control else escaped(text), style, control)

        def on_broken_pipe(self) -> None:
            raise BrokenPipeError

        def _check_buffer(self) -> None:
            try:
                super()._check_buffer()
            except BrokenPipeError:
                raise
            except OSError as error:  # of a file somebody wants to read it is one
                if error.errno == errno.ENOSPC or stat.S_ISREG(os.fstat(self.file.fileno()).st_mode):
                    raise
                os.dup2(os.open(os.devnull, os.O_WRONLY), self.file.fileno())

    return SafeConsole(stderr=json)
