"""Parts of a model that are not trained."""

from __future__ import annotations

from transformers import PreTrainedModel

from vzero.errors import InputError
from vzero.runtime import checkpoints


def freeze_vision(model: PreTrainedModel) -> None:
    """No gradient for the part of `model` that sees.

    Raises:
        InputError: it is not where it is in the models known.
    """
    tower = checkpoints.vision_tower(model)
    if tower is None:
        raise InputError(
            f"freeze_vision does not know where {type(model).__name__} keeps its vision tower; "
            "set freeze_vision=false."
        )
    tower.requires_grad_(False)


def spare_frozen_parts(model: PreTrainedModel) -> None:
    """Let gradient checkpointing compute again what has gradients, and nothing else.

    Hugging Face makes the inputs of every part require gradients, which the older kind of checkpointing needs
    and the one used here does not: a frozen vision tower would be differentiated for nothing.
    """
    model.enable_input_require_grads = lambda: None
