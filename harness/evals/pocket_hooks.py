"""The functions lmms-eval calls for our tasks: a question as chat messages, and the score of its answers.

Answers are scored from their full text by `vzero.prompts.parse_answer`, which alone decides what stands
before and after `</think>`: no lmms-eval filter strips anything, and no `reasoning_tags` are set.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from PIL import Image

from vzero.prompts import parse_answer, solver_messages
from vzero.voting import tally

Document = Mapping[str, Any]  # a row of our datasets: image, question, gold, family, item_id


def doc_to_visual(doc: Document) -> list[Image.Image]:
    """The picture, as RGB."""
    return [doc["image"].convert("RGB")]


def doc_to_text(doc: Document, lmms_eval_specific_kwargs: Mapping[str, Any] | None = None) -> str:
    """The bare question; lmms-eval asks for it although chat models are shown `doc_to_messages`."""
    return doc["question"]


def doc_to_messages(doc: Document, lmms_eval_specific_kwargs: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The Solver's prompt in lmms-eval's chat form, the image before the text of the first user turn."""
    images = doc_to_visual(doc)
    turns = []
    for message in solver_messages(lmms_eval_specific_kwargs["prompt_format"], doc["question"]):
        content: list[dict[str, Any]] = []
        if message.role == "user" and images:
            content.append({"type": "image", "url": images.pop()})
        content.append({"type": "text", "text": message.text})
        turns.append({"role": message.role, "content": content})
    return turns


def score_greedy(doc: Document, results: Sequence[str]) -> dict[str, float]:
    """One answer: right or wrong, parsed or not."""
    answer = parse_answer(results[0])
    return {"greedy": float(answer == doc["gold"]), "parsed": float(answer is not None)}


def score_sampled(doc: Document, results: Sequence[str]) -> dict[str, float]:
    """All n answers of one item: share of right ones, whether their majority is right, whether any is, share
    of parsed ones."""
    answers = [parse_answer(text) for text in results]
    right = [answer == doc["gold"] for answer in answers]
    return {
        "sampled": sum(right) / len(right),
        "majority": float(tally(answers).answer == doc["gold"]),
        "any_correct": float(any(right)),
        "parsed": sum(answer is not None for answer in answers) / len(answers),
    }
