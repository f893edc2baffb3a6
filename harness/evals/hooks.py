"""What lmms-eval calls for our tasks. Pictures in a document are decoded already, by the model.

`process_results` is not told which task it serves, so there is one of it for each suite: `process_logicvista`
and so on, made by name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from harness.evals import fields, lenses, prompts
from harness.evals.catalogue import Suite, suites

Document = Mapping[str, Any]  # a row of the dataset, its pictures decoded


def doc_to_visual(doc: Document) -> list[Any]:
    """The document's pictures. lmms-eval wants the function; chat models are shown `doc_to_messages`."""
    return [value for value in doc.values() if hasattr(value, "convert")]


def doc_to_text(doc: Document, lmms_eval_specific_kwargs: Mapping[str, str]) -> str:
    """The bare question."""
    return fields.read(suites()[lmms_eval_specific_kwargs["suite"]], doc, 0).text


def doc_to_messages(doc: Document, lmms_eval_specific_kwargs: Mapping[str, str]) -> list[dict[str, Any]]:
    """The boxed prompt in lmms-eval's chat form, the pictures before the text of the user turn."""
    suite = suites()[lmms_eval_specific_kwargs["suite"]]
    question = fields.read(suite, doc, 0)
    turns = []
    for message in prompts.boxed(lmms_eval_specific_kwargs["prompt_format"], suite, question):
        shown = [
            {"type": "image", "url": doc[column]}
            for column in suite.images
            if message.role == "user" and doc.get(column) is not None
        ]
        turns.append({"role": message.role, "content": [*shown, {"type": "text", "text": message.text}]})
    return turns


def __getattr__(name: str) -> Callable[..., Any]:
    kind, _, suite = name.partition("_")
    if kind in ("process", "target") and suite in suites():
        return partial(process_results if kind == "process" else doc_to_target, suites()[suite])
    raise AttributeError(name)


def doc_to_target(suite: Suite, doc: Document) -> str:
    """The gold answer as text, for lmms-eval's logs."""
    return ", ".join(fields.read(suite, doc, 0).item.gold)


def process_results(suite: Suite, doc: Document, results: Sequence[str]) -> dict[str, float]:
    """The metrics of one item's answers; nothing for a row without gold, which is then in no mean."""
    item = fields.read(suite, doc, 0).item
    if not item.gold:
        return {}
    reasons = [getattr(text, "finish_reason", None) for text in results]  # see `asking.Said`
    judged = [lenses.judge(suite, item, *one) for one in zip(results, reasons, strict=True)]
    return lenses.metrics(judged)
