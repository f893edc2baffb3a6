"""Opens the rollout engine that a preset names."""

from __future__ import annotations

from pathlib import Path

from vzero.config import EngineConfig
from vzero.errors import InputError
from vzero.rollout.protocol import Engine


def open_engine(config: EngineConfig, checkpoint: Path) -> Engine:
    """An engine answering with the frozen model in `checkpoint`: on a GPU in bfloat16 where there is one, else on the CPU in float32.

    The process then computes with `config.threads` CPU threads.

    Raises:
        InputError: unknown engine, or a folder that is no checkpoint.
    """
    if config.name != "transformers":
        raise InputError(f"There is no rollout engine {config.name!r}; choose transformers.")
    import torch

    from vzero.checkpoints import load_model, load_processor
    from vzero.rollout.transformers_engine import TransformersEngine

    torch.set_num_threads(config.threads)
    on_gpu = torch.cuda.is_available()
    model = load_model(checkpoint, torch.bfloat16 if on_gpu else torch.float32, "cuda" if on_gpu else "cpu")
    return TransformersEngine(model, load_processor(checkpoint), config.batch_sequences)
