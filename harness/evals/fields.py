"""A row of a benchmark as a question to ask and an item to score: one function a suite, named in its record.

Rows have the columns of the dataset on the hub, which are also those that lmms-eval's own tasks read.
Sentences that ask for a bare letter are left out of the text, since the prompt says how to answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from harness.evals import columns
from harness.evals.catalogue import Suite
from harness.evals.columns import Row, is_number
from harness.evals.options import listed, lower_listed, written_out
from harness.evals.set_aside import UnusableRow, printable
from harness.scoring import DIGITS, LETTERS, Item
from harness.scoring.items import Kind

_DIRECT = re.compile(
    r"\s*(?:Please answer directly with (?:only the letter of the correct option and nothing else"
    r"|a single word or number)\.?"
    r"|Answer with the option's letter from the given choices directly\.?)\s*$"
)
_IMAGE_MARK = re.compile(r"<image ?(\d*)>")
# "Select from A, B and C", "(A-D)", "A to F", "(A) True (B) False": the question itself says that its labels
# are letters.
_OFFERS_LETTERS = re.compile(r"\bA ?(?:-|to|,) ?[B-I]\b|\bA\)|\(A\)")
_MATHVISTA_GROUPS = ("task", "category", "context", "grade", "source", "language")
_MATHVISTA_KINDS = ("integer", "float", "list", "text")


@dataclass(frozen=True)
class SuiteQuestion:
    """What one row asks.

    Attributes:
        item: for scoring.
        text: the question as shown, its options included.
        together: set name -> which of these sets the item belongs to (see `Suite.together`).
        row: the row itself without its pictures.
    """

    item: Item
    text: str
    together: Mapping[str, str] = field(default_factory=dict)
    row: Row = field(default_factory=dict)


def read(suite: Suite, row: Row, index: int) -> SuiteQuestion:
    """The question in row `index` (counted over the part) of `suite`.

    Raises:
        UnusableRow: the row lacks a field, has one of another shape, or a gold answer that is no option.
    """
    try:
        found = READERS[suite.fields](row, columns.key(row, suite.id, suite.id_separator, index))
    except KeyError as error:
        raise UnusableRow(f"it has no field {error}") from None
    except (TypeError, ValueError, AttributeError, IndexError) as error:  # it has another shape
        raise UnusableRow(error) from None
    item = found.item
    wrong = [gold for gold in item.gold if not is_number(gold)]
    if item.kind in ("integer", "float") and wrong:
        raise UnusableRow(f"its answer {wrong[0][:40]!r} is no number")
    group = tuple((name, columns.group(value)) for name, value in item.group)
    plain = {column: row[column] for column in row if column not in suite.images}
    return replace(found, item=replace(item, group=group), row=plain)


def name(suite: Suite, row: Row, index: int) -> str:
    """What a row is called where it cannot be read."""
    try:
        return printable(columns.key(row, suite.id, suite.id_separator, index))
    except ValueError:
        return f"row {index + 1}"


def pocket(row: Row, key: str) -> SuiteQuestion:
    found = _choice(key, row["question"], _letters(4), columns.gold(row, "gold"), {"family": row["family"]})
    if not found.item.gold:
        raise ValueError("it has no gold answer")
    return found


def mathvista(row: Row, key: str) -> SuiteQuestion:
    about, gold = row["metadata"], columns.gold(row, "answer")
    group = [("skill", one) for one in columns.several(about, "skills")]
    group += [(name, about[name]) for name in _MATHVISTA_GROUPS if name in about]
    options = columns.options(row, "choices")
    right: tuple[str, ...] = (gold,) if gold else ()
    kind: Kind = "choice" if row["question_type"] == "multi_choice" else row["answer_type"]
    if row["answer_type"] not in _MATHVISTA_KINDS:
        raise ValueError(f"its answer_type is {row['answer_type']!r}")
    if kind == "choice" and gold:
        right = tuple(label for label, text in options.items() if text.strip() == gold)
        if not right:
            raise ValueError("its answer is none of its choices")
    item = Item(
        id=key,
        question=columns.text(row, "question"),
        options=tuple(options.values()),
        labels=tuple(options),
        gold=right,
        kind=kind,
        precision=columns.whole(row, "precision"),
        unit=columns.text(row, "unit") if row["unit"] else None,
        group=tuple(group),
    )
    unit = f" (Unit: {item.unit})" if item.unit else ""
    return SuiteQuestion(item, _with_options(item.question + unit, item))


def logicvista(row: Row, key: str) -> SuiteQuestion:
    """Most options stand in the images alone; `options` holds those that the question writes out.

    Gold labels are letters A to I and, once, a digit: digits are labels where the question does not offer
    letters. Three items have two right labels, so every item may be answered with several. Row v1_382 has
    neither question nor gold.
    """
    gold = columns.gold(row, "answer")
    text = columns.text(row, "question") if gold else row["question"] or ""
    capability = "broad_capability" if "broad_capability" in row else "capability"
    group = [("skill", one) for one in columns.several(row, "skill")]
    group += [("capability", one) for one in columns.several(row, capability)]
    labels = LETTERS if _OFFERS_LETTERS.search(text) else LETTERS + DIGITS
    item = Item(
        id=key,
        question=text,
        options=written_out(text),
        labels=labels,
        gold=columns.labels(gold, dict.fromkeys(labels, ""))[0] if gold else (),
        kind="multi",
        group=tuple(group),
    )
    return SuiteQuestion(item, text)


def mathverse(row: Row, key: str) -> SuiteQuestion:
    if row["problem_version"] == "Vision Only":  # the picture alone holds question and options
        text = (row["question"] or "").strip() or "Answer the question that is written in the picture."
    else:
        text = columns.text(row, "question").strip()
    group = {"version": row["problem_version"], "subject": (row.get("metadata") or {}).get("subject")}
    if row["question_type"] != "multi-choice":
        return _free(key, text, (columns.gold(row, "answer"),), group)
    # In the authors' own file the question holds what `question_for_eval` holds on the hub.
    options = listed(row.get("question_for_eval") or text) or _letters(4)
    return _choice(key, text, options, columns.gold(row, "answer"), group)


def mathvision(row: Row, key: str) -> SuiteQuestion:
    text, options = _unmarked(columns.text(row, "question")), columns.options(row, "options")
    group = {name: row.get(name) for name in ("subject", "level")}
    found = _either(key, text, options, columns.gold(row, "answer"), group)
    return replace(found, text=_with_options(text, found.item))


def wemath(row: Row, key: str) -> SuiteQuestion:
    text = f"{columns.text(row, 'question')}\n{columns.text(row, 'option')}"
    group = {"steps": row["key"], "concept": row.get("knowledge concept")}
    found = _choice(key, text, listed(row["option"]), columns.gold(row, "answer"), group)
    return replace(found, together={"problem": str(row["ID"])})


def dynamath(row: Row, key: str) -> SuiteQuestion:
    text, gold = columns.text(row, "question"), columns.gold(row, "ground_truth")
    kind, group = row.get("answer_type"), {"subject": row.get("subject")}
    if kind == "multiple choice" or (kind is None and len(gold) == 1 and gold.isalpha()):
        found = _choice(key, text, listed(text) or _letters(4), gold, group)
    else:
        found = _free(key, text, (gold,), group, decimals=3)
    if kind == "float" and found.item.kind == "text" and gold:
        raise ValueError(f"its answer {gold[:40]!r} is no number")
    return replace(found, together={"worst case": str(row["id"])})


def mmstar(row: Row, key: str) -> SuiteQuestion:
    text, group = columns.text(row, "question"), {name: row[name] for name in ("category", "l2_category")}
    return _choice(key, text, listed(text) or _letters(4), columns.gold(row, "answer"), group)


def realworldqa(row: Row, key: str) -> SuiteQuestion:
    text, gold = _DIRECT.sub("", columns.text(row, "question").strip()), columns.gold(row, "answer")
    options = listed(text) if len(gold) == 1 and gold.upper() in "ABCDEF" else {}
    return _either(key, text, options, gold, {"kind": "options" if options else "free"})


def blink(row: Row, key: str) -> SuiteQuestion:
    text, options = columns.text(row, "prompt"), columns.options(row, "choices")
    found = _choice(key, text, options, columns.gold(row, "answer"), {"task": row["sub_task"]})
    return replace(found, text=_unmarked(text))


def cv_bench(row: Row, key: str) -> SuiteQuestion:
    text, options = columns.text(row, "prompt"), columns.options(row, "choices")
    group = {name: row[name] for name in ("task", "source")}
    return _choice(key, text, options, columns.gold(row, "answer"), group)


def mmvp(row: Row, key: str) -> SuiteQuestion:
    options = lower_listed(columns.text(row, "Options"))
    number = int(row["Index"])  # from 1: items 1 and 2 are a pair
    text, gold = columns.text(row, "Question"), columns.gold(row, "Correct Answer")
    item = _choice(key, text, options, gold, {"kind": "all"}).item
    return SuiteQuestion(item, _with_options(item.question, item), {"pair": str((number - 1) // 2)})


def vstar(row: Row, key: str) -> SuiteQuestion:
    text, group = _DIRECT.sub("", columns.text(row, "text").strip()), {"category": row["category"]}
    return _choice(key, text, listed(text) or _letters(4), columns.gold(row, "label"), group)


def hallusionbench(row: Row, key: str) -> SuiteQuestion:
    where = "_".join(str(row[name]) for name in ("category", "subcategory", "set_id"))
    figure, question = f"{where}_{row['figure_id']}", f"{where}_{row['question_id']}"
    yes_or_no = {"1": "A", "0": "B", "": ""}.get(gold := columns.gold(row, "gt_answer"))
    if yes_or_no is None:
        raise ValueError(f"its gt_answer {gold[:40]!r} is neither 0 nor 1")
    group = {name: row[name] for name in ("subcategory", "category")}
    options = {"A": "Yes", "B": "No"}
    item = _choice(key, columns.text(row, "question"), options, yes_or_no, group).item
    return SuiteQuestion(item, _with_options(item.question, item), {"figure": figure, "question": question})


def visulogic(row: Row, key: str) -> SuiteQuestion:
    text, group = columns.text(row, "question"), {"tag": row.get("tag")}
    return _choice(key, text, _letters(4), columns.gold(row, "label"), group)


def mmmu(row: Row, key: str) -> SuiteQuestion:
    text, gold = _numbered(columns.text(row, "question")), columns.gold(row, "answer")
    group = {"subject": re.sub(r"^[a-z]+_|_\d+$", "", key)}
    # Several ways to write one answer, or several options that are right, are stored as a list.
    golds = tuple(columns.literal(gold)) if gold.startswith("[") else (gold,)
    if row["question_type"] != "multiple-choice":
        return _free(key, text, golds, group)
    texts = columns.literal(columns.text(row, "options"))
    options = dict(zip(LETTERS, map(_numbered, texts), strict=False))
    found = [_choice(key, text, options, one, group).item for one in golds]
    item = replace(found[0], gold=tuple(sorted({label for one in found for label in one.gold})))
    return SuiteQuestion(item, _with_options(text, item))


READERS: dict[str, Callable[[Row, str], SuiteQuestion]] = {
    one.__name__: one
    for one in (
        pocket, mathvista, mathverse, mathvision, logicvista, wemath, dynamath, mmstar, realworldqa, blink,
        cv_bench, mmvp, vstar, hallusionbench, visulogic, mmmu,
    )
}  # fmt: skip


def _either(key: str, text: str, options: Mapping[str, str], gold: str, group: Row) -> SuiteQuestion:
    return _choice(key, text, options, gold, group) if options else _free(key, text, (gold,), group)


def _choice(key: str, text: str, options: Mapping[str, str], gold: str, group: Row) -> SuiteQuestion:
    """A question with some of `options` as its answer: label -> text, empty where it stands in the
    picture."""
    right, several = columns.labels(gold, options) if gold else ((), False)
    texts = tuple(options.values()) if any(options.values()) else ()
    kind: Kind = "multi" if several else "choice"
    item = Item(key, text, texts, tuple(options), right, kind, group=tuple(group.items()))
    return SuiteQuestion(item, text)


def _free(
    key: str, text: str, golds: Sequence[str], group: Row, decimals: int | None = None
) -> SuiteQuestion:
    """A question whose answer is of its golds' kind: whole number, number, words. With `decimals`, numbers
    may differ by one in the last of so many, whole ones too."""
    right = tuple(gold.strip() for gold in golds if gold.strip())
    whole = all(re.fullmatch(r"-?\d+", gold) for gold in right)
    number = bool(right) and all(map(is_number, right))
    kind: Kind = "integer" if number and whole and decimals is None else "float" if number else "text"
    precision = decimals if kind == "float" else None
    tolerance = None if precision is None else 10.0**-precision
    item = Item(key, text, (), (), right, kind, precision, group=tuple(group.items()), tolerance=tolerance)
    return SuiteQuestion(item, text)


def _unmarked(text: str) -> str:
    return _IMAGE_MARK.sub("", text).strip()


def _numbered(text: str) -> str:
    return _IMAGE_MARK.sub(r"(image \1)", text)


def _with_options(question: str, item: Item) -> str:
    shown = zip(item.labels, item.options, strict=True) if item.options else ()
    return "\n".join([question, *(f"{label}. {text}" for label, text in shown)])


def _letters(count: int) -> dict[str, str]:
    """Labels of options that stand in the picture."""
    return dict.fromkeys(LETTERS[:count], "")
