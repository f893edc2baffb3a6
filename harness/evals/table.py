"""The results of an evaluation as a table and remarks: in the terminal and in Markdown."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console

from harness.evals.official import NEEDS_JUDGE
from harness.evals.results import EvaluationResults, HeadlineResult, Rates, SuiteResult
from harness.evals.set_aside import told
from harness.tables import markdown as as_markdown
from harness.tables import terminal
from harness.tables.table import Cell, Row, Table, keys, numbers
from harness.tables.words import percent


def show(found: EvaluationResults, console: Console) -> None:
    """Print everything a reader needs to judge the numbers."""
    for table in _tables(found):
        terminal.show(table, console)
    for line in _remarks(found):
        terminal.say(line, console)


def markdown(found: EvaluationResults) -> str:
    """results.md."""
    settings = found.evaluation
    title = f"# {as_markdown.plain(settings.model)}: {', '.join(settings.suites)}"
    remarks = "\n".join(f"- {as_markdown.plain(line)}" for line in _remarks(found))
    tables = [as_markdown.render(table) for table in _tables(found)]
    return (
        "\n\n".join([title, as_markdown.plain(_sentence(found)), *tables, f"## Remarks\n\n{remarks}"]) + "\n"
    )


def _sentence(found: EvaluationResults) -> str:
    settings = found.evaluation
    return (
        f"Profile {settings.profile}, prompt_format {settings.prompt_format}, engine {settings.engine}, "
        f"at most {settings.greedy.max_new_tokens} new tokens, pictures of {settings.pixels.least:,} to "
        f"{settings.pixels.most:,} pixels, checkpoint sha256 {settings.checkpoint_sha256[:16]}. "
        f"Answers read by {found.answers_read_by}."
    )


def _tables(found: EvaluationResults) -> list[Table]:
    columns = (*keys("suite"), *numbers("n", "official", "verified", "read", "verified if read", "truncated"))
    averages = [
        (
            Cell.of(f"average {name}"),
            Cell.of(f"{len(one.members)} suites"),
            *map(Cell.percent, (one.official, one.verified)),
        )
        for name, one in found.groups.items()
        if len(one.members) > 1
    ]
    empty = (Cell(""),) * 3
    main = Table(
        "Headlines of the greedy answers, %",
        columns,
        [[_row(name, suite) for name, suite in found.suites.items()], [(*row, *empty) for row in averages]],
        [
            "Official: the suite's published rule, by lmms-eval's code. Verified: the same number by our "
            "reading; an answer that cannot be read is wrong. Read: answers that can be. Shares of items, "
            "where the suite names no other number."
        ],
    )
    groups = [
        Table(
            f"{suite.title} by {suite.table}, % of items",
            (*keys(suite.table), *numbers("n", "official", "verified", "read")),
            [[(Cell.of(value), *_rates(one)) for value, one in suite.by[suite.table].items()]],
        )
        for suite in found.suites.values()
        if len(suite.by.get(suite.table, ())) > 1
    ]
    return [main, *groups]


def _row(name: str, suite: SuiteResult) -> Row:
    one = suite.greedy
    if one is None or suite.headline is None:
        answered = f"{suite.answered} of {suite.rows or suite.rows_expected}"
        return (Cell.of(name), Cell.of(answered), Cell.of("incomplete"), *(Cell.missing() for _ in range(4)))
    what, shown = suite.headline
    bounds = shown.verified_interval
    return (
        Cell.of(name if what == "accuracy" else f"{name}, {what}"),
        Cell.number(shown.n),
        _official(shown),
        Cell.percent(shown.verified, " to ".join(map(percent, bounds)) if bounds else ""),
        Cell.percent(one.parsed),
        Cell.percent(one.verified_given_parsed),
        Cell.percent(one.truncated),
    )


def _official(shown: HeadlineResult) -> Cell:
    return Cell.of(NEEDS_JUDGE) if shown.official_missing == NEEDS_JUDGE else Cell.percent(shown.official)


def _rates(one: Rates) -> Row:
    return (Cell.number(one.n), *map(Cell.percent, (one.official, one.verified, one.parsed)))


def _remarks(found: EvaluationResults) -> list[str]:
    lines = [line for name, suite in found.suites.items() for line in _of_suite(found, name, suite)]
    if found.protocol is not None and found.protocol.repaired:
        lines.append(found.protocol.repaired)
    if seen := found.contamination:
        lines.append(
            f"{seen.evaluation_pictures_seen} of {seen.evaluation_pictures} evaluation pictures have a "
            f"near-duplicate among {seen.training_pictures} training pictures "
            f"({seen.of_those_pixel_for_pixel} pixel for pixel)."
        )
    for name, group in found.groups.items():
        missing = f"; not evaluated: {', '.join(group.missing)}" if group.missing else ""
        lines.append(f"Group {name}: {', '.join(group.members)}{missing}.")
    return lines


def _of_suite(found: EvaluationResults, name: str, suite: SuiteResult) -> Iterator[str]:
    if suite.deviations:
        yield f"PROTOCOL DEVIATION, {name}: {'; '.join(suite.deviations)}."
    if suite.set_aside:
        yield f"{name}, in no number: {told(suite.set_aside)}."
    if suite.without_gold:
        yield f"{name}: {', '.join(suite.without_gold)} without gold, asked and not scored."
    if suite.headline and suite.headline[1].official_missing not in (None, NEEDS_JUDGE):
        yield f"{name}, no official {suite.headline[0]}: {suite.headline[1].official_missing}."
    if suite.official_set_aside:
        reasons = ", ".join(f"{key} ({why})" for key, why in list(suite.official_set_aside.items())[:3])
        yield f"{name}: {len(suite.official_set_aside)} answers have no official verdict: {reasons}."
    for what, other in list(suite.headlines.items())[1:]:
        yield f"{name}, {what}: {_both(other.official, other.verified)} (n = {other.n})."
    if (one := suite.greedy) and suite.headline and suite.headline[1].verified != one.verified:
        yield f"{name}, share of items: {_both(one.official, one.verified)} (n = {one.n})."
    if suite.sampled:
        shares = ", ".join(f"{what} {percent(value)}" for what, value in suite.sampled.verified.items())
        yield f"{name}, {suite.sampled.k} samples, verified: {shares} %."
    if suite.published and suite.published.span:
        low, high = suite.published.span
        yield (
            f"{name}: {len(suite.published.figures)} published figures of this base, {low:g} to {high:g} % "
            f"({suite.published.metric})."
        )
    if found.evaluation.profile == "stock" and suite.lmms_eval:
        values = [pair for results in suite.lmms_eval.results.values() for pair in results.items()]
        said = ", ".join(f"{key} {value:g}" for key, value in dict(values).items()) or "none"
        yield f"{name}, lmms-eval's own numbers: {said}."


def _both(official: float | None, verified: float | None) -> str:
    return f"official {percent(official)}, verified {percent(verified)} %"
