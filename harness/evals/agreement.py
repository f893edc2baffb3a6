"""How far the rules agree with the extractions that the suites' authors published, and what the choice of a
scorer is worth.

    python -m harness.evals.agreement DATA --out results/extractors

DATA holds `mathvista/` (testmini.json, published/*.jsonl: pid, response, extraction, true_false) and
`logicvista/` (dataset.json, published/*.jsonl: id, raw, extracted, match). Writes agreement.json and
agreement.md: ids, labels and counts, no text of the benchmarks.

The published extractions were made by GPT-4, which answers where the response does not, so a disagreement is
put into a class by what stands in the response, without asking our own rules: see `CLASSES`.
"""

from __future__ import annotations

import argparse
import ast
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from harness.evals import agreement_page
from harness.evals.layouts import items as items_of
from harness.scoring import Item, judge, read
from harness.scoring.lenses import published
from harness.scoring.meaning import option_words, text_of, words
from harness.scoring.text import last_turn, plain, sentences, without_echo
from vzero.errors import InputError
from vzero.runtime import artefacts

FORMAT = 1
CLASSES = {
    "empty": "the response is empty, or only repeats the question; GPT-4 extracted an answer all the same, or none",
    "next question": "the model went on with a question of its own, and GPT-4 took the answer to that one",
    "refusal": "the response says that it cannot answer; the nearest option to GPT-4's wording of that decides the verdict",
    "not stated": "the published label is written nowhere in the response, nor are its option's words",
    "article": 'the published label is "A", and the only A in the response is an article',
    "several listed": "the response lists three or more labels, or all options; some of them were published",
    "differs": "the response states something and we read it differently; each is judged by hand in judged.json",
}
_UNSTATED = ("empty", "not stated", "article", "several listed")
_REFUSES = re.compile(
    r"not (?:enough|possible|provide|clear|able|given)|cannot|can't|unable|impossible|more information|please provide|incomplete|missing",
    re.IGNORECASE,
)
_ANNOUNCES = re.compile(r"\b(?:answer|correct|choose|select|therefore|thus)\b", re.IGNORECASE)
_CAPITAL = re.compile(r"(?<![A-Za-z0-9'])[A-I](?![A-Za-z'])")
_MARKED = re.compile(r"\( ?([a-i]) ?\)|(?<!\w)([a-i])\)")


def measure(data: Path) -> dict[str, Any]:
    """Both suites, each published run.

    Raises:
        InputError: data missing or of another shape.
    """
    return {
        "format": FORMAT,
        "classes": CLASSES,
        "mathvista": [
            _mathvista_run(path, items)
            for items in [_by_id(items_of("mathvista", data))]
            for path in _runs(data / "mathvista")
        ],
        "logicvista": [
            _logicvista_run(path, items)
            for items in [_by_id(items_of("logicvista", data))]
            for path in _runs(data / "logicvista")
        ],
    }


def _mathvista_run(path: Path, items: Mapping[str, Item]) -> dict[str, Any]:
    rows = artefacts.read_jsonl(path)
    verdicts = [judge(items[row["pid"]], read(items[row["pid"]], row["response"])) for row in rows]
    theirs = [bool(row["true_false"]) for row in rows]
    given = [published(items[row["pid"]], row["extraction"]) for row in rows]
    same = [mine.right == right for mine, right in zip(verdicts, theirs, strict=True)]
    answered = [bool(row["response"].strip()) for row in rows]
    parsed = [one for one in verdicts if bool(one.reading.found)]
    disagreements = {
        row["pid"]: _mathvista_class(row["response"], bool(one.reading.found))
        for row, one, agrees in zip(rows, verdicts, same, strict=True)
        if not agrees
    }
    return {
        "run": path.stem.removeprefix("mathvista_"),
        "n": len(rows),
        "empty": len(rows) - sum(answered),
        "same_verdict": _share(same),
        "same_verdict_answered": _share(agrees for agrees, said in zip(same, answered, strict=True) if said),
        "same_verdict_parsed": _share(
            agrees for agrees, one in zip(same, verdicts, strict=True) if bool(one.reading.found)
        ),
        "published": _share(theirs),
        "from_published_extractions": _share(given),
        "official": _share(one.right for one in verdicts),
        "strict": _share(one.verified for one in verdicts),
        "parsed": len(parsed) / len(rows),
        "strict_given_parsed": _share(one.verified for one in parsed),
        "classes": dict(Counter(disagreements.values()).most_common()),
        "disagreements": disagreements,
    }


def _mathvista_class(response: str, parsed: bool) -> str:
    if not response.strip():
        return "empty"
    if last_turn(plain(response)):
        return "next question"
    if _REFUSES.search(response) and not parsed:
        return "refusal"
    return "differs" if parsed else "not stated"


def _logicvista_run(path: Path, items: Mapping[str, Item]) -> dict[str, Any]:
    rows = artefacts.read_jsonl(path)
    classes: dict[str, str] = {}
    agree, agree_stated, stated, agree_committed, committed = 0, 0, 0, 0, 0
    verdicts = []
    for row in rows:
        item = items[row["id"]]
        verdict = judge(item, read(item, row["raw"] or ""))
        verdicts.append(verdict)
        theirs = {str(label).upper() for label in ast.literal_eval(row["extracted"])}
        labels = theirs & set(item.labels) if theirs <= set(item.labels) else set()
        same = set(verdict.reading.found) == labels
        agree += same
        kind = _logicvista_class(item, row["raw"] or "", labels)
        if labels and kind not in _UNSTATED:
            stated += 1
            agree_stated += same
            if _commits(item, row["raw"] or "", labels):
                committed += 1
                agree_committed += same
        if not same:
            classes[row["id"]] = kind
    scored = [one for one in verdicts if one.has_gold]
    parsed = [one for one in scored if bool(one.reading.found)]
    return {
        "run": path.stem.removeprefix("logicvista_"),
        "n": len(rows),
        "stated": stated,
        "same_labels_stated": agree_stated / stated if stated else None,
        "committed": committed,
        "same_labels_committed": agree_committed / committed if committed else None,
        "same_labels_all": agree / len(rows),
        "published": sum(row["match"] == "1" for row in rows if items[row["id"]].gold) / len(scored),
        "strict": _share(one.verified for one in scored),
        "parsed": len(parsed) / len(scored),
        "strict_given_parsed": _share(one.verified for one in parsed),
        "classes": dict(Counter(classes.values()).most_common()),
        "disagreements": classes,
    }


def _logicvista_class(item: Item, response: str, labels: set[str]) -> str:
    """What stands in the response about the published labels; no rule of `extract` is asked."""
    text = without_echo(plain(response), item.question)
    if not any(map(str.isalnum, text)) or re.fullmatch(r"answer\W*", text, re.I):
        return "empty"
    named = _named(text)
    if len(named) >= 3 and len(labels) != 1:
        return "several listed"
    if labels == {"A"} == named and all(
        re.match(r"A [a-z]", text[found.start() :]) for found in _CAPITAL.finditer(text)
    ):
        return "article"
    return (
        "differs"
        if labels and labels == {label for label in labels if _written(item, label, text, named)}
        else "not stated"
    )


def _commits(item: Item, response: str, labels: set[str]) -> bool:
    """Whether the response comes down to the published labels: it names no others, or a sentence that says
    "answer", "correct", "choose" or "therefore" names just these. Searched as crudely as `_logicvista_class`
    does; no rule of `extract` is asked."""
    text = without_echo(plain(response), item.question)
    return any(
        _all_written(item, part) == labels for part in (text, *filter(_ANNOUNCES.search, sentences(text)))
    )


def _all_written(item: Item, text: str) -> set[str]:
    named = _named(text)
    return {label for label in item.labels if _written(item, label, text, named)}


def _named(text: str) -> set[str]:
    """Letters that stand alone as capitals or in brackets; in a short response also others that stand alone,
    and digits."""
    named = set(_CAPITAL.findall(text)) | {
        letter.upper() for found in _MARKED.findall(text) for letter in found if letter
    }
    return (
        named | {letter.upper() for letter in re.findall(r"(?<!\w)[a-i1-9](?!\w)", text)}
        if len(text) <= 40
        else named
    )


def _written(item: Item, label: str, text: str, named: set[str]) -> bool:
    if label in named or (label.isdigit() and re.search(rf"(?<![\d.]){label}(?![\d.]*\d)", text)):
        return True
    option = " ".join(option_words(text_of(item, label)))
    return bool(option) and f" {option} " in f" {' '.join(words(text))} "


def _by_id(items: Iterable[Item]) -> dict[str, Item]:
    return {item.id: item for item in items}


def _runs(folder: Path) -> list[Path]:
    found = sorted((folder / "published").glob("*.jsonl"))
    if not found:
        raise InputError(f"There are no published answers (*.jsonl) in {folder / 'published'}.")
    return found


def _share(flags: Iterable[bool]) -> float | None:
    values = list(flags)
    return sum(values) / len(values) if values else None


def main() -> None:
    """Measure, and write agreement.json and agreement.md."""
    parser = argparse.ArgumentParser(
        description="Agreement of the extraction rules with published extractions."
    )
    parser.add_argument("data", type=Path, help="folder with mathvista/ and logicvista/")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder to write agreement.json and agreement.md into"
    )
    given = parser.parse_args()
    measured = {**measure(given.data), "provenance": artefacts.provenance()}
    artefacts.write_json(given.out / "agreement.json", measured)
    judged = given.out / "judged.json"
    page = agreement_page.markdown(measured, artefacts.read_json(judged) if judged.exists() else {})
    artefacts.write_text(given.out / "agreement.md", page)
    print(f"{given.out / 'agreement.md'}")


if __name__ == "__main__":
    main()
