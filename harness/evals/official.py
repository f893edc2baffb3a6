"""Scores by a suite's published rule: lmms-eval's own code for it, run on the stored greedy answers.

On answers in another form than its own prompt asks for that code may read little: that is the official number
of such answers, and *read* and *verified* beside it say why. Kept in official/<suite>.json.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import BaseModel, ConfigDict

import harness
from harness.evals import folder, store
from harness.evals.catalogue import Suite
from harness.evals.fields import SuiteQuestion
from harness.evals.folder import AskedItem
from harness.evals.official_job import AnsweredRow, Job, Judge, Outcome
from harness.scoring import Item
from harness.scoring.files import Answer
from harness.scoring.score import ScoredFile
from vzero.errors import InputError, VZeroError
from vzero.runtime import artefacts

NEEDS_JUDGE = "needs a judge"
Answered = tuple[AskedItem, str]  # a question and the answer to it


class Official(BaseModel):
    """A file of official/: `key` is what the outcome was made of."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    outcome: Outcome


def update(out: Path, suites: Sequence[Suite], judge: Judge | None = None) -> None:
    """Score whatever of `suites` is answered and not scored yet, by the rules alone or with `judge`.

    Raises:
        VZeroError: the judge failed.
    """
    jobs: dict[str, Job] = {}
    for suite in suites:
        place, found = _file(out, suite.name), job(suite, _answered(out, suite), judge)
        if isinstance(found, Outcome):
            artefacts.write_digested(place, Official(key="", outcome=found).model_dump(mode="json"))
        elif _stored_key(place) != _key(found):
            jobs[suite.name] = found
    for (name, asked), outcome in zip(jobs.items(), run(list(jobs.values())), strict=True):
        # What may have failed by chance is kept without its key, so that the next scoring tries it again.
        chance = outcome.unavailable or any("takes too long" in why for why in outcome.set_aside.values())
        stored = Official(key="" if chance else _key(asked), outcome=outcome)
        artefacts.write_digested(_file(out, name), stored.model_dump(mode="json"))


def _stored_key(place: Path) -> str | None:
    """What the outcome in a file was made of; None where it cannot be read."""
    try:
        return folder.read_model(Official, place).key if place.exists() else None
    except InputError:
        return None


def read(out: Path, suite: str) -> Outcome:
    """What `update` found; no verdicts before it."""
    path = _file(out, suite)
    if not path.exists():
        return Outcome(unavailable="not scored yet")
    return folder.read_model(Official, path).outcome


def added(
    scored: ScoredFile,
    suite: Suite,
    questions: Sequence[SuiteQuestion],
    answers: Mapping[str, Answer],
    judge: Judge | None = None,
) -> tuple[ScoredFile, Outcome]:
    """A file's verdicts with the official ones; what the suite's rule said, or why it said nothing.

    Raises:
        VZeroError: the judge failed.
    """
    given = [
        (AskedItem.of(one, None), answers[one.item.id].response)
        for one in questions
        if one.item.id in answers
    ]
    found = job(suite, given, judge)
    if isinstance(found, Job):
        found = next(run([found]))
    judged = (replace(one, official=found.verdicts.get(one.item.id)) for one in scored.judged)
    return replace(scored, judged=tuple(judged)), found


def _answered(out: Path, suite: Suite) -> list[Answered]:
    greedy = {
        row["id"]: row["answers"][0]["text"]
        for row in store.read(folder.responses(out, suite.name))
        if row["purpose"] == "greedy"
    }
    return [(one, greedy[one.item.id]) for one in folder.items(out, suite.name) if one.item.id in greedy]


def job(suite: Suite, answered: Sequence[Answered], judge: Judge | None) -> Job | Outcome:
    """What to run, or why there is nothing to run."""
    scored = [(one, text) for one, text in answered if one.item.gold]
    reason = None
    if suite.drawn:
        return Outcome()
    if suite.judge and judge is None:
        reason = NEEDS_JUDGE
    elif not all(one.row for one, _ in scored):
        reason = "evaluated before rows were kept; evaluate anew"
    elif not scored:
        reason = "no answer has gold"
    if reason:
        return Outcome(unavailable=reason)
    whole = len(scored) == suite.scored or not suite.whole
    return Job(
        file=suite.parts[0].file,
        item=suite.verdict,
        headlines={one.name: one.metrics for one in suite.headlines if whole},
        strata={one.name: _strata([asked.item for asked, _ in scored], one.over)
                for one in suite.headlines if one.over},
        rows=tuple(AnsweredRow(id=one.item.id, row=one.row, answer=_valid(text)) for one, text in scored),
        judge=judge if suite.judge else None,
    )  # fmt: skip


def _valid(text: str) -> str:
    """Without lone surrogates, which JSON between processes cannot carry."""
    return text.encode("utf-8", "replace").decode()


def _strata(items: Sequence[Item], over: str) -> list[list[int]]:
    found: dict[str, list[int]] = {}
    for position, item in enumerate(items):
        found.setdefault(dict(item.group).get(over, ""), []).append(position)
    return list(found.values())


def _key(job: Job) -> str:
    return artefacts.digest([job.model_dump(mode="json"), metadata.version("lmms-eval")])


def run(jobs: Sequence[Job]) -> Iterator[Outcome]:
    """The outcome of each job, in order. One process for all; where it dies, another for the rest.

    Raises:
        VZeroError: the judge failed.
    """
    rest = list(jobs)
    while rest:
        done = _worker("".join(job.model_dump_json() + "\n" for job in rest))
        lines = done.stdout.splitlines()
        for line in lines:
            found = Outcome.model_validate_json(line)
            if found.unavailable and found.unavailable.startswith("the judge failed"):
                raise VZeroError(
                    f"Nothing was scored: {found.unavailable}; start it, or leave out --extractor-url."
                )
            yield found
        if len(lines) < len(rest):
            yield Outcome(unavailable=f"lmms-eval's scoring ended with exit code {done.returncode}")
        rest = rest[len(lines) + 1 :]


def _worker(jobs: str) -> subprocess.CompletedProcess[str]:
    """A process that scores jobs, a line each. It works in a new folder and imports from no other than ours:
    the current one may be anybody's."""
    code = str(Path(harness.__file__).resolve().parent.parent)
    path = os.pathsep.join(filter(None, [code, os.environ.get("PYTHONPATH")]))
    with TemporaryDirectory(prefix="vzero-scoring-") as place:
        return subprocess.run(
            [sys.executable, "-P", "-m", "harness.evals.official_worker"],
            input=jobs,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            encoding="utf-8",
            check=False,
            cwd=place,
            env={**os.environ, "PYTHONPATH": path},
        )


def headlines(suite: Suite, outcome: Outcome) -> Mapping[str, float]:
    """lmms-eval's own numbers as fractions of 1."""
    return {name: value / 100 if suite.percent else value for name, value in outcome.headlines.items()}


def missing(suite: Suite, outcome: Outcome, name: str) -> str | None:
    """Why there is no official number of that name; None where there is, or where none is published."""
    if suite.drawn or name in outcome.headlines:
        return None
    return outcome.unavailable or outcome.failed.get(name) or f"it is of all {suite.scored:,} rows alone"


def _file(out: Path, suite: str) -> Path:
    return out / "official" / f"{suite}.json"
