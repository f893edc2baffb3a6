"""What stored answers say: results.json of an evaluation's folder, from its files alone, without a model or
the benchmark's pictures."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from harness.evals import catalogue, extra, folder, published
from harness.evals.catalogue import Suite
from harness.evals.store import read_rows
from harness.scoring import Item, Reading, Totals, Verdict, by_group, judge, read, totals
from harness.scoring.score import Extractor
from harness.stats import wilson
from vzero.errors import VZeroError
from vzero.runtime import artefacts
from vzero.voting import tally

RULES = "rules"  # harness.scoring.read
_LENS = {"official": "right", "strict": "verified"}  # column -> attribute of a verdict
LEAST_PARSED, MOST_TRUNCATED = 0.95, 0.05  # beyond these a number is a protocol deviation


@dataclass(frozen=True)
class Scored:
    """One item with its verdicts: of the greedy answer, and of each sampled one (none where none were
    drawn)."""

    item: Item
    together: Mapping[str, str]
    greedy: Verdict | None
    sampled: tuple[Verdict, ...]
    truncated: tuple[int, int]  # greedy, sampled answers cut off by the token limit


def write(out: Path, extractor: Extractor = read, read_by: str = RULES) -> dict[str, Any]:
    """Score what is stored in `out` and write results.json, results.md and items.scored.jsonl; the content of
    the first.

    Args:
        extractor: reads the answers; `read_by` is its name.
    """
    from harness.evals.table import markdown

    found = build(out, extractor, read_by)
    artefacts.write_jsonl(out / "items.scored.jsonl", _lines(out, extractor))
    artefacts.write_json(out / "results.json", found)
    artefacts.write_text(out / "results.md", markdown(found))
    return found


def build(out: Path, extractor: Extractor = read, read_by: str = RULES) -> dict[str, Any]:
    """The content of results.json.

    Raises:
        InputError: `out` is not an evaluation.
        VZeroError: stored responses contradict each other.
    """
    stored = folder.read(out)
    settings = stored["evaluation"]
    suites = [catalogue.suites()[name] for name in settings["suites"]]
    found = {suite.name: _suite(out, suite, settings, extractor) for suite in suites}
    return {
        "evaluation": settings,
        "answers_read_by": read_by,
        "suites": found,
        "groups": {name: group for name in catalogue.GROUPS if (group := _group(name, found))},
        "decontamination": artefacts.read_json(out / "decontamination.json")
        if (out / "decontamination.json").exists()
        else None,
        "complete": all(one["status"] == "complete" for one in found.values()),
        "created": stored["created"],
        "provenance": stored["provenance"],
    }


def scored(
    out: Path, suite: Suite, extractor: Extractor = read, parts: Container[str | None] | None = None
) -> list[Scored]:
    """Every item of a suite (of some of its parts) in the order asked, with the verdicts on what is stored of
    it."""
    path = out / "items" / f"{suite.name}.jsonl"
    items = [
        row
        for row in (artefacts.read_jsonl(path) if path.exists() else [])
        if parts is None or row["part"] in parts
    ]
    answers: dict[tuple[str, str], dict[str, Any]] = {}
    for row in read_rows(out / "responses" / f"{suite.name}.jsonl"):
        known = answers.setdefault((row["id"], row["purpose"]), row)
        if known["key"] != row["key"]:
            raise VZeroError(
                f"Item {row['id']} of {suite.name} was answered under two different conditions in {out}; evaluate anew with --fresh."
            )
    return [_scored(row, answers, extractor) for row in items]


def means(out: Path, suite: Suite, part: str | None, purpose: str) -> dict[str, float | None]:
    """Mean official, strict and parsed over the answers to the items of one part that have gold."""
    rows = [one for one in scored(out, suite, parts=(part,)) if one.item.gold]
    groups = [[one.greedy] if purpose == "greedy" and one.greedy else list(one.sampled) for one in rows]
    values = {
        "official": [fmean(verdict.right for verdict in group) for group in groups if group],
        "strict": [fmean(verdict.verified for verdict in group) for group in groups if group],
        "parsed": [fmean(bool(verdict.reading.found) for verdict in group) for group in groups if group],
    }
    return {name: fmean(numbers) if numbers else None for name, numbers in values.items()}


def _scored(
    row: dict[str, Any], answers: Mapping[tuple[str, str], dict[str, Any]], extractor: Extractor
) -> Scored:
    item = _item(row)
    greedy, sampled = (
        answers.get((item.id, purpose), {"answers": []})["answers"] for purpose in ("greedy", "sampled")
    )
    cut = tuple(sum(one["finish_reason"] == "length" for one in given) for given in (greedy, sampled))
    verdicts = [
        judge(item, extractor(item, one["text"], one["finish_reason"])) for one in (*greedy, *sampled)
    ]
    return Scored(
        item,
        row["together"],
        verdicts[0] if greedy else None,
        tuple(verdicts[len(greedy) :]),
        (cut[0], cut[1]),
    )


def _item(row: Mapping[str, Any]) -> Item:
    """An item as it was written to items/<suite>.jsonl."""
    plain = {name: value for name, value in row.items() if name not in ("together", "part")}
    for name in ("options", "labels", "gold"):
        plain[name] = tuple(plain[name])
    return Item(**{**plain, "group": tuple((name, value) for name, value in plain["group"])})


def _suite(out: Path, suite: Suite, settings: Mapping[str, Any], extractor: Extractor) -> dict[str, Any]:
    rows = scored(out, suite, extractor)
    record = out / "lmms_eval" / f"{suite.name}.json"
    answered = [
        one for one in rows if one.greedy is not None and (settings["sampled"] is None or one.sampled)
    ]
    about = {
        "title": suite.title,
        "rule": suite.rule,
        "rows_expected": suite.rows,
        "rows": len(rows),
        "answered": len(answered),
        "without_gold": [one.item.id for one in rows if not one.item.gold],
        "note": suite.note,
    }
    if not rows or len(answered) < len(rows) or not record.exists():
        return {
            **about,
            "status": "incomplete",
            "deviations": [f"{len(answered)} of {len(rows) or suite.rows} items answered; not scored"],
        }
    lmms_eval = artefacts.read_json(record)
    greedy = [one.greedy for one in rows if one.greedy is not None]
    found = {
        **about,
        "status": "complete",
        "n": sum(bool(one.item.gold) for one in rows),
        "greedy": _summary(totals(greedy), sum(one.truncated[0] for one in rows) / len(rows)),
        "extracted_by": dict(Counter(one.reading.how for one in greedy).most_common()),
        "by": {
            name: {value: _plain(one) for value, one in values.items()}
            for name, values in by_group(greedy).items()
        },
        "table": suite.table,
        "together": {name: _together(rows, name) for name in suite.together},
        "extra": extra.scores(
            suite.name,
            [
                (one.item.id, one.together, one.greedy.right, one.greedy.verified)
                for one in rows
                if one.greedy is not None and one.item.gold
            ],
        ),
        "sampled": _sampled(rows) if settings["sampled"] else None,
        "lmms_eval": lmms_eval,
    }
    found["published"] = published.beside(suite, settings, found)
    found["deviations"] = _deviations(suite, found, settings)
    return found


def _summary(sums: Totals, truncated: float) -> dict[str, Any]:
    found = {**_plain(sums), "truncated": truncated}
    for lens in ("official", "strict"):
        value = found[lens]
        found[f"{lens}_interval"] = list(wilson(round(value * sums.n), sums.n)) if value is not None else None
    return found


def _plain(sums: Totals) -> dict[str, Any]:
    """The tables' "official" is the verified rate where the suite has no published rule here."""
    found = asdict(sums)
    for end in ("", "_given_parsed"):
        verified = found.pop(f"verified{end}")
        found[f"strict{end}"] = verified
        found[f"official{end}"] = verified if found[f"official{end}"] is None else found[f"official{end}"]
    return found


def _together(rows: Sequence[Scored], name: str) -> dict[str, Any]:
    """Share of the sets `name` whose items are all right, by both lenses."""
    sets: dict[str, list[Verdict]] = {}
    for one in rows:
        if one.greedy is not None and one.item.gold and name in one.together:
            sets.setdefault(one.together[name], []).append(one.greedy)
    return {
        "n": len(sets),
        "official": fmean(all(one.right for one in group) for group in sets.values()) if sets else None,
        "strict": fmean(all(one.verified for one in group) for group in sets.values()) if sets else None,
    }


def _sampled(rows: Sequence[Scored]) -> dict[str, Any]:
    """Mean, majority and any-of-k accuracies of the sampled answers, by both lenses, and how many were read
    and cut off."""
    gold = [one for one in rows if one.item.gold]
    k, answers = len(gold[0].sampled), sum(len(one.sampled) for one in rows)
    found: dict[str, Any] = {
        "k": k,
        "parsed": fmean(bool(verdict.reading.found) for one in gold for verdict in one.sampled),
        "truncated": sum(one.truncated[1] for one in rows) / answers,
    }
    for lens in ("official", "strict"):
        right = {one.item.id: [getattr(verdict, _LENS[lens]) for verdict in one.sampled] for one in gold}
        found[lens] = {
            "mean": fmean(fmean(flags) for flags in right.values()),
            f"maj@{k}": fmean(_majority(one, lens) for one in gold),
            f"pass@{k}": fmean(any(flags) for flags in right.values()),
        }
    return found


def _majority(one: Scored, lens: str) -> bool:
    """Whether the most frequent parsed answer is right: ties go to the answer seen first, no parsed answer is
    wrong."""
    names = [_name(verdict.reading) for verdict in one.sampled]
    chosen = tally(names).answer
    return chosen is not None and bool(getattr(one.sampled[names.index(chosen)], _LENS[lens]))


def _name(reading: Reading) -> str | None:
    return ", ".join(reading.found) if reading.found else None


def _deviations(suite: Suite, found: Mapping[str, Any], settings: Mapping[str, Any]) -> list[str]:
    greedy, notes = found["greedy"], []
    if found["rows"] != suite.rows:
        notes.append(f"{found['rows']} of {suite.rows} rows" + (" (--limit)" if settings["limit"] else ""))
    elif found["n"] != suite.scored:
        notes.append(f"{found['n']} rows with gold, {suite.scored} expected")
    if greedy["parsed"] is not None and greedy["parsed"] < LEAST_PARSED:
        notes.append(f"an answer could be read in {100 * greedy['parsed']:.1f} % of responses")
    if greedy["truncated"] > MOST_TRUNCATED:
        notes.append(f"{100 * greedy['truncated']:.1f} % of responses were cut off at the token limit")
    if settings["profile"] == "boxed" and settings["prompt_format"] == "pocket":
        notes.append("asked in the pocket world's prompt_format, which has no reasoning prompt")
    return notes + [
        f"the base is outside its published band: {one['text']}" for one in found["published"]["outside"]
    ]


def _group(name: str, found: Mapping[str, Mapping[str, Any]]) -> dict[str, Any] | None:
    """The unweighted mean over a group's suites that were evaluated, and which those are."""
    wanted = catalogue.members(name)
    there = [
        suite
        for suite in wanted
        if suite in found and found[suite]["status"] == "complete" and found[suite]["greedy"]["n"]
    ]
    if not there:
        return None
    return {
        "members": there,
        "missing": [suite for suite in wanted if suite not in there],
        "official": fmean(found[suite]["greedy"]["official"] for suite in there),
        "strict": fmean(found[suite]["greedy"]["strict"] for suite in there),
    }


def _lines(out: Path, extractor: Extractor) -> list[dict[str, Any]]:
    """One line an item: what was extracted from the greedy answer and both verdicts; no question and no
    answer text."""
    return [
        {
            "suite": name,
            "id": one.item.id,
            "extracted": list(one.greedy.reading.found) if one.greedy else None,
            "how": one.greedy.reading.how if one.greedy else None,
            "official": one.greedy.right if one.greedy and one.item.gold else None,
            "strict": one.greedy.verified if one.greedy and one.item.gold else None,
            "truncated": bool(one.truncated[0]),
            "sampled": [list(verdict.reading.found) for verdict in one.sampled],
        }
        for name in folder.read(out)["evaluation"]["suites"]
        for one in scored(out, catalogue.suites()[name], extractor)
    ]
