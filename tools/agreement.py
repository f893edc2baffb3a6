"""How our readings compare with those that benchmarks' authors published for the same answers.

    python tools/agreement.py DATA --out results/extractors

DATA holds `mathvista/`, `logicvista/`, `mathvision/` and `blink/`, each with the questions and, in
`published/*.jsonl`, answers of models with the authors' own reading or verdict. Writes agreement.json and
agreement.md: ids, labels and counts, no text of the benchmarks.

The authors' readings are made by GPT-4, or by rules with faults of their own, and answer also where the
response does not. So two shares stand beside each other: of all rows, and of those that both could read.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from harness.evals.layouts import items as load
from harness.scoring import LETTERS, Item, ScoredResponse, judge, read
from harness.tables import markdown
from harness.tables.table import Cell, Table, keys, numbers
from harness.tables.words import points
from tools import made_answers
from tools.made_answers import Tried
from vzero.errors import InputError
from vzero.runtime import artefacts

Row = Mapping[str, object]
_BRACKETED = re.compile(r"\(([a-zA-Z])\)")
KINDS = {
    "empty": "there is no response",
    "refusal": "it says that there is no telling; the published pipeline takes an option all the same",
    "nothing stated": "it states no answer by our rules: a list of options, an argument, other prose",
    "they read none": "the authors read no answer, or one that the question does not have",
    "every option": "the authors' GPT-4 named all options, of a reply that repeats the question",
    "another answer": "both read an answer, and not the same",
    "label and text": "the authors' rule compares `(D) 5/3` with `D`, letter for letter",
    "text of the option": "it does not know the right option by its text or value",
    "form of a number": "it does not know `20 cm`, `x = 20` or an equal formula for 20",
    "next question": "the model went on with a question of its own; the authors read the answer to that one",
}


@dataclass
class Run:
    """One model's published answers to one suite.

    Attributes:
        same: rows in which reading (or verdict, where only that was published) is the same.
        both: rows that both read; `same_both`: those of them with the same reading.
        published, ours: accuracy by the authors and by us (verified), over the rows whose gold is known.
        differing: row id -> one of KINDS.
    """

    suite: str
    model: str
    n: int = 0
    read: int = 0
    same: int = 0
    both: int = 0
    same_both: int = 0
    known: int = 0
    published: int = 0
    ours: int = 0
    differing: dict[str, str] = field(default_factory=dict)

    def add(
        self, key: str, judged: ScoredResponse, agrees: bool, theirs_read: bool, theirs_right: bool, kind: str
    ) -> None:
        """Count one row. `agrees` is whether the two readings, or verdicts, are the same."""
        ours_read = bool(judged.reading.found)
        self.n += 1
        self.read += ours_read
        self.same += agrees
        if ours_read and theirs_read:
            self.both += 1
            self.same_both += agrees
        if judged.item.gold:
            self.known += 1
            self.published += theirs_right
            self.ours += judged.verified
        if not agrees:
            self.differing[key] = kind or _kind(judged, theirs_read)


def _kind(judged: ScoredResponse, theirs_read: bool) -> str:
    if not judged.reading.found:
        return {"empty": "empty", "refused": "refusal"}.get(judged.reading.how, "nothing stated")
    return "another answer" if theirs_read else "they read none"


def measure(data: Path) -> list[Run]:
    """Every published run in DATA.

    Raises:
        InputError: data missing or of another shape.
    """
    return [run(data / suite, path) for suite, run in SUITES.items() for path in _published(data / suite)]


def _published(folder: Path) -> list[Path]:
    found = sorted((folder / "published").glob("*.jsonl"))
    if not found:
        raise InputError(f"There are no published answers (*.jsonl) in {folder / 'published'}.")
    return found


def _mathvista(folder: Path, path: Path) -> Run:
    """By verdict: GPT-4 extracted an answer, and a script judged it."""
    run, items = (
        Run("mathvista", path.stem.removeprefix("mathvista_")),
        _by_id(load("mathvista", folder)),
    )
    for row in artefacts.read_jsonl(path):
        item, right = items[row["pid"]], bool(row["true_false"])
        judged = judge(item, read(item, row["response"]))
        theirs_read = bool(row["extraction"]) and right == mathvista_verdict(item, row["extraction"])
        further = "\nQuestion:" in row["response"] or "\n\nHint:" in row["response"]
        kind = "next question" if further and judged.reading.found else ""
        ours = ", ".join(judged.reading.found) or None
        run.add(row["pid"], judged, mathvista_verdict(item, ours) == right, theirs_read, right, kind)
    return run


def mathvista_verdict(item: Item, extraction: str | None) -> bool:
    """MathVista's verdict on what was read (evaluation/calculate_score.py, as the published verdicts were
    made: an integer must be written as one, where today's script truncates `14.6`)."""
    if extraction is None:
        return False
    prediction = normalise(item, extraction)
    gold = [item.text_of(label) for label in item.gold] if item.is_choice else item.gold[:1]
    return prediction in gold


def normalise(item: Item, extraction: str) -> str | None:
    """MathVista's normalised prediction: an option's text, a number as text, or None for no number."""
    if item.is_choice:
        return _nearest(item, extraction.strip())
    try:
        if item.kind == "integer":
            return str(int(extraction))
        if item.kind == "float":
            return str(round(float(extraction.removesuffix("%")), item.precision or 0))
    except (ValueError, OverflowError):
        return None
    return extraction


def _nearest(item: Item, extraction: str) -> str:
    letter = _BRACKETED.search(extraction)
    name = letter.group(1).upper() if letter else extraction
    if name in item.labels:
        return item.text_of(name)
    from Levenshtein import distance

    return min(item.options, key=lambda option: distance(name, option))


def _logicvista(folder: Path, path: Path) -> Run:
    """By label set, as GPT-4 extracted it; labels that the question does not have are none."""
    run, items = (
        Run("logicvista", path.stem.removeprefix("logicvista_")),
        _by_id(load("logicvista", folder)),
    )
    for row in artefacts.read_jsonl(path):
        item = items[row["id"]]
        theirs = {str(label).upper() for label in ast.literal_eval(row["extracted"])}
        theirs = theirs if theirs <= set(item.labels) else set()
        judged = judge(item, read(item, row["raw"] or ""))
        kind = "every option" if len(theirs) > 2 and len(theirs) >= len(item.options) else ""
        agrees = set(judged.reading.found) == theirs
        run.add(row["id"], judged, agrees, bool(theirs), row["match"] == "1", kind)
    return run


def _mathvision(folder: Path, path: Path) -> Run:
    """By verdict of the authors' rule, which compares texts."""
    run, items = Run("mathvision", path.stem), _by_id(load("mathvision", folder))
    for row in artefacts.read_jsonl(path):
        item = items[row["id"]]
        judged = judge(item, read(item, row["response"]))
        kind = _denied(item, row["model_answer"]) if judged.verified and not row["correct"] else ""
        agrees = judged.verified == row["correct"]
        run.add(row["id"], judged, agrees, bool(row["model_answer"]), row["correct"], kind)
    return run


def _denied(item: Item, answer: str) -> str:
    """Why the authors' rule calls a right answer wrong."""
    if not item.is_choice:
        return "form of a number"
    labelled = re.match(rf"\W{{0,4}}{item.gold[0]}\b", answer, re.IGNORECASE)
    return "label and text" if labelled else "text of the option"


def _blink(folder: Path, path: Path) -> Run:
    """By label, as the authors' GPT-3.5 read it; null where it read none."""
    run = Run("blink", path.stem)
    for row in artefacts.read_jsonl(path):
        options, gold = tuple(row["options"]), (row["answer"],) if row["answer"] in LETTERS else ()
        item = Item(row["id"], row["question"], options, LETTERS[: len(options)], gold, "choice")
        judged, theirs = judge(item, read(item, row["response"])), row["published"]
        agrees = judged.reading.found == (() if theirs is None else (theirs,))
        run.add(row["id"], judged, agrees, theirs is not None, theirs in item.gold, "")
    return run


SUITES: dict[str, Callable[[Path, Path], Run]] = {
    "blink": _blink,
    "logicvista": _logicvista,
    "mathvision": _mathvision,
    "mathvista": _mathvista,
}


def _by_id(items: Sequence[Item]) -> dict[str, Item]:
    return {item.id: item for item in items}


def page(runs: Sequence[Run], made: Sequence[Tried]) -> str:
    """The tables as Markdown."""
    kinds = Table(
        "Rows that differ, by kind",
        (*keys("suite", "model"), *numbers(*KINDS)),
        [list(_kinds(suite, runs)) for suite in SUITES],
        [f"{name}: {text}." for name, text in KINDS.items()],
    )
    columns = (
        *keys("suite", "model"),
        *numbers("n"),
        *numbers("read", "same", unit="%"),
        *numbers("both read"),
        *numbers("of these same", "published accuracy", "verified accuracy", unit="%"),
        *numbers("difference, points"),
    )
    readings = Table(
        "The same reading, or verdict",
        columns,
        [list(_readings(suite, runs)) for suite in SUITES],
        ["MathVista and MathVision: the same verdict. BLINK and LogicVista: the same labels."],
    )
    head = "# Agreement with published readings\n\nBy `tools/agreement.py DATA --out results/extractors`.\n"
    return "\n".join([head, *map(markdown.render, (readings, kinds, made_answers.table(made)))])


def _readings(suite: str, runs: Sequence[Run]) -> Iterator[tuple[Cell, ...]]:
    for run in runs:
        if run.suite == suite:
            shares = (
                run.same_both / max(1, run.both),
                run.published / max(1, run.known),
                run.ours / max(1, run.known),
            )
            yield (
                Cell.of(suite),
                Cell.of(run.model),
                Cell.number(run.n),
                Cell.percent(run.read / run.n),
                Cell.percent(run.same / run.n),
                Cell.number(run.both),
                *map(Cell.percent, shares),
                Cell.of(points(shares[2] - shares[1])),
            )


def _kinds(suite: str, runs: Sequence[Run]) -> Iterator[tuple[Cell, ...]]:
    for run in runs:
        if run.suite == suite:
            counts = Counter(run.differing.values())
            yield (Cell.of(suite), Cell.of(run.model), *(Cell.number(counts.get(kind, 0)) for kind in KINDS))


def main() -> None:
    """Measure, and write agreement.json and agreement.md."""
    parser = argparse.ArgumentParser(description="Agreement of our readings with published ones.")
    parser.add_argument("data", type=Path, help="folder with mathvista/, logicvista/, mathvision/ and blink/")
    parser.add_argument(
        "--out", type=Path, required=True, help="folder to write agreement.json and agreement.md into"
    )
    given = parser.parse_args()
    runs = measure(given.data)
    suites = made_answers.suites(given.data).items()
    made = [made_answers.tried(name, items, gold) for name, items in suites for gold in (True, False)]
    record = {
        "kinds": KINDS,
        "runs": [asdict(run) for run in runs],
        "made": [asdict(one) for one in made],
        "provenance": artefacts.provenance(),
    }
    artefacts.write_json(given.out / "agreement.json", record)
    artefacts.write_text(given.out / "agreement.md", page(runs, made))
    print(given.out / "agreement.md")


if __name__ == "__main__":
    main()
