"""Rewards of the user's own, of either role, out of a Python file.

The file's text is a setting of the preset (`questioner.reward_source`, `solver.reward_source`): a run records
the very code that paid, and another text is another experiment. It is code and runs with its user's rights,
so such text comes from the command line or an arm that it names; one of a preset's file needs --trust-code.
"""

from __future__ import annotations

import ast
import math
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from vzero.arms.questioner_rewards import REWARDS, QuestionerReward, ScoredQuestion
from vzero.config import OWN, QuestionerConfig
from vzero.errors import InputError
from vzero.grpo.groups import Group, Reward, Scores
from vzero.parsing import parse_answer

QUESTIONER, SOLVER = "reward", "solver_reward"  # the functions a file may define
FILE = "<reward>"  # how tracebacks name the text


@dataclass(frozen=True)
class ScoredAnswer:
    """One of the Solver's completions as it is paid.

    Attributes:
        text: the completion.
        answer: the boxed option, "A" to "D"; None where there is none to read.
        label: the question's pseudo-label; None where the arm has none.
        votes: those behind the label, None for one that could not be read; empty where the arm draws none.
        group: the answers of all completions of this question in the step, this one among them.
    """

    text: str
    answer: str | None
    label: str | None
    votes: tuple[str | None, ...]
    group: tuple[str | None, ...]


def defined(source: str) -> frozenset[str]:
    """Which of the two functions a text defines.

    Raises:
        InputError: it does not run, or defines neither.
    """
    space = _run(source)
    found = frozenset(name for name in (QUESTIONER, SOLVER) if callable(space.get(name)))
    if not found:
        raise InputError(
            f"The reward file defines no function {QUESTIONER}(asked) or {SOLVER}(answered);"
            " docs/extending.md has one to start from."
        )
    return found


def reward_of(settings: QuestionerConfig) -> QuestionerReward:
    """The Questioner's reward that a preset chooses.

    Raises:
        InputError: its own text defines none. The reward itself raises it where the function fails or gives
            what is no finite number.
    """
    source = settings.reward_source
    if source is None:
        return REWARDS[settings.reward]
    return QuestionerReward(OWN, summary(source), "a file of the user's own", _checked(source, QUESTIONER))


def solver_reward(source: str, votes: Mapping[str, Sequence[str | None]]) -> Reward:
    """The Solver's reward in `source`, which raises as that of `reward_of`; `votes` are by prompt key."""
    pay = _checked(source, SOLVER)

    def scored(group: Group) -> list[ScoredAnswer]:
        answers = tuple(parse_answer(one.text) for one in group.completions)
        cast = tuple(votes.get(group.prompt.key, ()))
        return [
            ScoredAnswer(one.text, answer, group.prompt.label, cast, answers)
            for one, answer in zip(group.completions, answers, strict=True)
        ]

    return lambda groups, generation: Scores([[pay(one) for one in scored(group)] for group in groups], {})


def summary(source: str) -> str:
    """What a file says it does: the first line of its docstring.

    Raises:
        InputError: not Python.
    """
    try:
        docstring = ast.get_docstring(ast.parse(source)) or ""
    except (SyntaxError, ValueError) as error:
        raise InputError(f"The reward file does not run: {_where(error)}.") from error
    return (
        "".join(filter(str.isprintable, docstring.split("\n")[0])).strip() or "a reward without a docstring"
    )


def _run(source: str) -> dict[str, Any]:
    module = ModuleType("own_reward")
    sys.modules[module.__name__] = module  # where a dataclass looks up what its annotations name
    try:
        exec(compile(source, FILE, "exec"), module.__dict__)  # the user's own program, see above
    except (Exception, SystemExit) as error:
        raise InputError(f"The reward file does not run: {_where(error)}.") from error
    return module.__dict__


def _checked(source: str, name: str) -> Callable[[ScoredQuestion | ScoredAnswer], float]:
    """The function `name` of `source`, held to a finite number."""
    function = _run(source).get(name)
    if not callable(function):
        raise InputError(
            f"The reward file defines no function {name}, which the preset pays by; docs/extending.md has an"
            " example."
        )

    def pay(given: ScoredQuestion | ScoredAnswer) -> float:
        try:
            value = float(function(given))
        except (Exception, SystemExit) as error:
            raise InputError(f"The reward file failed on {given!r}: {_where(error)}.") from error
        if not math.isfinite(value):
            raise InputError(f"The reward file paid {value} for {given!r}; a reward is a finite number.")
        return value

    return pay


def _where(error: BaseException) -> str:
    """What went wrong, and in which line of the text."""
    frames = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == FILE]
    line = error.lineno if isinstance(error, SyntaxError) else frames[-1] if frames else None
    message = (error.msg if isinstance(error, SyntaxError) else str(error)) or "no message"
    return f"{type(error).__name__}{f' in line {line}' if line else ''}: {message}"
