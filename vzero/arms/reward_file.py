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
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from itertools import islice
from types import ModuleType
from typing import Any, TypeVar

from vzero.arms.scored import ScoredAnswer, ScoredQuestion
from vzero.errors import InputError, InterruptedRun
from vzero.parsing import OPTIONS
from vzero.rewards import INVALID

QUESTIONER, SOLVER, SELECTION = ("reward", "score"), ("solver_reward",), ("label", "keep")
FILE = "<reward>"  # how tracebacks name the text
_SHOWN = 300  # characters of a question or a result in an error
T = TypeVar("T")
Batch = Sequence[ScoredQuestion | None]


@dataclass(frozen=True)
class RewardFile:
    """The functions of a reward file, each held to what it may give. Every method raises InputError where the
    function is missing, fails or gives something else, be it that the file meets a full disk: it would again.
    An interruption by the user passes.

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
        return self._called("reward", question, lambda paid: _number(paid, question))

    def score(self, batch: Batch) -> list[float]:
        """A reward for each question of a generation batch; None is an invalid one."""
        if "score" not in self.functions:
            return [INVALID if one is None else self.reward(one) for one in batch]

        def read(paid: Any) -> list[float]:
            return [_number(value, one) for value, one in zip(_each(paid, batch), batch, strict=True)]

        return self._called("score", tuple(batch), read)

    def solver_reward(self, answer: ScoredAnswer) -> float:
        """What one of the Solver's completions earns."""
        return self._called("solver_reward", answer, lambda paid: _number(paid, answer))

    def label(self, question: ScoredQuestion) -> str | None:
        """The label to train on, None for a question that is left out."""
        return self._called("label", question, _label)

    def keep(self, batch: Sequence[ScoredQuestion]) -> list[bool]:
        """Whether each question of an iteration is trained on; one without a label never is."""
        return self._called(
            "keep", tuple(batch), lambda found: [_choice(value) for value in _each(found, batch)]
        )

    def _called(self, name: str, given: object, read: Callable[[Any], T]) -> T:
        """What `read` makes of the result; it runs the file's code too (generators, `__float__`)."""
        if name not in self.functions:
            raise InputError(
                f"The reward file defines no function {name}, which the preset asks for; docs/extending.md"
                " has an example."
            )
        try:
            return read(self.functions[name](given))
        except (Exception, SystemExit) as error:
            if _from_outside(error):
                raise
            on = f"a batch of {len(given)} questions" if isinstance(given, tuple) else _shown(given)
            said = str(error) if isinstance(error, _Unfit) else f"failed on {on}: {_where(error)}"
            raise InputError(f"The reward file's {name} {said}.") from error


class _Unfit(Exception):
    """A result that is not what the function may give."""


def _shown(value: object) -> str:
    return repr(value)[:_SHOWN]


def _number(value: Any, one: object) -> float:
    try:
        number = math.nan if isinstance(value, str | bytes) else float(value)
    except Exception as error:
        if _from_outside(error):
            raise
        raise _Unfit(f"paid {_shown(value)} for {_shown(one)}: {_where(error)}") from error
    if not math.isfinite(number):
        raise _Unfit(f"paid {_shown(value)} for {_shown(one)}; a reward is a finite number")
    return number


def _each(values: Any, batch: Batch) -> list[Any]:
    """One value for each question, from anything that has an order."""
    unordered = not isinstance(values, Iterable) or isinstance(values, Mapping | Set | str | bytes)
    found = [] if unordered else list(islice(values, len(batch) + 1))
    if unordered or len(found) != len(batch):
        raise _Unfit(f"gives one value for each of the {len(batch)} questions of a batch, in a list")
    return found


def _label(found: Any) -> str | None:
    if found is not None and found not in OPTIONS:
        raise _Unfit(f'is "A", "B", "C", "D" or None, not {_shown(found)}')
    return None if found is None else str(found)


def _choice(found: Any) -> bool:
    if found not in (True, False):
        raise _Unfit(f"says True or False of each question, not {_shown(found)}")
    return bool(found)


def read_source(source: str) -> RewardFile:
    """The functions of a reward file's text.

    Raises:
        InputError: it does not run, or defines none.
    """
    try:
        docstring = ast.get_docstring(ast.parse(source)) or ""
        space = _run(source)
    except (Exception, SystemExit) as error:
        if _from_outside(error):
            raise
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
    program = compile(source, FILE, "exec", dont_inherit=True)
    exec(program, module.__dict__)  # the user's own, see above
    return module.__dict__


def _from_outside(error: BaseException) -> bool:
    """Whether a signal's handler interrupted the file, and not the file itself."""
    if not isinstance(error, InterruptedRun):
        return False
    *_, frame = traceback.extract_tb(error.__traceback__)
    return frame.filename != FILE


def _where(error: BaseException) -> str:
    """What went wrong, and in which line of the text."""
    frames = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == FILE]
    line = error.lineno if isinstance(error, SyntaxError) else frames[-1] if frames else None
    try:
        message = (error.msg if isinstance(error, SyntaxError) else str(error)) or "no message"
    except Exception:  # its class is the file's own
        message = "no message"
    return f"{type(error).__name__}{f' in line {line}' if line else ''}: {message[:_SHOWN]}"
