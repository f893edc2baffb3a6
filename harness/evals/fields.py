"""A row of a benchmark as a question to ask and an item to score: one function a suite, named in its record.

Rows have the columns of the dataset on the hub, which are also those that lmms-eval's own tasks read.
Sentences that ask for a bare letter are left out of the text, since the prompt says how to answer.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any

from harness.evals.catalogue import Suite
from harness.evals.sources import logicvista_item, mathvista_item
from harness.scoring import LETTERS, Item
from vzero.errors import InputError

Row = Mapping[str, Any]
_DIRECT = re.compile(
    r"\s*(?:Please answer directly with (?:only the letter of the correct option and nothing else|a single word or number)\.?"
    r"|Answer with the option's letter from the given choices directly\.?)\s*$"
)
_IMAGE_MARK = re.compile(r"<image ?(\d*)>")
_MARK = re.compile(r"(?<![A-Za-z0-9])\(?([A-H])[).:]")
_LOWER_LISTED = re.compile(r"\(([a-d])\)\s*(.*?)(?=\s*\([a-d]\)|\s*$)", re.DOTALL)


@dataclass(frozen=True)
class Question:
    """What one row asks.

    Attributes:
        item: for scoring.
        text: the question as shown, its options included.
        together: set name -> which of these sets the item belongs to (see `Suite.together`).
    """

    item: Item
    text: str
    together: Mapping[str, str]


def read(suite: Suite, row: Row, index: int) -> Question:
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
    except (
        TypeError,
        ValueError,
        AttributeError,
        IndexError,
        SyntaxError,
        RecursionError,
        MemoryError,
    ) as error:
        raise InputError(
            f"Row {index} of {suite.name} has another shape than a row of {suite.dataset}: {error}."
        ) from None


def mathvista(row: Row, index: int) -> Question:
    item = mathvista_item(str(row["pid"]), row)
    unit = f" (Unit: {item.unit})" if item.unit else ""
    return Question(item, _with_options(item.question + unit, item), {})


def mathverse(row: Row, index: int) -> Question:
    options = _options(
        row["question_for_eval"]
    )  # in the vision-only version the picture alone holds question and options
    text = row["question"].strip() or "Answer the question that is written in the picture."
    kind = "choice" if row["question_type"] == "multi-choice" else None
    group = (
        ("version", row["problem_version"]),
        ("subject", (row.get("metadata") or {}).get("subject", "?")),
    )
    return Question(
        _item(str(row["sample_index"]), text, options or _letters(4), str(row["answer"]), group, kind),
        text,
        {},
    )


def mathvision(row: Row, index: int) -> Question:
    text = _unmarked(row["question"])
    options = dict(zip(LETTERS, row["options"] or (), strict=False))
    group = (("subject", str(row.get("subject", "?"))), ("level", str(row.get("level", "?"))))
    item = _item(str(row["id"]), text, options, str(row["answer"]), group, "choice" if options else None)
    return Question(item, _with_options(text, item), {})


def logicvista(row: Row, index: int) -> Question:
    key = str(row.get("id", index))
    item = logicvista_item(key, {"skill": [], "imagename": key, **row, "answer": row["answer"] or ""})
    return Question(item, item.question, {})


def wemath(row: Row, index: int) -> Question:
    text = f"{row['question']}\n{row['option']}"
    group = (("steps", row["key"]), ("concept", row["knowledge concept"]))
    item = _item(f"{row['ID']}/{row['key']}", text, _options(row["option"]), row["answer"], group, "choice")
    return Question(item, text, {})


def dynamath(row: Row, index: int) -> Question:
    text, gold = row["question"], str(row["ground_truth"]).strip()
    kind = (
        "choice"
        if len(gold) == 1
        and gold.isalpha()
        and row.get("answer_type", "multiple choice") == "multiple choice"
        else None
    )
    options = (_options(text) or _letters(4)) if kind else {}
    item = _item(
        f"{row['id']}/{row.get('question_id', index)}",
        text,
        options,
        gold,
        (("subject", str(row.get("subject", "?"))),),
        kind,
        3,
    )
    return Question(item, text, {"worst case": str(row["id"])})


def mmstar(row: Row, index: int) -> Question:
    group = (("category", row["category"]), ("l2_category", row["l2_category"]))
    item = _item(
        str(row["index"]),
        row["question"],
        _options(row["question"]) or _letters(4),
        row["answer"],
        group,
        "choice",
    )
    return Question(item, row["question"], {})


def realworldqa(row: Row, index: int) -> Question:
    text, gold = _DIRECT.sub("", row["question"].strip()), row["answer"].strip()
    options = _options(text) if len(gold) == 1 and gold.upper() in "ABCDEF" else {}
    kind = "choice" if options else None
    return Question(
        _item(str(index), text, options, gold, (("kind", "options" if kind else "free"),), kind), text, {}
    )


def blink(row: Row, index: int) -> Question:
    item = _item(
        row["idx"],
        row["prompt"],
        _lettered(row["choices"]),
        row["answer"].strip("()"),
        (("task", row["sub_task"]),),
        "choice",
    )
    return Question(item, _unmarked(row["prompt"]), {})


def cv_bench(row: Row, index: int) -> Question:
    group = (("task", row["task"]), ("source", row["source"]))
    item = _item(
        str(row["idx"]), row["prompt"], _lettered(row["choices"]), row["answer"].strip("()"), group, "choice"
    )
    return Question(item, row["prompt"], {})


def mmvp(row: Row, index: int) -> Question:
    options = {letter.upper(): text.strip() for letter, text in _LOWER_LISTED.findall(row["Options"])}
    number = int(row["Index"])  # from 1: items 1 and 2 are a pair
    gold = row["Correct Answer"].strip().strip("()").upper()
    item = _item(str(number), row["Question"], options, gold, (("kind", "all"),), "choice")
    return Question(item, _with_options(item.question, item), {"pair": str((number - 1) // 2)})


def vstar(row: Row, index: int) -> Question:
    text = _DIRECT.sub("", row["text"].strip())
    item = _item(
        str(row["question_id"]),
        text,
        _options(text) or _letters(4),
        row["label"],
        (("category", row["category"]),),
        "choice",
    )
    return Question(item, text, {})


def hallusionbench(row: Row, index: int) -> Question:
    where = "_".join(str(row[name]) for name in ("category", "subcategory", "set_id"))
    item = _item(
        f"{where}_{row['figure_id']}_{row['question_id']}",
        row["question"],
        {"A": "Yes", "B": "No"},
        {"1": "A", "0": "B"}[str(row["gt_answer"])],
        (("subcategory", row["subcategory"]), ("category", row["category"])),
        "choice",
    )
    return Question(
        item,
        _with_options(item.question, item),
        {"figure": f"{where}_{row['figure_id']}", "question": f"{where}_{row['question_id']}"},
    )


def visulogic(row: Row, index: int) -> Question:
    item = _item(
        str(row.get("id", index)),
        row["question"],
        _letters(4),
        row["label"],
        (("tag", str(row.get("tag", "?"))),),
        "choice",
    )
    return Question(item, item.question, {})


def mmmu(row: Row, index: int) -> Question:
    text = _IMAGE_MARK.sub(r"(image \1)", row["question"])
    options = _lettered(ast.literal_eval(row["options"])) if row["question_type"] == "multiple-choice" else {}
    gold = str(row["answer"])
    if not options and gold.startswith("["):
        gold = str(ast.literal_eval(gold)[0])  # several ways to write one answer
    subject = re.sub(r"^[a-z]+_|_\d+$", "", row["id"])
    item = _item(row["id"], text, options, gold, (("subject", subject),), "choice" if options else None)
    return Question(item, _with_options(text, item), {})


READERS: dict[str, Callable[[Row, int], Question]] = {
    one.__name__: one
    for one in (
        mathvista, mathverse, mathvision, logicvista, wemath, dynamath, mmstar, realworldqa, blink, cv_bench, mmvp, vstar, hallusionbench,
        visulogic, mmmu,
    )
}  # fmt: skip


def _item(
    key: str,
    question: str,
    options: Mapping[str, str],
    gold: str,
    group: tuple[tuple[str, str], ...],
    kind: str | None,
    decimals: int | None = None,
) -> Item:
    """A choice (kind "choice"), or a free answer whose kind is that of its gold: whole number, number,
    words."""
    gold = gold.strip()
    if kind == "choice":
        label = gold.upper()
        if label and label not in options:
            raise ValueError(f"its answer {gold!r} is none of {', '.join(options)}")
        known = any(options.values())
        return Item(
            key,
            question,
            tuple(options.values()) if known else (),
            tuple(options),
            (label,) if label else (),
            "choice",
            group=group,
        )
    free = "integer" if re.fullmatch(r"-?\d+", gold) else "float" if _is_number(gold) else "text"
    if decimals is not None and free == "integer":
        free = "float"  # the suite compares numbers, whole or not, to so many decimals
    precision = decimals if free == "float" else None
    return Item(key, question, (), (), (gold,) if gold else (), free, precision, group=group)


def _is_number(text: str) -> bool:
    try:
        return Decimal(text).is_finite()
    except InvalidOperation:
        return False


def _letters(count: int) -> dict[str, str]:
    """Labels of options that stand in the picture."""
    return dict.fromkeys(LETTERS[:count], "")


def _lettered(texts: Sequence[str]) -> dict[str, str]:
    return dict(zip((chr(ord("A") + i) for i in range(len(texts))), map(str, texts), strict=True))


def _options(text: str) -> dict[str, str]:
    """Options listed in a text as "A. …", "A: …" or "(A) …": the last list that runs on from A; fewer than
    two are none."""
    marks = list(_MARK.finditer(text))
    for start in reversed([i for i, mark in enumerate(marks) if mark[1] == "A"]):
        run = [marks[start]]
        for mark in marks[start + 1 :]:
            if mark[1] == chr(ord("A") + len(run)):
                run.append(mark)
        if len(run) > 1:
            ends = [mark.start() for mark in run[1:]] + [len(text)]
            return {
                mark[1]: text[mark.end() : end].strip(" \n;,") for mark, end in zip(run, ends, strict=True)
            }
    return {}


def _with_options(question: str, item: Item) -> str:
    listed = (
        [f"{label}. {choice}" for label, choice in zip(item.labels, item.options, strict=True)]
        if item.options
        else []
    )
    return "\n".join([question, *listed])


def _unmarked(text: str) -> str:
    return _IMAGE_MARK.sub("", text).strip()
