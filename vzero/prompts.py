"""What each role is asked, and (from `vzero.parsing`) how its reply is read.

Two formats of prompts: "natural" for instruction-tuned models on any images, "pocket" for the pocket world's
vocabulary of words. The request's image stands before the text of the user turn (`vzero.rollout.protocol`).
"""

from __future__ import annotations

from collections.abc import Callable

from vzero.errors import InputError
from vzero.parsing import OPTIONS, Question, has_control_tokens, parse_answer, parse_question
from vzero.rollout.protocol import Message

__all__ = [
    "FORMATS",
    "OPTIONS",
    "Question",
    "has_control_tokens",
    "parse_answer",
    "parse_question",
    "questioner_messages",
    "solver_messages",
]

FORMATS = ("pocket", "natural")

# A backslash at a line's end joins it with the next: the models see each paragraph as one line.
_DESIGNER = (
    "You are a professional question designer. You turn pictures into clear, demanding multiple-choice"
    " questions."
)
_DESIGN = """\
Study the image closely: objects, text, numbers, shapes, colours, positions and how they relate. Then design \
one multiple-choice question about it.

What the question must be:
- Self-contained. State every condition a reader needs besides the image itself, and refer to nothing that \
is not visible or stated.
- Worth thinking about. Answering it takes several steps of reasoning on what the image shows, not a single \
glance.
- Closed. It ends with exactly four different options, marked A) B) C) D), and precisely one of them is right.

Finally, give your intuitive answer: the option that comes to mind at once, without thinking the question \
through.

Reply with these three parts in this order and with nothing else:
<description>what you see in the image, in detail</description>
<question>the question with its conditions
A) first option
B) second option
C) third option
D) fourth option</question>
<answer>one capital letter: A, B, C or D</answer>"""

_EXPERT = (
    "You are an expert problem solver. You look carefully, reason step by step and commit to one answer."
)
_SOLVE = """\
Answer the multiple-choice question below about the image. First gather from the image whatever bears on \
the question, then reason step by step to the right option.
Write your reasoning between <think> and </think>. After </think>, give only the letter of your chosen \
option inside \\boxed{}, for example \\boxed{X} where X is one of A, B, C and D.

Question:
"""


def questioner_messages(prompt_format: str) -> tuple[Message, ...]:
    """The conversation that asks for one question about the request's image.

    Raises:
        InputError: unknown `prompt_format`.
    """
    if _is_pocket(prompt_format):
        return Message("system", "ask"), Message("user", "")
    return Message("system", _DESIGNER), Message("user", _DESIGN)


def solver_messages(prompt_format: str, question: str) -> tuple[Message, ...]:
    """The conversation that asks `question` (its options included) about the request's image.

    The question comes last and verbatim, so that all questions share one prompt prefix and none is altered on
    the way.

    Raises:
        InputError: unknown `prompt_format`.
    """
    if _is_pocket(prompt_format):
        return Message("system", "solve"), Message("user", question)
    return Message("system", _EXPERT), Message("user", _SOLVE + question)


def _is_pocket(prompt_format: str) -> bool:
    if prompt_format not in FORMATS:
        raise InputError(f"There is no prompt_format {prompt_format!r}; choose one of {', '.join(FORMATS)}.")
    return prompt_format == "pocket"


def read_question(
    text: str, finish_reason: str, prompt_format: str, breaks_prompt: Callable[[str], bool] | None = None
) -> Question | None:
    """The question in one completion; None if truncated, unparsed or breaking the Solver's prompt.

    Args:
        breaks_prompt: what the Solver's tokenizer says to it (`Vocabulary.breaks_prompt`). Without one the
            forms that known families use are looked for, which suffices where its answer is on record.
    """
    question = parse_question(text) if finish_reason == "stop" else None
    if question is None or has_control_tokens(question.text, prompt_format):
        return None
    return None if breaks_prompt is not None and breaks_prompt(question.text) else question
