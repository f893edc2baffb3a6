"""Seeds that depend on what they are for, not on the order in which things happen to run."""

from __future__ import annotations

import hashlib


def derive(seed: int, *parts: str | int) -> int:
    """A 63-bit seed for one purpose, e.g. ``derive(run_seed, "label", question_id)``.

    The same arguments give the same seed on every machine; any change gives an unrelated one, so that a
    request's draw does not depend on its neighbours in a batch or on what ran before a resume.
    """
    text = "\x1f".join([str(seed), *map(str, parts)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
