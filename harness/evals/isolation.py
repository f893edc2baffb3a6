"""What keeps lmms-eval's scoring to itself, in the process that runs it: light stand-ins for what it imports,
no network but the judge's, no Python out of answers, a time limit."""

from __future__ import annotations

import ast
import functools
import importlib
import ipaddress
import math
import operator
import os
import signal
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from harness.evals.official_job import Judge
from harness.scoring.endpoint import SECONDS, TOKEN, ExtractorFailed, chat

JUDGE_SECONDS = SECONDS + 3  # of all its attempts at one request
# Packages whose `__init__` imports torch and models, of which scoring needs nothing.
_HOLLOW = ("lmms_eval", *(f"lmms_eval.{name}" for name in ("api", "filters", "models", "tasks")))
_OPERATORS: Mapping[type, Callable[..., float]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.Pow: math.pow, ast.USub: operator.neg, ast.UAdd: operator.pos,
}  # fmt: skip


class Overdue(BaseException):
    """A row took too long. No `Exception`: that code catches those and calls the answer wrong."""


class JudgeFailed(BaseException):
    """The judge could not be asked; for the same reason no `Exception`."""


def reason(error: BaseException) -> str:
    """An exception in one line."""
    return f"{type(error).__name__}: {error}".splitlines()[0][:200].removesuffix(": ")


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Ends what runs inside by `Overdue`."""
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def _overdue(signum: int, frame: object) -> None:
    raise Overdue("it takes too long")


# What that code imports, replaced before it does.


def prepare(asks: bool) -> None:
    """Put the stand-ins in place, once, before any of lmms-eval is imported; `asks`: some job has a judge."""
    root = str(metadata.distribution("lmms-eval").locate_file("lmms_eval"))
    for name in _HOLLOW:
        path = Path(root, *name.split(".")[1:])
        _module(name, __path__=[str(path)])
    _module("datasets", Dataset=object)  # an annotation
    _module("huggingface_hub", snapshot_download=lambda **_: ".")  # VisuLogic's pictures
    _module("latex2sympy2", latex2sympy=_latex2sympy)
    if not asks:  # seconds of import, for a client that is made and never asked
        _module("openai", OpenAI=types.SimpleNamespace)
    # lmms-eval's copy of MathVision's rule lost `from math import *`, and evaluates model output as Python.
    importlib.import_module("lmms_eval.tasks.mathvision.eval_utils").__dict__["eval"] = arithmetic
    os.environ |= {"API_TYPE": "openai", "USE_LLM_JUDGE": "False", "OPENAI_API_KEY": "none"}
    signal.signal(signal.SIGALRM, _overdue)


def _module(name: str, **attributes: object) -> None:
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__dict__.update(attributes)


@functools.lru_cache(maxsize=1 << 16)
def _latex2sympy(text: str) -> object:
    """latex2sympy2, which does not import beside the antlr of the lock, by its maintained successor."""
    from latex2sympy2_extended import latex2sympy

    return latex2sympy(text.replace("$", ""), normalization_config=None)


def arithmetic(text: str) -> float:
    """The value of an arithmetic expression with the names of `math`.

    Raises:
        ValueError, SyntaxError, ArithmeticError, TypeError: it is anything else, or has none.
    """
    return _value(ast.parse(text, mode="eval").body)


def _value(node: ast.AST) -> float:
    match node:
        case ast.Constant(value=int() | float() as number):
            return number
        case ast.Name(id=name) if isinstance(value := getattr(math, name, None), float):
            return value
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_value(operand))
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_value(left), _value(right))
        case ast.Call(func=ast.Name(id=name), args=args) if not name.startswith("_") and hasattr(math, name):
            return getattr(math, name)(*map(float, map(_value, args)))
    raise ValueError("not an arithmetic expression")


# Where it may connect to, and what becomes of a judge that does not answer.

_JUDGE: list[Judge] = []  # the one in use


def guard(event: str, args: tuple[Any, ...]) -> None:
    """An audit hook: PermissionError for a process, or for a connection to anything but the judge."""
    if event in ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork"):
        raise PermissionError(f"scoring starts no process ({event})")
    if event != "socket.connect" or not isinstance(args[1], tuple):
        return
    if not _JUDGE or not (_JUDGE[0].remote or ipaddress.ip_address(args[1][0]).is_loopback):
        raise PermissionError(f"scoring connects to no {args[1][0]}")


def use_judge(judge: Judge) -> None:
    """Let whatever asks a judge ask this one, and let none of its failures pass for a wrong answer."""
    import requests
    from openai.resources.chat import Completions

    from vzero.runtime.http_client import Endpoint

    if _JUDGE:
        return
    _JUDGE.append(judge)
    os.environ |= {"OPENAI_API_URL": judge.url, "MODEL_VERSION": judge.model}
    server = Endpoint(judge.url, judge.model, os.environ.get(TOKEN))

    def said(asked: Mapping[str, object]) -> str:
        try:
            return chat(server, asked)
        except ExtractorFailed as error:
            raise JudgeFailed(str(error)) from None

    def create(completions: Completions, **asked: object) -> types.SimpleNamespace:
        message = types.SimpleNamespace(content=said(asked), role="assistant")
        choice = types.SimpleNamespace(message=message, index=0, finish_reason="stop")
        return types.SimpleNamespace(choices=[choice], model=judge.model, usage=None)

    def post(url: str, json: Mapping[str, object], **_: object) -> types.SimpleNamespace:
        """HallusionBench's way of asking, by a name of its own."""
        reply = {"choices": [{"message": {"content": said(json)}}]}
        return types.SimpleNamespace(raise_for_status=lambda: None, json=lambda: reply)

    Completions.create = create  # type: ignore[method-assign, assignment]
    requests.post = post  # type: ignore[assignment]
