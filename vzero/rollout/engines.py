"""Opens the rollout engine that a preset names."""

from __future__ import annotations

import os
from pathlib import Path

from vzero.config import EngineConfig
from vzero.rollout.protocol import Engine
from vzero.runtime.processes import REPLICAS


def open_solver(config: EngineConfig, checkpoint: Path) -> Engine:
    """As `open_engine`, for the frozen Solver that votes: asked at `config.urls` where there are any."""
    if not config.urls:
        return open_engine(config, checkpoint)
    from vzero.rollout.server import open_elsewhere

    return open_elsewhere(config, checkpoint)


def open_engine(config: EngineConfig, checkpoint: Path) -> Engine:
    """An engine answering with the frozen model in `checkpoint`: on a GPU in bfloat16 where there is one,
    else on the CPU in float32.

    The process then computes with `config.threads` CPU threads. Servers that were started for an engine end
    with it.

    Raises:
        InputError: an engine that is not installed, or a folder that is no checkpoint.
        InterruptedRun: a server that does not start or does not serve this checkpoint.
    """
    import torch

    torch.set_num_threads(config.threads)
    if REPLICAS in os.environ:
        from vzero.rollout.replica import open_replicas

        if (served := open_replicas(config, checkpoint)) is not None:
            return served
    if config.name == "vllm":
        from vzero.rollout.vllm_engine import open_vllm

        return open_vllm(config, checkpoint)
    if config.name == "server":
        from vzero.rollout.server import open_local

        return open_local(config, checkpoint)
    from vzero.rollout.forks import forked
    from vzero.rollout.thinking import load_processor
    from vzero.rollout.transformers_engine import TransformersEngine
    from vzero.runtime.checkpoints import inference_dtype, load_model

    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = load_model(checkpoint, getattr(torch, inference_dtype()), device)
    processor = load_processor(checkpoint, config.thinking)
    return forked(config, lambda *most: TransformersEngine(model, processor, *most))
