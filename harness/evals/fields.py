"""A row of a benchmark as a question to ask and an item to score: one function a suite, named in its record.

Rows have the columns of the dataset on the hub, which are also those that lmms-eval's own tasks read.
Sentences that ask for a bare letter are left out of the text, since the prompt says how to answer.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal, InvalidOperation
from typing import Any

from harness.evals.catalogue import Suite
from harness.evals.options import listed, written_out
from harness.scoring import DIGITS, LETTERS, Item
from harness.scoring.items import Kind
from vzero.errors import InputError

Row = Mapping[str, Any]
_DIRECT = re.compile(
    r"\s*(?:Please answer directly with (?:only the letter of the correct option and nothing else"
    r"|a single word or number)\.?"
    r"|Answer with the option's letter from the given choices directly\.?)\s*$"
)
_IMAGE_MARK = re.compile(r"<image ?(\d*)>")
_LOWER_LISTED = re.compile(r"\(([a-d])\)\s*(.*?)(?=\s*\([a-d]\)|\s*$)", re.DOTALL)


# "Select from A, B and C", "(A-D)", "A to F", "(A) True (B) False": the question itself says that its labels
# are letters.
_OFFERS_LETTERS = re.compile(r"\bA ?(?:-|to|,) ?[B-I]\b|\bA\)|\(A\)")
# What `ast.literal_eval` and plain access raise on rows of another shape.
_OTHER_SHAPE = (
    TypeError, ValueError, AttributeError, IndexError, SyntaxError, RecursionError, MemoryError,
)  # fmt: skip
_MATHVISTA_GROUPS = ("task", "category", "context", "grade", "source", "language")
_MATHVISTA_KINDS = ("integer", "float", "list", "text")


@dataclass(frozen=True)
class SuiteQuestion:
    """What one row asks.

    Attributes:
        item: for scoring.
        text: the question as shown, its options included.
        together: set name -> which of these sets the item belongs to (see `Suite.together`).
    """

    item: Item
    text: str
    together: Mapping[str, str] = field(default_factory=dict)


def read(suite: Suite, row: Row, index: int) -> SuiteQuestion:
    """The question in row `index` (counted over the part) of `suite`.

    Raises:
        InputError: the row lacks a field or has one of another shape; it is named.
    """
    try:
        return READERS[suite.fields](row, index)
    except KeyError as error:
        raise InputError(
            f"Row {index} of {suite.name} has no field {error}; it is not a row of {suite.dataset}."
        ) from None
    except _OTHER_SHAPE as error:
        raise InputError(
            f"Row {index} of {suite.name} has another shape than a row of {suite.dataset}: {error}."
        ) from None


def pocket(row: Row, index: int) -> SuiteQuestion:
    found = _choice(row["item_id"], row["question"], _letters(4), row["gold"], {"family": row["family"]})
    if not found.item.gold:
        raise ValueError("it has no gold answer")
    return found


def mathvista(row: Row, index: int) -> SuiteQuestion:
    about, answer = row["metadata"], row["answer"]
    group = [("skill", one) for one in about["skills"]]
    group += [(name, about[name]) for name in _MATHVISTA_GROUPS if name in about]
    options = _lettered(row["choices"] or ())
    gold: tuple[str, ...] = () if answer in (None, "") else (str(answer),)
    kind: Kind = "choice" if row["question_type"] == "multi_choice" else row["answer_type"]
    if row["answer_type"] not in _MATHVISTA_KINDS:
        raise ValueError(f"its answer_type is {row['answer_type']!r}")
    if kind == "choice" and gold:
        gold = tuple(label for label, text in options.items() if text == gold[0])
        if not gold:
            raise ValueError("its answer is none of its choices")
    item = Item(
        id=str(row["pid"]),
        question=row["question"],
        options=tuple(options.values()),
        labels=tuple(options),
        gold=gold,
        kind=kind,
        precision=None if row["precision"] is None else int(row["precision"]),
        unit=row["unit"],
        group=tuple(group),
        rule="mathvista",
    )
    unit = f" (Unit: {item.unit})" if item.unit else ""
    return SuiteQuestion(item, _with_options(item.question + unit, item))


def logicvista(row: Row, index: int) -> SuiteQuestion:
    """Most options stand in the images alone; `options` holds those that the question writes out.

    Gold labels are letters A to I and, once, a digit: digits are labels where the question does not offer
    letters. Three items have two right labels, so every item may be answered with several. Row v1_382 has no
    gold.
    """
    text = row["question"]
    group = [("skill", one) for one in row.get("skill", ())]
    group += [("capability", one) for one in row.get("broad_capability", row.get("capability", ()))]
    gold = {label.strip().upper() for label in (row["answer"] or "").split(",") if label.strip()}
    item = Item(
        id=str(row.get("id", index)),
        question=text,
        options=written_out(text),
        labels=LETTERS if _OFFERS_LETTERS.search(text) else LETTERS + DIGITS,
        gold=tuple(sorted(gold)),
        kind="multi",
        group=tuple(group),
        rule="logicvista",
    )
    return SuiteQuestion(item, text)


def mathverse(row: Row, index: int) -> SuiteQuestion:
    # In the vision-only version the picture alone holds question and options.
    text = row["question"].strip() or "Answer the question that is written in the picture."
    group = {"version": row["problem_version"], "subject": (row.get("metadata") or {}).get("subject", "?")}
    key, gold = str(row["sample_index"]), str(row["answer"])
    if row["question_type"] != "multi-choice":
        return _free(key, text, gold, group)
    return _choice(key, text, listed(row["question_for_eval"]) or _letters(4), gold, group)


def mathvision(row: Row, index: int) -> SuiteQuestion:
    text = _unmarked(row["question"])
    options = dict(zip(LETTERS, row["options"] or (), strict=False))
    group = {name: str(row.get(name, "?")) for name in ("subject", "level")}
    found = _either(str(row["id"]), text, options, str(row["answer"]), group)
    return replace(found, text=_with_options(text, found.item))


def wemath(row: Row, index: int) -> SuiteQuestion:
    text = f"{row['question']}\n{row['option']}"
    group = {"steps": row["key"], "concept": row["knowledge concept"]}
    found = _choice(f"{row['ID']}/{row['key']}", text, listed(row["option"]), row["answer"], group)
    return replace(found, together={"problem": str(row["ID"])})


def dynamath(row: Row, index: int) -> SuiteQuestion:
    text, gold = row["question"], str(row["ground_truth"]).strip()
    key, group = f"{row['id']}/{row.get('question_id', index)}", {"subject": str(row.get("subject", "?"))}
    lettered = len(gold) == 1 and gold.isalpha()
    if lettered and row.get("answer_type", "multiple choice") == "multiple choice":
        found = _choice(key, text, listed(text) or _letters(4), gold, group)
    else:
        found = _free(key, text, gold, group, decimals=3)
    return replace(found, together={"worst case": str(row["id"])})


def mmstar(row: Row, index: int) -> SuiteQuestion:
    text, group = row["question"], {name: row[name] for name in ("category", "l2_category")}
    return _choice(str(row["index"]), text, listed(text) or _letters(4), row["answer"], group)


def realworldqa(row: Row, index: int) -> SuiteQuestion:
    text, gold = _DIRECT.sub("", row["question"].strip()), row["answer"].strip()
    options = listed(text) if len(gold) == 1 and gold.upper() in "ABCDEF" else {}
    return _either(str(index), text, options, gold, {"kind": "options" if options else "free"})


def blink(row: Row, index: int) -> SuiteQuestion:
    options, gold = _lettered(row["choices"]), row["answer"].strip("()")
    found = _choice(row["idx"], row["prompt"], options, gold, {"task": row["sub_task"]})
    return replace(found, text=_unmarked(row["prompt"]))


def cv_bench(row: Row, index: int) -> SuiteQuestion:
    options, gold = _lettered(row["choices"]), row["answer"].strip("()")
    group = {name: row[name] for name in ("task", "source")}
    return _choice(str(row["idx"]), row["prompt"], options, gold, group)


def mmvp(row: Row, index: int) -> SuiteQuestion:
    options = {letter.upper(): text.strip() for letter, text in _LOWER_LISTED.findall(row["Options"])}
    number = int(row["Index"])  # from 1: items 1 and 2 are a pair
    gold = row["Correct Answer"].strip().strip("()").upper()
    item = _choice(str(number), row["Question"], options, gold, {"kind": "all"}).item
    return SuiteQuestion(item, _with_options(item.question, item), {"pair": str((number - 1) // 2)})


def vstar(row: Row, index: int) -> SuiteQuestion:
    text, group = _DIRECT.sub("", row["text"].strip()), {"category": row["category"]}
    return _choice(str(row["question_id"]), text, listed(text) or _letters(4), row["label"], group)


def hallusionbench(row: Row, index: int) -> SuiteQuestion:
    where = "_".join(str(row[name]) for name in ("category", "subcategory", "set_id"))
    figure, question = f"{where}_{row['figure_id']}", f"{where}_{row['question_id']}"
    gold = {"1": "A", "0": "B"}[str(row["gt_answer"])]
    group = {name: row[name] for name in ("subcategory", "category")}
    key, options = f"{figure}_{row['question_id']}", {"A": "Yes", "B": "No"}
    item = _choice(key, row["question"], options, gold, group).item
    return SuiteQuestion(item, _with_options(item.question, item), {"figure": figure, "question": question})


def visulogic(row: Row, index: int) -> SuiteQuestion:
    key, group = str(row.get("id", index)), {"tag": str(row.get("tag", "?"))}
    return _choice(key, row["question"], _letters(4), row["label"], group)


def mmmu(row: Row, index: int) -> SuiteQuestion:
    text, gold = _IMAGE_MARK.sub(r"(image \1)", row["question"]), str(row["answer"])
    options = _lettered(ast.literal_eval(row["options"])) if row["question_type"] == "multiple-choice" else {}
    if not options and gold.startswith("["):
        gold = str(ast.literal_eval(gold)[0])  # several ways to write one answer
    subject = re.sub(r"^[a-z]+_|_\d+$", "", row["id"])
    item = _either(row["id"], text, options, gold, {"subject": subject}).item
    return SuiteQuestion(item, _with_options(text, item))


READERS: dict[str, Callable[[Row, int], SuiteQuestion]] = {
    one.__name__: one
    for one in (
        pocket, mathvista, mathverse, mathvision, logicvista, wemath, dynamath, mmstar, realworldqa, blink,
        cv_bench, mmvp, vstar, hallusionbench, visulogic, mmmu,
    )
}  # fmt: skip


def _either(
    key: str, text: str, options: Mapping[str, str], gold: str, group: Mapping[str, str]
) -> SuiteQuestion:
    return _choice(key, text, options, gold, group) if options else _free(key, text, gold, group)


def _choice(
    key: str, text: str, options: Mapping[str, str], gold: str, group: Mapping[str, str]
) -> SuiteQuestion:
    """A question with one of `options` as its answer: label -> text, empty where it stands in the picture."""
    label = gold.strip().upper()
    if label and label not in options:
        raise ValueError(f"its answer {gold.strip()!r} is none of {', '.join(options)}")
    texts = tuple(options.values()) if any(options.values()) else ()
    right = (label,) if label else ()
    return SuiteQuestion(
        Item(key, text, texts, tuple(options), right, "choice", group=tuple(group.items())), text
    )


def _free(
    key: str, text: str, gold: str, group: Mapping[str, str], decimals: int | None = None
) -> SuiteQuestion:
    """A question whose answer is of its gold's kind: whole number, number, words. With `decimals`, numbers
    may differ by one in the last of so many, whole ones too."""
    gold = gold.strip()
    whole, number = re.fullmatch(r"-?\d+", gold), _is_number(gold)
    kind: Kind = "integer" if whole and decimals is None else "float" if whole or number else "text"
    precision = decimals if kind == "float" else None
    tolerance = None if precision is None else 10.0**-precision
    right = (gold,) if gold else ()
    item = Item(key, text, (), (), right, kind, precision, group=tuple(group.items()), tolerance=tolerance)
    return SuiteQuestion(item, text)


def _is_number(text: str) -> bool:
    try:
        return Decimal(text).is_finite()
    except InvalidOperation:
        return False


def _unmarked(text: str) -> str:
    return _IMAGE_MARK.sub("", text).strip()


def _with_options(question: str, item: Item) -> str:
    shown = zip(item.labels, item.options, strict=True) if item.options else ()
    return "\n".join([question, *(f"{label}. {text}" for label, text in shown)])


def _letters(count: int) -> dict[str, str]:
    """Labels of options that stand in the picture."""
    return dict.fromkeys(LETTERS[:count], "")


def _lettered(texts: Sequence[str]) -> dict[str, str]:
    return dict(zip((chr(ord("A") + i) for i in range(len(texts))), map(str, texts), strict=True))
