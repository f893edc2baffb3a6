"""The results of an evaluation as a table and remarks: in the terminal and in Markdown."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console

from harness.evals.results import LENSES, EvaluationResults, Rates, Sampled, SuiteResult
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
    columns = (
        *keys("suite"),
        *numbers("n", "official", "verified", "parsed", "official if parsed", "truncated"),
    )
    averages = [
        (
            Cell.of(f"average {name}"),
            Cell.of(f"{len(one.members)} suites"),
            *_lenses(one.official, one.verified),
        )
        for name, one in found.groups.items()
        if len(one.members) > 1
    ]
    empty = (Cell(""),) * 3
    main = Table(
        "Accuracy of the greedy answers, %",
        columns,
        [[_row(name, suite) for name, suite in found.suites.items()], [(*row, *empty) for row in averages]],
    )
    groups = [
        Table(
            f"{suite.title} by {suite.table}, %",
            (*keys(suite.table), *numbers("n", "official", "verified", "parsed")),
            [[(Cell.of(value), *_rates(one)) for value, one in suite.by[suite.table].items()]],
        )
        for suite in found.suites.values()
        if len(suite.by.get(suite.table, ())) > 1
    ]
    return [main, *groups]


def _row(name: str, suite: SuiteResult) -> Row:
    one = suite.greedy
    if one is None:
        answered = f"{suite.answered} of {suite.rows or suite.rows_expected}"
        return (Cell.of(name), Cell.of(answered), Cell.of("incomplete"), *(Cell.missing() for _ in range(4)))
    low, high = one.official_interval or (None, None)
    return (
        Cell.of(name),
        Cell.number(one.n),
        Cell.percent(one.official, f"{percent(low)} to {percent(high)}"),
        Cell.percent(one.verified),
        Cell.percent(one.parsed),
        Cell.percent(one.official_given_parsed),
        Cell.percent(one.truncated),
    )


def _rates(one: Rates) -> Row:
    return (Cell.number(one.n), *_lenses(one.official, one.verified), Cell.percent(one.parsed))


def _lenses(official: float | None, verified: float | None) -> tuple[Cell, Cell]:
    return Cell.percent(official), Cell.percent(verified)


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
    for what, one in suite.together.items():
        official, verified = percent(one.official), percent(one.verified)
        yield f"{name}, all of a {what} right: official {official}, verified {verified} % (n = {one.n})."
    for what, score in suite.extra.items():
        yield f"{name}, {what}: official {percent(score.official)}, verified {percent(score.verified)} %."
    if suite.sampled:
        yield f"{name}, {suite.sampled.k} samples: {_sampled(suite.sampled)}, %."
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


def _sampled(sampled: Sampled) -> str:
    return "; ".join(
        f"{lens} " + ", ".join(f"{name} {percent(value)}" for name, value in getattr(sampled, lens).items())
        for lens in LENSES
    )
