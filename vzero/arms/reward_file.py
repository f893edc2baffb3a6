"""Reward files: Python that says what questions and answers are paid, and which questions train the Solver.

    reward(question)       what a valid question earns by itself, a number
    score(batch)           what the questions of a whole generation batch earn; None is an invalid one
    solver_reward(answer)  what one of the Solver's completions earns
    label(question)        what the Solver is trained on: "A" to "D", or None to leave the question out
    keep(batch)            which questions of an iteration it is trained on: True or False for each

A file defines at least one. Without `score` each question is paid by itself and an invalid one -1; with both
`score` pays, and `reward` is what the audit can play. The file's text is a setting of the preset: a run
records the very code that paid, and another text is another experiment. It is code and runs with its user's
rights, so such text comes from the command line or an arm that it names; one of a preset's file needs
--trust-code. The rewards of other methods are such files too (vzero/arms/methods).
"""

from __future__ import annotations

import ast
import hashlib
import math
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from types import ModuleType
from typing import Any

from vzero.arms.scored import ScoredAnswer, ScoredQuestion
from vzero.errors import InputError
from vzero.parsing import OPTIONS
from vzero.rewards import INVALID

QUESTIONER, SOLVER, SELECTION = ("reward", "score"), ("solver_reward",), ("label", "keep")
FILE = "<reward>"  # how tracebacks name the text
Batch = Sequence[ScoredQuestion | None]


@dataclass(frozen=True)
class RewardFile:
    """The functions of a reward file, each held to what it may give. Every method raises InputError where the
    function is missing, fails or gives something else.

    Attributes:
        summary: what it says it does, in one line.
        functions: by name, those of the module's docstring that it defines.
    """

    summary: str
    functions: Mapping[str, Callable[[Any], Any]]

    def reward(self, question: ScoredQuestion) -> float:
        """What a valid question earns by itself; in a file that has `score` alone, as a batch of one."""
        if "reward" not in self.functions and "score" in self.functions:
            return self.score([question])[0]
        return _number(self._called("reward", question, repr(question)), repr(question))

    def score(self, batch: Batch) -> list[float]:
        """A reward for each question of a generation batch; None is an invalid one."""
        if "score" not in self.functions:
            return [INVALID if one is None else self.reward(one) for one in batch]
        return [_number(value, repr(one)) for value, one in self._each("score", batch)]

    def solver_reward(self, answer: ScoredAnswer) -> float:
        """What one of the Solver's completions earns."""
        return _number(self._called("solver_reward", answer, repr(answer)), repr(answer))

    def label(self, question: ScoredQuestion) -> str | None:
        """The label to train on, None for a question that is left out."""
        found = self._called("label", question, repr(question))
        if found is not None and found not in OPTIONS:
            raise InputError(f'The reward file\'s label is "A", "B", "C", "D" or None, not {found!r}.')
        return None if found is None else str(found)

    def keep(self, batch: Sequence[ScoredQuestion]) -> list[bool]:
        """Whether each question of an iteration is trained on; one without a label never is."""
        found = [value for value, _ in self._each("keep", batch)]
        if odd := [value for value in found if value not in (True, False)]:
            raise InputError(f"The reward file's keep says True or False of each question, not {odd[0]!r}.")
        return [bool(value) for value in found]

    def _each(self, name: str, batch: Batch) -> list[tuple[Any, ScoredQuestion | None]]:
        values = self._called(name, tuple(batch), f"a batch of {len(batch)} questions")
        try:
            return list(zip(values, batch, strict=True))
        except (TypeError, ValueError):
            raise InputError(
                f"The reward file's {name} gives one value for each of the {len(batch)} questions of a batch,"
                " in a list."
            ) from None

    def _called(self, name: str, given: object, shown: str) -> Any:
        if name not in self.functions:
            raise InputError(
                f"The reward file defines no function {name}, which the preset asks for; docs/extending.md"
                " has an example."
            )
        try:
            return self.functions[name](given)
        except (Exception, SystemExit) as error:
            raise InputError(f"The reward file's {name} failed on {shown}: {_where(error)}.") from error


def _number(value: Any, shown: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(f"The reward file paid {value!r} for {shown}: {_where(error)}.") from error
    if not math.isfinite(number):
        raise InputError(f"The reward file paid {number} for {shown}; a reward is a finite number.")
    return number


def read_source(source: str) -> RewardFile:
    """The functions of a reward file's text.

    Raises:
        InputError: it does not run, or defines none.
    """
    try:
        docstring = ast.get_docstring(ast.parse(source)) or ""
        space = _run(source)
    except (Exception, SystemExit) as error:
        raise InputError(f"The reward file does not run: {_where(error)}.") from error
    names = (*QUESTIONER, *SOLVER, *SELECTION)
    found = {name: function for name in names if callable(function := space.get(name))}
    if not found:
        raise InputError(
            f"The reward file defines no function {', '.join(names[:-1])} or {names[-1]};"
            " `vzero-harness new-arm NAME` writes one to start from."
        )
    summary = "".join(filter(str.isprintable, docstring.split("\n")[0])).strip()
    return RewardFile(summary or "a reward without a docstring", found)


@lru_cache
def shipped(name: str) -> RewardFile:
    """The reward file of another method, out of vzero/arms/methods."""
    return read_source((resources.files("vzero.arms.methods") / f"{name}.py").read_text(encoding="utf-8"))


def _run(source: str) -> dict[str, Any]:
    module = ModuleType(f"reward_file_{hashlib.sha256(source.encode()).hexdigest()[:12]}")
    sys.modules[module.__name__] = module  # where a dataclass looks up what its annotations name
    exec(compile(source, FILE, "exec"), module.__dict__)  # the user's own program, see above
    return module.__dict__


def _where(error: BaseException) -> str:
    """What went wrong, and in which line of the text."""
    frames = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == FILE]
    line = error.lineno if isinstance(error, SyntaxError) else frames[-1] if frames else None
    message = (error.msg if isinstance(error, SyntaxError) else str(error)) or "no message"
    return f"{type(error).__name__}{f' in line {line}' if line else ''}: {message}"
