"""Seeds that depend on what they are for, not on the order in which things happen to run."""

from __future__ import annotations

import hashlib


def derive(seed: int, *parts: str | int) -> int:
    """A 63-bit seed for one purpose, e.g. ``derive(run_seed, "label", question_id)``.

    The same on every machine, and unrelated to any other purpose's: a request's draw depends neither on its
    neighbours in a batch nor on what ran before a resume.
    """
    text = "\x1f".join([str(seed), *map(str, parts)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
