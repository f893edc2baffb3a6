"""What is stored of a suite, with its verdicts: from an evaluation's folder alone, without a model or the
benchmark's pictures."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from harness.evals import folder, lenses, official, pins, store
from harness.evals.catalogue import Purpose, Suite
from harness.evals.folder import AskedItem
from harness.evals.lenses import Extractor
from harness.evals.results import AskedRows, LmmsEval
from harness.evals.store import Response, StoredAnswer
from harness.scoring import Item, ScoredResponse, read
from vzero.errors import VZeroError
from vzero.runtime import artefacts

Row = dict[str, Any]  # of samples.jsonl


@dataclass(frozen=True)
class ScoredItem:
    """One item with what is stored of it: answers and their verdicts by purpose, none where none were
    drawn."""

    asked: AskedItem
    responses: Mapping[Purpose, Response]
    judged: Mapping[Purpose, tuple[ScoredResponse, ...]]

    @property
    def item(self) -> Item:
        return self.asked.item

    @property
    def greedy(self) -> ScoredResponse | None:
        return next(iter(self.judged.get("greedy", ())), None)

    @property
    def sampled(self) -> tuple[ScoredResponse, ...]:
        return self.judged.get("sampled", ())

    def answers(self, purpose: Purpose) -> list[StoredAnswer]:
        return self.responses[purpose]["answers"] if purpose in self.responses else []

    def truncated(self, purpose: Purpose) -> int:
        """Answers that ran into the token limit."""
        return sum(one["finish_reason"] == "length" for one in self.answers(purpose))


def scored(
    out: Path, suite: Suite, extractor: Extractor = read, parts: Container[str | None] | None = None
) -> list[ScoredItem]:
    """Every item of a suite (of some of its parts) in the order asked; greedy answers have the official
    verdicts that are stored. Raises as `stored`."""
    responses, verdicts = stored(out, suite), official.read(out, suite.name).verdicts
    return [
        _scored(suite, one, responses.get(one.item.id, {}), extractor, verdicts.get(one.item.id))
        for one in folder.items(out, suite.name)
        if parts is None or one.part in parts
    ]


def stored(out: Path, suite: Suite) -> dict[str, dict[Purpose, Response]]:
    """What is stored by item and purpose.

    Raises:
        VZeroError: responses are damaged, others than were scored, or contradict each other.
    """
    found: dict[str, dict[Purpose, Response]] = {}
    place, said = folder.responses(out, suite.name), folder.lmms_eval(out, suite.name)
    known = said.responses_sha256 if said else None
    if known and not (place.exists() and artefacts.sha256_file(place) == known):
        raise store.damaged(place)
    for row in store.read(place):
        purpose: Purpose = "greedy" if row["purpose"] == "greedy" else "sampled"
        if found.setdefault(row["id"], {}).setdefault(purpose, row)["key"] != row["key"]:
            raise VZeroError(
                f"Item {row['id']} of {suite.name} was answered under two different conditions in {out}; "
                "evaluate anew with --fresh."
            )
    return found


def asked_rows(
    out: Path, suite: Suite, responses: Mapping[str, Mapping[Purpose, Response]], sent: LmmsEval | None
) -> AskedRows | None:
    """What was asked of a suite, by digests; None where it was not opened. `sent` is there of complete
    ones."""
    ids = [one.item.id for one in folder.items(out, suite.name)]
    if not ids:
        return None
    seen = pins.read(folder.pins(out, suite.name))
    rows = artefacts.digest([[one, seen.rows.get(one) if seen else None] for one in ids])
    greedy = [responses.get(one, {}).get("greedy") for one in ids]
    if sent is None or None in greedy:
        return AskedRows(rows=rows)
    return AskedRows(
        rows=rows,
        prompts=artefacts.digest([one and one["prompt_sha256"] for one in greedy]),
        pictures=artefacts.digest([one and one["image_sha256"] for one in greedy]),
        sampling=artefacts.digest({task: one.model_dump() for task, one in sent.sent.items()}),
    )


def _scored(
    suite: Suite,
    asked: AskedItem,
    responses: Mapping[Purpose, Response],
    extractor: Extractor,
    verdict: bool | None,
) -> ScoredItem:
    judged = {
        purpose: tuple(
            lenses.judge(suite, asked.item, one["text"], one["finish_reason"], extractor)
            for one in response["answers"]
        )
        for purpose, response in responses.items()
    }
    if "greedy" in judged:
        judged["greedy"] = tuple(replace(one, official=verdict) for one in judged["greedy"])
    return ScoredItem(asked, responses, judged)


def sample_rows(out: Path, suite: Suite) -> Iterator[Row]:
    """samples.jsonl: a row per item with gold and a greedy answer, in the order asked.

    Answers to benchmarks have their `verified` verdict, greedy ones the `official` one too, null where there
    is none. Drawn suites have neither: there an answer is right where it is the gold letter.
    """
    for one in scored(out, suite):
        if not one.item.gold or one.greedy is None:
            continue
        families = [value for name, value in one.item.group if name == suite.table]
        greedy, sampled = (
            [
                _answer(answer, response, suite)
                for answer, response in zip(one.answers(purpose), one.judged[purpose], strict=True)
            ]
            if purpose in one.judged
            else []
            for purpose in ("greedy", "sampled")
        )
        yield {
            "suite": suite.name,
            "item_id": one.item.id,
            "family": families[0] if families else "all",
            "image_sha256": one.responses["greedy"]["image_sha256"],
            "prompt_sha256": one.responses["greedy"]["prompt_sha256"],
            "group": dict(one.item.group),
            "together": one.asked.together,
            "gold": ", ".join(one.item.gold),
            "greedy": greedy[0],
            "sampled": sampled,
        }


def _answer(stored: StoredAnswer, response: ScoredResponse, suite: Suite) -> Row:
    verdicts = {} if suite.drawn else {"verified": response.verified, "official": response.official}
    return {
        "text": stored["text"],
        "answer": lenses.named(response),
        **verdicts,
        "finish_reason": stored["finish_reason"],
        "tokens": stored["tokens"],
    }
