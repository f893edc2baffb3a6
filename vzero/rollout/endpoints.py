"""Where models are served, and what can be learned there without asking the model.

Imports no torch: drivers of a cluster start with this.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from vzero.runtime.http_client import BadReply, Endpoint, NoReply, Reply, ask, loads
from vzero.runtime.processes import REPLICAS

TOKEN_VARIABLE = "VZERO_SOLVER_TOKEN"
MODELS = "/v1/models"
_MOST = 4_000_000  # bytes of a list of models
HEALTH_TIMEOUT = 10.0  # seconds within which a live server says that it is healthy


class Server(Protocol):
    """A served model, as the client sees it."""

    @property
    def endpoint(self) -> Endpoint:
        """Where it is now; a restart may change it."""
        ...

    def recover(self) -> None:
        """Called after a failed attempt, from a thread of its own; starts the server again where that is ours
        to do.

        Raises:
            InterruptedRun: it cannot be started again.
        """
        ...


@dataclass(frozen=True)
class RemoteServer:
    """A server that somebody else runs: all one can do is ask again."""

    endpoint: Endpoint

    def recover(self) -> None:
        """Nothing."""


@dataclass(frozen=True)
class Replicas:
    """Servers of `checkpoint` that whoever started a stage has started for it, on GPUs or not."""

    checkpoint: str
    urls: Sequence[str]
    model: str
    token: str
    on_gpu: bool = False

    def variable(self) -> dict[str, str]:
        """What the stage finds them by in its environment."""
        return {REPLICAS: json.dumps(vars(self))}


def replicas_of(checkpoint: Path) -> Replicas | None:
    """The servers that there are for `checkpoint`."""
    said = os.environ.get(REPLICAS)
    found = Replicas(**json.loads(said)) if said else None
    return found if found is not None and found.checkpoint == str(checkpoint.absolute()) else None


def healthy(endpoint: Endpoint) -> bool:
    """Whether the server says that it is."""
    reply = _get(endpoint, "/health")
    return reply is not None and reply.status == 200


def serves(endpoint: Endpoint) -> bool:
    """Whether the server is healthy and lists the model."""
    return healthy(endpoint) and _listed(endpoint) is not None


def context_of(endpoint: Endpoint) -> int | None:
    """Tokens that prompt and completion may have together; None where the server does not say it (vLLM's
    does)."""
    found = (_listed(endpoint) or {}).get("max_model_len")
    return found if type(found) is int and found > 0 else None


def _listed(endpoint: Endpoint) -> Mapping[str, Any] | None:
    """The model's entry in the server's list."""
    reply = _get(endpoint, MODELS)
    with suppress(ValueError, KeyError, TypeError):
        models = [] if reply is None else loads(reply.data)["data"]
        return next((one for one in models if isinstance(one, dict) and one["id"] == endpoint.model), None)
    return None


def _get(endpoint: Endpoint, path: str) -> Reply | None:
    """The server's answer within a few seconds; None where there is none that can be read."""
    try:
        return ask(endpoint, path, _MOST, HEALTH_TIMEOUT)
    except (NoReply, BadReply, OSError):  # OSError: no file descriptor is left
        return None
