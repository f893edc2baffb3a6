"""A Questioner's reward of the user's own, out of a Python file.

The file's text is a setting of the preset (`questioner.reward_source`): a run records the very code that paid its Questioner, another text
is another experiment, and no stage depends on a file that may have changed since. It is code and runs with its user's rights; nothing here
takes such text from anywhere but the command line, a preset or an arm that the user named.
"""

from __future__ import annotations

import ast
import math
import traceback
from collections.abc import Callable
from typing import Any

from vzero.arms.questioner_rewards import REWARDS, Asked, QuestionerReward
from vzero.config import OWN, QuestionerConfig
from vzero.errors import InputError

FUNCTION = "reward"
FILE = "<reward>"  # how tracebacks name the text


def reward_of(settings: QuestionerConfig) -> QuestionerReward:
    """The reward a preset chooses.

    Raises:
        InputError: its own text is not a reward; see `compiled`.
    """
    return compiled(settings.reward_source) if settings.reward_source is not None else REWARDS[settings.reward]


def compiled(source: str) -> QuestionerReward:
    """The reward in `source`: Python that defines `reward(asked)`, from an `Asked` to a number, for one valid question.

    Raises:
        InputError: the text does not run, or defines no such function. The reward itself raises it, too, when the function fails or gives
            what is no finite number.
    """
    space: dict[str, Any] = {"__name__": "own_reward"}
    try:
        exec(compile(source, FILE, "exec"), space)  # the user's own program, see above
    except Exception as error:
        raise InputError(f"The reward file does not run: {_where(error)}.") from error
    function = space.get(FUNCTION)
    if not callable(function):
        raise InputError(f"The reward file defines no function {FUNCTION}(asked); docs/extending.md has one to start from.")
    return QuestionerReward(OWN, summary(source), "a file of the user's own", _checked(function))


def summary(source: str) -> str:
    """What a file says it does: the first line of its docstring.

    Raises:
        InputError: not Python.
    """
    try:
        said = ast.get_docstring(ast.parse(source)) or ""
    except (SyntaxError, ValueError) as error:
        raise InputError(f"The reward file does not run: {_where(error)}.") from error
    return said.split("\n")[0].strip() or "a reward without a docstring"


def _checked(function: Callable[[Asked], Any]) -> Callable[[Asked], float]:
    def pay(asked: Asked) -> float:
        try:
            value = float(function(asked))
        except Exception as error:
            raise InputError(f"The reward file failed on {asked!r}: {_where(error)}.") from error
        if not math.isfinite(value):
            raise InputError(f"The reward file paid {value} for {asked!r}; a reward is a finite number.")
        return value

    return pay


def _where(error: BaseException) -> str:
    """What went wrong, and in which line of the text."""
    frames = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == FILE]
    line = error.lineno if isinstance(error, SyntaxError) else frames[-1] if frames else None
    said = (error.msg if isinstance(error, SyntaxError) else str(error)) or "no message"
    return f"{type(error).__name__}{f' in line {line}' if line else ''}: {said}"
