"""What stored answers say: results.json, results.md and items.scored.jsonl of an evaluation's folder."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from harness.evals import catalogue, folder, headline, official, pins, protocol, published, table
from harness.evals.catalogue import Purpose, Suite
from harness.evals.headline import Judged
from harness.evals.lenses import Extractor, majority, metrics
from harness.evals.official_job import Judge, Outcome
from harness.evals.results import (
    FILE,
    Contamination,
    EvaluationResults,
    Greedy,
    HeadlineResult,
    Rates,
    Sampled,
    Settings,
    SuiteGroup,
    SuiteResult,
    interval,
)
from harness.evals.scored import ScoredItem, asked_rows, scored
from harness.evals.set_aside import counted, too_many
from harness.scoring import ScoredResponse, by_group, read, totals
from vzero.errors import VZeroError
from vzero.runtime import artefacts
from vzero.runtime.seeding import derive

RULES = "rules"  # harness.scoring.read
LEAST_PARSED, MOST_TRUNCATED = 0.95, 0.05  # beyond these a number is a protocol deviation


def write(
    out: Path, extractor: Extractor = read, read_by: str = RULES, judge: Judge | None = None
) -> EvaluationResults:
    """Score what is stored in `out` and write the files.

    Args:
        extractor: reads the answers; `read_by` is its name.
        judge: what published rules ask where they ask a model.

    Raises:
        VZeroError: the judge failed.
    """
    official.update(out, suites_of(folder.settings(out)), judge)
    rows = _scored(out, extractor)
    found = _results(out, rows, read_by)
    artefacts.write_jsonl(out / "items.scored.jsonl", _lines(rows))
    artefacts.write_json(out / FILE, found.model_dump(mode="json"))
    artefacts.write_text(out / "results.md", table.markdown(found))
    return found


def build(out: Path) -> EvaluationResults:
    """The content of results.json.

    Raises:
        InputError: `out` is not an evaluation.
        VZeroError: stored responses contradict each other.
    """
    return _results(out, _scored(out, read), RULES)


def _scored(out: Path, extractor: Extractor) -> dict[str, list[ScoredItem]]:
    return {suite.name: scored(out, suite, extractor) for suite in suites_of(folder.settings(out))}


def _results(out: Path, rows: Mapping[str, list[ScoredItem]], read_by: str) -> EvaluationResults:
    stored, settings = folder.read(out), folder.settings(out)
    found = {suite.name: _suite(out, suite, settings, rows[suite.name]) for suite in suites_of(settings)}
    seen = out / "contamination.json"
    return EvaluationResults(
        evaluation=settings,
        protocol=protocol.read(out),
        answers_read_by=read_by,
        suites=found,
        groups={name: group for name in catalogue.GROUPS if (group := _group(name, found))},
        contamination=folder.read_model(Contamination, seen) if seen.exists() else None,
        complete=all(one.status == "complete" for one in found.values()),
        created=stored["created"],
        provenance=stored["provenance"],
    )


def suites_of(settings: Settings) -> tuple[Suite, ...]:
    """The suites of an evaluation."""
    found = map(catalogue.find, settings.suites)
    return tuple(suite.sized(settings.items_per_family, settings.split) for suite in found)


def means(out: Path, suite: Suite, part: str | None, purpose: Purpose) -> tuple[int, dict[str, float]]:
    """How many items of one part were asked, and the means of the `METRICS` of those with gold.

    Raises:
        VZeroError: one has no answer.
    """
    rows, asked = [], scored(out, suite, parts=(part,))
    for one in asked:
        if purpose not in one.judged:
            raise VZeroError(
                f"lmms-eval never asked for the {purpose} answer to {one.item.id} of {suite.name}; the suite "
                "is incomplete and not scored."
            )
        if one.item.gold:
            rows.append(metrics(one.judged[purpose]))
    return len(asked), {name: fmean(row[name] for row in rows) for name in (rows[0] if rows else ())}


def _suite(out: Path, suite: Suite, settings: Settings, rows: Sequence[ScoredItem]) -> SuiteResult:
    said, seen = folder.lmms_eval(out, suite.name), pins.read(folder.pins(out, suite.name))
    greedy = [one.greedy for one in rows if one.greedy and (one.sampled or settings.sampled is None)]
    published_rule = official.read(out, suite.name)
    about: dict[str, Any] = {
        "title": suite.title,
        "rule": suite.rule,
        "rows_expected": suite.rows,
        "rows": len(rows),
        "answered": len(greedy),
        "without_gold": [one.item.id for one in rows if not one.item.gold],
        "set_aside": seen.set_aside if seen else (),
        "note": suite.note,
        "asked": asked_rows(out, suite, {one.item.id: one.responses for one in rows}, said),
    }
    if not rows or len(greedy) < len(rows) or said is None:
        answered = f"{len(greedy)} of {len(rows) or suite.rows} items answered; not scored"
        return SuiteResult(**about, status="incomplete", deviations=(answered,))
    found = SuiteResult(
        **about,
        status="complete",
        deviations=(),
        n=sum(bool(one.item.gold) for one in rows),
        greedy=_greedy(greedy, sum(one.truncated("greedy") for one in rows) / len(rows)),
        extracted_by=dict(Counter(one.reading.how for one in greedy).most_common()),
        by={
            name: {value: Rates.of(one) for value, one in values.items()}
            for name, values in by_group(greedy).items()
        },
        table=suite.table,
        headlines=_headlines(suite, rows, published_rule),
        official_set_aside=published_rule.set_aside,
        sampled=_sampled(rows) if settings.sampled and any(one.item.gold for one in rows) else None,
        lmms_eval=said,
    )
    found = found.model_copy(update={"published": published.beside(suite, settings, found)})
    there = seen.total if seen else len(rows)
    return found.model_copy(update={"deviations": tuple(_deviations(suite, found, settings, there))})


def _greedy(judged: Sequence[ScoredResponse], truncated: float) -> Greedy:
    rates = Rates.of(totals(judged))
    return Greedy(
        **rates.model_dump(),
        truncated=truncated,
        verified_interval=interval(rates.verified, rates.n),
    )


def _headlines(
    suite: Suite, rows: Sequence[ScoredItem], published_rule: Outcome
) -> dict[str, HeadlineResult]:
    judged = [
        Judged(
            one.item.id,
            one.responses["greedy"]["image_sha256"],
            dict(one.item.group),
            one.asked.together,
            one.greedy.verified,
        )
        for one in rows
        if one.greedy is not None and one.item.gold
    ]
    theirs, found = official.headlines(suite, published_rule), {}
    for one in suite.headlines:
        ours = headline.mean(headline.strata(one, judged), derive(0, "headline", suite.name, one.name))
        bounds = (ours.low, ours.high) if ours and ours.low is not None and ours.high is not None else None
        found[one.name] = HeadlineResult(
            official=theirs.get(one.name),
            official_missing=official.missing(suite, published_rule, one.name),
            verified=ours and ours.value,
            n=ours.n if ours else 0,
            verified_interval=bounds,
        )
    return found


def _sampled(rows: Sequence[ScoredItem]) -> Sampled:
    """Mean, majority and any-of-k accuracies of the sampled answers, and how many were read and truncated."""
    gold = [one.sampled for one in rows if one.item.gold]
    k = len(gold[0])
    chosen = [majority(judged) for judged in gold]
    return Sampled(
        k=k,
        parsed=fmean(bool(one.reading.found) for judged in gold for one in judged),
        truncated=sum(one.truncated("sampled") for one in rows) / sum(len(one.sampled) for one in rows),
        verified={
            "mean": fmean(fmean(one.verified for one in judged) for judged in gold),
            f"maj@{k}": fmean(one is not None and one.verified for one in chosen),
            f"pass@{k}": fmean(any(one.verified for one in judged) for judged in gold),
        },
    )


def _deviations(suite: Suite, found: SuiteResult, settings: Settings, there: int) -> Iterator[str]:
    """Args: there: rows that the data holds, those set aside included."""
    assert found.greedy is not None and found.published is not None
    aside = len(found.set_aside)
    if too_many(aside, there - aside):
        yield f"{counted(found.set_aside)}, {100 * aside / max(there, aside):.1f} %"
    if settings.limit and found.rows < there - aside:
        yield f"{found.rows} of {suite.rows} rows (--limit)"
    elif there != suite.rows:
        yield f"{there} of {suite.rows} rows"
    elif found.n is None or not suite.scored - aside <= found.n <= suite.scored:
        yield f"{found.n} rows with gold, {suite.scored} expected"
    if found.greedy.parsed is not None and found.greedy.parsed < LEAST_PARSED:
        yield f"an answer could be read in {100 * found.greedy.parsed:.1f} % of responses"
    if found.greedy.truncated > MOST_TRUNCATED:
        yield f"{100 * found.greedy.truncated:.1f} % of responses were truncated at the token limit"
    if settings.images == "shuffled":
        yield "each question was shown the pictures of another one"
    if settings.profile == "boxed" and settings.prompt_format == "pocket" and not suite.drawn:
        yield "asked in the pocket world's prompt_format, which has no reasoning prompt"
    for one in found.published.outside:
        yield f"the base is outside its published band: {one.text}"


def _group(name: str, found: Mapping[str, SuiteResult]) -> SuiteGroup | None:
    wanted = catalogue.members(name)
    there = {suite: found[suite].headline for suite in wanted if suite in found}
    scores = {suite: one[1] for suite, one in there.items() if one is not None and one[1].n}
    if not scores:
        return None
    theirs = [one.official for one in scores.values() if one.official is not None]
    return SuiteGroup(
        members=tuple(scores),
        missing=tuple(suite for suite in wanted if suite not in scores),
        official=fmean(theirs) if len(theirs) == len(scores) else None,
        verified=fmean(one.verified or 0.0 for one in scores.values()),
    )


def _lines(rows: Mapping[str, list[ScoredItem]]) -> Iterator[dict[str, Any]]:
    """One line per item: what was read from the greedy answer and both verdicts; no question and no answer
    text."""
    for suite, one in ((suite, one) for suite, its_rows in rows.items() for one in its_rows):
        greedy, gold = one.greedy, bool(one.item.gold)
        yield {
            "suite": suite,
            "id": one.item.id,
            "extracted": list(greedy.reading.found) if greedy else None,
            "how": greedy.reading.how if greedy else None,
            "official": greedy.official if greedy else None,
            "verified": greedy.verified if greedy and gold else None,
            "truncated": bool(one.truncated("greedy")),
            "sampled": [list(response.reading.found) for response in one.sampled],
        }
