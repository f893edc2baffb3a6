"""Where models are served, and what can be learned there without asking the model."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

import httpx

MODELS = "/v1/models"
HEALTH_TIMEOUT = 10.0  # seconds within which a live server says that it is healthy


@dataclass(frozen=True)
class Endpoint:
    """Where a model is served: base address without `/v1`, the id it must answer by, and the bearer token
    (never shown)."""

    url: str
    model: str
    token: str | None = field(default=None, repr=False)

    @property
    def headers(self) -> dict[str, str]:
        """Of every request."""
        return {"Authorization": f"Bearer {self.token}"} if self.token else {}


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


def healthy(endpoint: Endpoint) -> bool:
    """Whether the server says that it is."""
    response = _get(endpoint, "/health")
    return response is not None and response.status_code == 200


def serves(endpoint: Endpoint) -> bool:
    """Whether the server is healthy and lists the model."""
    return healthy(endpoint) and _listed(endpoint) is not None


def context_of(endpoint: Endpoint) -> int | None:
    """Tokens that prompt and completion may have together; None where the server does not say it (vLLM's
    does)."""
    found = (_listed(endpoint) or {}).get("max_model_len")
    return found if type(found) is int else None


def _listed(endpoint: Endpoint) -> Mapping[str, Any] | None:
    """The model's entry in the server's list."""
    response = _get(endpoint, MODELS)
    with suppress(ValueError, KeyError, TypeError):
        models = [] if response is None else response.json()["data"]
        return next((one for one in models if one["id"] == endpoint.model), None)
    return None


def _get(endpoint: Endpoint, path: str) -> httpx.Response | None:
    """The server's answer within a few seconds; None where there is none."""
    url = endpoint.url + path
    try:
        return httpx.get(url, headers=endpoint.headers, timeout=HEALTH_TIMEOUT, trust_env=False)
    except (httpx.HTTPError, OSError):  # OSError: no file descriptor is left
        return None
