"""Which dialect a checkpoint speaks."""

from __future__ import annotations

from pathlib import Path

from vzero import artefacts
from vzero.checkpoints import POCKET


def dialect_of(checkpoint: Path) -> str:
    """ "pocket" where the checkpoint has the pocket world's own vocabulary, "natural" otherwise."""
    ours, theirs = POCKET / "tokenizer.json", checkpoint / "tokenizer.json"
    try:
        return "pocket" if artefacts.read_json(theirs)["model"]["vocab"] == artefacts.read_json(ours)["model"]["vocab"] else "natural"
    except (OSError, ValueError, KeyError, TypeError):
        return "natural"
