"""The reasoning prompt of the `boxed` profile: the same for the base and for every trained model.

It follows the Solver's own prompt (`vzero.prompts`), which knows four options only, and says what to put into
the box for other answers.
"""

from __future__ import annotations

from harness.scoring import Item
from vzero.prompts import solver_messages
from vzero.rollout.protocol import Message

_EXPERT = (
    "You are an expert problem solver. You look carefully, reason step by step and commit to one answer."
)
_SOLVE = """\
Answer the question below about the image. First gather from the image whatever bears on the question, then reason step by step to the \
answer.
Write your reasoning between <think> and </think>. After </think>, give only {what} inside \\boxed{{}}{example}.

Question:
"""


def boxed(prompt_format: str, item: Item, text: str) -> tuple[Message, ...]:
    """The conversation that asks `text` (options included) about the picture.

    Raises:
        InputError: unknown `prompt_format`.
    """
    if prompt_format == "pocket":
        return solver_messages(prompt_format, text)
    solver_messages(prompt_format, "")  # refuses an unknown prompt_format
    what, example = _form(item)
    return Message("system", _EXPERT), Message("user", _SOLVE.format(what=what, example=example) + text)


def _form(item: Item) -> tuple[str, str]:
    """What goes into the box, and an example of it. Follows what the suites' own prompts tell about the form
    of an answer."""
    match item.kind:
        case "choice":
            return "the letter of your chosen option", ", for example \\boxed{X} where X is that letter"
        case "multi":
            return (
                "the letter of the right option",
                ", or several letters with commas between them where several options are right",
            )
        case "integer":
            return "a whole number", ", for example \\boxed{3}"
        case "float":
            decimals = (
                f" with {item.precision} decimal{'s' * (item.precision != 1)}" if item.precision else ""
            )
            return f"a number{decimals}", ", without its unit"
        case "list":
            return "a list of numbers", ", for example \\boxed{[1, 2, 3]}"
        case _:
            return "the final answer", ", as short as possible"
