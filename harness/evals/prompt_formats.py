"""Which prompt_format a checkpoint speaks."""

from __future__ import annotations

from pathlib import Path

from vzero.runtime import artefacts
from vzero.runtime.checkpoints import POCKET


def prompt_format_of(checkpoint: Path) -> str:
    """ "pocket" where the checkpoint has the pocket world's own vocabulary, "natural" otherwise."""
    ours, theirs = POCKET / "tokenizer.json", checkpoint / "tokenizer.json"
    try:
        return (
            "pocket"
            if artefacts.read_json(theirs)["model"]["vocab"] == artefacts.read_json(ours)["model"]["vocab"]
            else "natural"
        )
    except (OSError, ValueError, KeyError, TypeError):
        return "natural"
