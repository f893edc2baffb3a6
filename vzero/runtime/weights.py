"""Weights that were just loaded, and must not be used as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vzero.errors import InputError


def check_head(model: Any, folder: Path) -> None:
    """Refuse a head of its own where the config says that it is the embedding: transformers then believes the
    weights and vLLM the config, so the two would answer differently.

    Raises:
        InputError: it is so.
    """
    head, table = model.get_output_embeddings(), model.get_input_embeddings()
    configs = model.config, model.config.get_text_config()
    says = all(getattr(one, "tie_word_embeddings", False) for one in configs)
    if says and head is not None and head.weight is not table.weight:
        raise InputError(
            f"{folder} holds a head and an embedding that differ, and its config.json says they are one; set"
            " tie_word_embeddings to false there, or remove lm_head.weight."
        )


def check_finite(model: Any, folder: Path) -> None:
    """Refuse weights of which one is NaN or infinite, by name; each process looks at its own part.

    Raises:
        InputError: there is one.
    """
    import torch

    for name, weight in model.named_parameters():
        part = (weight.to_local() if hasattr(weight, "to_local") else weight).detach()
        if not part.sum(dtype=torch.float32).isfinite() and not part.isfinite().all():
            raise InputError(
                f"{folder} has a weight that is NaN or infinite, {name}; get the checkpoint again."
            )
