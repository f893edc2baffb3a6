"""`lmms-eval --model vzero --model_args pretrained=FOLDER --tasks ...`: our engines under lmms-eval's own
command line.

`manifest` is the entry point (group `lmms_eval.models`), which lmms-eval reads at every start; the model is
loaded when it is asked for. Here lmms-eval's task decides prompt, budget and scoring, and its own rules hold:
see docs/suites.md for what they do to a score.
"""

from __future__ import annotations

from lmms_eval.models.registry_v2 import ModelManifest

MODEL = "vzero"


def manifest() -> ModelManifest:
    """What lmms-eval needs to know of the model."""
    return ModelManifest(model_id=MODEL, chat_class_path="harness.evals.plugin_model.VZero")
