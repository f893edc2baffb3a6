"""The reasoning prompt of the `boxed` profile: the same for the base and for every trained model.

It follows the Solver's own prompt (`vzero.prompts`), which knows four options only, and says what to put into
the box for other answers.
"""

from __future__ import annotations

import json
from pathlib import Path

from harness.evals.catalogue import Suite
from harness.evals.fields import SuiteQuestion
from harness.scoring import Item
from harness.scoring.items import Kind
from vzero.prompts import solver_messages
from vzero.rollout.protocol import Message
from vzero.runtime.checkpoints import POCKET

_SOLVE = """\
Answer the question below about the image. First gather from the image whatever bears on the question, then \
reason step by step to the answer.
Write your reasoning between <think> and </think>. After </think>, give only {what} inside \
\\boxed{{}}{example}.

Question:
"""


# Follows what the suites' own prompts tell about the form of an answer.
_FORMS: dict[Kind, tuple[str, str]] = {
    "choice": ("the letter of your chosen option", ", for example \\boxed{X} where X is that letter"),
    "multi": (
        "the letter of the right option",
        ", or several letters with commas between them where several options are right",
    ),
    "integer": ("a whole number", ", for example \\boxed{3}"),
    "float": ("a number", ", without its unit"),
    "list": ("a list of numbers", ", for example \\boxed{[1, 2, 3]}"),
    "text": ("the final answer", ", as short as possible"),
}


def boxed(prompt_format: str, suite: Suite, question: SuiteQuestion) -> tuple[Message, ...]:
    """The conversation that asks `question`. The pocket world's vocabulary, and its suites, know the Solver's
    own prompt only.

    Raises:
        InputError: unknown `prompt_format`.
    """
    own = solver_messages(prompt_format, question.text)
    if prompt_format == "pocket" or suite.drawn:
        return own
    what, example = _form(question.item)
    return own[0], Message("user", _SOLVE.format(what=what, example=example) + question.text)


def _form(item: Item) -> tuple[str, str]:
    """What goes into the box, and an example of it."""
    what, example = _FORMS[item.kind]
    if item.kind == "float" and item.precision:
        what += f" with {item.precision} decimal{'' if item.precision == 1 else 's'}"
    return what, example


def prompt_format_of(checkpoint: Path) -> str:
    """The format that a checkpoint can read: "pocket" where it has the pocket world's own vocabulary,
    "natural" otherwise."""
    try:
        theirs, ours = (
            json.loads((folder / "tokenizer.json").read_text("utf-8"))["model"]["vocab"]
            for folder in (checkpoint, POCKET)
        )
        return "pocket" if theirs == ours else "natural"
    except (OSError, ValueError, KeyError, TypeError):
        return "natural"
