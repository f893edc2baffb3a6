"""What lmms-eval's own task would fail at, or keep silent about, refused before anything is asked."""

from __future__ import annotations

import importlib
import os

from harness.evals.catalogue import Suite
from vzero.errors import InputError

TIMEOUT = 10.0  # seconds
MOST = 4_000_000  # bytes of a list of models


def check_stock(suite: Suite) -> None:
    """Whether `--profile stock` can run here.

    Raises:
        InputError: it cannot.
    """
    if suite.stock:
        raise InputError(f"{suite.name} has no --profile stock: {suite.stock}; use --profile boxed.")
    absent = [module for module in suite.needs if not _imports(module)]
    if absent:
        raise InputError(
            f"lmms-eval's own task for {suite.name} needs {', '.join(absent)}, which cannot be imported; "
            "install it, or use --profile boxed."
        )
    if suite.judge:
        check_judge(suite)


def _imports(module: str) -> bool:
    """latex2sympy2 is there and does not import beside another antlr."""
    try:
        importlib.import_module(module)
    except Exception:  # antlr raises a bare one
        return False
    return True


def check_judge(suite: Suite) -> None:
    """Whether the judge answers: of one that does not, lmms-eval makes wrong answers without an error.

    Raises:
        InputError: none is named, or it does not answer.
    """
    url = os.environ.get("OPENAI_API_URL")
    if not url or not os.environ.get("OPENAI_API_KEY"):
        raise InputError(
            f"lmms-eval's own scoring of {suite.name} asks a judge model; name one with OPENAI_API_URL, "
            "OPENAI_API_KEY and MODEL_VERSION, or use --profile boxed, which needs none."
        )
    reachable(url)


def reachable(url: str) -> None:
    """Ask an OpenAI-compatible endpoint for its models.

    Raises:
        InputError: it does not answer, or refuses.
    """
    from vzero.runtime import http_client

    base = url.removesuffix("/").removesuffix("/chat/completions")
    server = http_client.Endpoint(base, "", os.environ.get("OPENAI_API_KEY", "").strip())
    try:
        status = http_client.ask(server, "/models", MOST, TIMEOUT).status
    except (http_client.NoReply, http_client.BadReply) as error:
        raise InputError(
            f"The judge at {base} cannot be reached ({error}); start it, or use --profile boxed."
        ) from None
    if status != 200:
        raise InputError(f"The judge at {base} answers with status {status}; fix it, or use --profile boxed.")
