"""`vzero-harness score`: answers made elsewhere, scored as `evaluate` scores its own."""

from __future__ import annotations

from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from harness.commands import options

if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.scoring import Item, Reading

Url = Annotated[
    str | None,
    typer.Option(
        "--extractor-url", metavar="URL", help="OpenAI-compatible server that reads the answers, .../v1."
    ),
]
Model = Annotated[str | None, typer.Option("--extractor-model", metavar="NAME", help="Model on that server.")]


def score(
    responses: Annotated[
        Path, typer.Argument(metavar="RESPONSES", help='JSON lines: {"id": ..., "response": ...}.')
    ],
    suite: Annotated[
        str, typer.Option("--suite", help="Suite that was answered, e.g. mathvista or logicvista.")
    ],
    data: Annotated[
        Path,
        typer.Option(
            "--data", parser=options.path_option, metavar="DIR", help="Local copy of the suite's data."
        ),
    ],
    json: options.Json = False,
    extractor_url: Url = None,
    extractor_model: Model = None,
    extractor_out: Annotated[
        Path | None,
        typer.Option(
            "--extractor-out", help="File that keeps each extraction; default: RESPONSES.extractions.jsonl."
        ),
    ] = None,
    extractor_remote: Annotated[
        bool, typer.Option("--extractor-remote", help="Allow a server that is not on this machine.")
    ] = False,
) -> None:
    """Score a file of responses by two lenses: the suite's published rules, and verified.

    Example: vzero-harness score answers.jsonl --suite mathvista --data data/mathvista
    """
    from harness.evals import rows
    from harness.evals.catalogue import find
    from harness.scoring import responses as source
    from harness.scoring.score import as_json
    from harness.scoring.score import score as judge
    from harness.scoring.view import show

    found = find(suite)
    items = rows.items(found, data)
    answers = source.read(responses, items)
    kept = extractor_out or responses.with_name(f"{responses.name}.extractions.jsonl")
    scored = judge(found, items, answers, _extractor(extractor_url, extractor_model, extractor_remote, kept))
    terminal = options.console(json)
    if json:
        print(dumps(as_json(scored), indent=2, allow_nan=False))
        if scored.unanswered:
            answered = len(scored.verdicts)
            terminal.print(
                f"incomplete: {answered} of {answered + len(scored.unanswered)} answered", markup=False
            )
    else:
        show(scored, terminal)


def _extractor(
    url: str | None, model: str | None, remote: bool, kept: Path
) -> Callable[[Item, str, str | None], Reading]:
    """The rules, or a checked model on a server."""
    from vzero.errors import InputError

    if (url is None) != (model is None):
        raise InputError("--extractor-url and --extractor-model go together; give both or neither.")
    if url is None or model is None:
        from harness.scoring import read

        return read
    from harness.scoring.endpoint import connect

    return connect(url, model, kept, remote)
