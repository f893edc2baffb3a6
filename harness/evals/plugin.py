"""`lmms-eval --model vzero --model_args pretrained=FOLDER --tasks ...`: our engines under lmms-eval's own
command line.

`manifest` is the entry point (group `lmms_eval.models`), which lmms-eval reads at every start; `VZero` is
loaded when it is asked for. Here lmms-eval's task decides prompt, budget and scoring, and its own rules hold:
see docs/suites.md for what they do to a score.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lmms_eval.models.registry_v2 import ModelManifest

MODEL = "vzero"


def manifest() -> ModelManifest:
    """What lmms-eval needs to know of the model."""
    return ModelManifest(model_id=MODEL, chat_class_path="harness.evals.plugin_model.VZero")


def arguments(given: dict[str, Any]) -> dict[str, Any]:
    """The model arguments, checked.

    Raises:
        InputError: an unknown one (it would silently do nothing), or no `pretrained`.
    """
    from vzero.errors import InputError

    known: Sequence[str] = (
        "pretrained",
        "engine",
        "batch_sequences",
        "threads",
        "min_pixels",
        "max_pixels",
        "max_new_tokens",
        "seed",
    )
    unknown = sorted(set(given) - set(known))
    if unknown or not given.get("pretrained"):
        wrong = f"does not know {', '.join(unknown)}" if unknown else "needs pretrained=FOLDER"
        raise InputError(f"lmms-eval's model {MODEL} {wrong}; its arguments are {', '.join(known)}.")
    return given
