"""Is the judge that lmms-eval's own scoring will ask there at all?"""

from __future__ import annotations

import os

from vzero.errors import InputError

TIMEOUT = 10.0  # seconds


def reachable(url: str) -> None:
    """Ask an OpenAI-compatible endpoint for its models.

    Raises:
        InputError: it does not answer, or refuses.
    """
    import httpx

    key = os.environ.get("OPENAI_API_KEY", "").strip()
    base = url.removesuffix("/").removesuffix("/chat/completions")
    try:
        answer = httpx.get(
            f"{base}/models", timeout=TIMEOUT, headers={"Authorization": f"Bearer {key}"} if key else {}
        )
    except httpx.HTTPError as error:
        raise InputError(
            f"The judge at {base} cannot be reached ({type(error).__name__}); start it, or use --profile boxed."
        ) from None
    if answer.status_code != 200:
        raise InputError(
            f"The judge at {base} answers with status {answer.status_code}; mend it, or use --profile boxed."
        )
