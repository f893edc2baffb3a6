"""`vzero-harness score`: answers made elsewhere, scored as `evaluate` scores its own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from harness.commands import options

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from harness.evals.set_aside import SetAside
    from harness.scoring.score import ScoredFile
    from harness.tables.table import Table

_RATES = ("verified", "read", "verified if read", "official")
ExtractorUrl = Annotated[
    str | None,
    Option("--extractor-url", metavar="URL", help="OpenAI-compatible server that reads the answers, .../v1."),
]
ExtractorModel = Annotated[
    str | None, Option("--extractor-model", metavar="NAME", help="Model on that server.")
]
ExtractorRemote = Annotated[
    bool, Option("--extractor-remote", help="Allow a server that is not on this machine.")
]

ExtractorOut = Annotated[
    Path | None, Option("--extractor-out", help="Keeps each extraction; default: ANSWERS.extractions.jsonl.")
]
Data = Annotated[
    Path | None,
    Option("--data", parser=options.path_option, metavar="DIR", help="Local copy of the suite's data."),
]


def score(
    answers: Annotated[Path, Argument(metavar="ANSWERS", help='JSON lines: {"id": ..., "response": ...}.')],
    items: Annotated[
        Path | None,
        Option("--items", metavar="ITEMS", help='Questions: {"id": ..., "kind": ..., "answer": ...}.'),
    ] = None,
    suite: Annotated[str | None, Option("--suite", help="Suite that was answered, e.g. mathvista.")] = None,
    data: Data = None,
    json: options.Json = False,
    extractor_url: ExtractorUrl = None,
    extractor_model: ExtractorModel = None,
    extractor_out: ExtractorOut = None,
    extractor_remote: ExtractorRemote = False,
) -> None:
    """Score a file of answers by our rules, and by the suite's own where they can be computed.

    A line of ITEMS: id, kind (choice, multi, integer, float, list, text), answer; where there are any also
    question, options, labels, precision, tolerance, unit.

    Example: vzero-harness score answers.jsonl --items items.jsonl
    """
    from harness.evals import at_hand, official
    from harness.evals.catalogue import find
    from harness.evals.official_job import Judge
    from harness.scoring import endpoint, files
    from harness.scoring.score import as_json
    from harness.scoring.score import score as judge
    from harness.tables import terminal
    from vzero.errors import InputError

    aside: list[SetAside] = []
    if items is not None and suite is None and data is None:
        name, by, asked = items.stem, "", files.read_items(items)
    elif items is None and suite is not None and data is not None:
        found = find(suite)
        questions, aside = at_hand.questions(found, data)
        name, by, asked = suite, found.table, [one.item for one in questions]
    else:
        raise InputError("Give the questions: --items ITEMS, or --suite NAME with --data DIR.")
    given = files.read_answers(answers, asked, {one.id for one in aside})
    kept = extractor_out or answers.with_name(f"{answers.name}.extractions.jsonl")
    reader = endpoint.reader(extractor_url, extractor_model, kept, extractor_remote)
    scored = judge(name, asked, given, reader)
    missing, failed = None, {}
    if suite is not None:
        asker = Judge.named(extractor_url, extractor_model, extractor_remote)
        scored, outcome = official.added(scored, found, questions, given, asker)
        missing, failed = outcome.unavailable, outcome.set_aside
    if not json and not scored.total.n:  # with --json the readings are a result
        raise InputError(f'No answered row of {name} has a gold answer; give each row an "answer".')
    console = options.console(json)
    if json:
        about = as_json(scored)
        about |= {"set_aside": [one.model_dump() for one in aside], "official_set_aside": failed}
        options.out_json(about)
    else:
        terminal.show(_table(scored, by, missing), console)
    for line in _incomplete(scored, aside, failed, suite is None):
        terminal.say(line, console, "yellow")


def _incomplete(
    scored: ScoredFile, aside: Sequence[SetAside], failed: Mapping[str, str], own: bool
) -> Iterator[str]:
    from harness.evals.set_aside import told
    from harness.tables.words import counted

    if aside:
        yield f"{scored.name}: {told(aside)}"
    if own and (ungolded := [one.item.id for one in scored.judged if not one.item.gold]):
        rows = counted(len(ungolded), "answered row")
        yield f"{rows} without a gold answer of the row's kind, not scored: {_some(ungolded)}"
    for name, why in list(failed.items())[:1]:
        yield f"{len(failed):,} answered without an official verdict, in no official rate: {name} ({why})"
    if scored.unanswered:
        answered = f"{len(scored.judged):,} of {scored.expected:,} answered"
        yield f"incomplete: {answered}; not scored: {_some(scored.unanswered)}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")


def _table(scored: ScoredFile, by: str, missing: str | None) -> Table:
    """Overall and by the suite's own groups; what cannot be scored; what the columns mean."""
    from harness.scoring.lenses import Totals, by_group
    from harness.scoring.score import over_all
    from harness.tables.table import Cell, Table, keys, numbers

    def row(name: str, one: Totals) -> tuple[Cell, ...]:
        rates = (one.verified, one.parsed, one.verified_given_parsed, one.official)
        return (Cell.of(name), Cell.number(one.n), *map(Cell.percent, rates))

    total, groups = scored.total, by_group(scored.judged).get(by, {})
    notes = [
        "Verified: an answer that cannot be read is wrong, label sets and values must be equal. "
        "Official: the suite's published rule" + (f"; none here: {missing}." if missing else ".")
    ]
    if total.without_gold:
        n, every = len(scored.judged), over_all(scored, total.verified) or 0
        notes.append(
            f"{total.n:,} of the {n:,} answered rows have a gold answer; with the others counted as wrong: "
            f"verified {100 * every:.1f} %."
        )
    columns = (*keys(by or "items"), *numbers("n"), *numbers(*_RATES, unit="%"))
    return Table(scored.name, columns, [[row(*one) for one in groups.items()], [row("all", total)]], notes)
