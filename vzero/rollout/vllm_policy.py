"""Rollouts by vLLM of a policy that is being trained in the same process.

Before each call vLLM is given the policy's weights as they are then, and every one of its own weights must
have come from them, or the call fails: an engine that went on with old ones would be wrong in silence. What
it remembers of prompts and pictures was computed by other weights and is forgotten. On a GPU it sleeps
between calls, its memory left to the trainer; on the CPU there is nothing to be given back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vzero.config import EngineConfig, SamplingConfig
from vzero.errors import RolloutError
from vzero.rollout.protocol import Finished, Request
from vzero.rollout.streaming import StreamingEngine, as_rollout_error
from vzero.rollout.vllm_engine import VllmEngine, start
from vzero.rollout.vocabulary import read_vocabulary

# Level 1: vLLM keeps a copy of its weights in the host's memory and discards keys and values. Level 2
# discards the weights, and with them whatever else was made while the model was loaded and is no buffer of
# it: in 0.31's model runner for CUDA the rotary positions of a picture model (RopeState.positions), by which
# CUDA graphs look up slots that are empty. Reloaded weights do not bring it back (vllm-project/vllm 29341,
# NVIDIA-NeMo/RL 2631).
SLEEP = 1
Weights = Callable[[], Iterable[tuple[str, Tensor]]]  # the policy's as they are now, named as in a checkpoint


class VllmPolicy(StreamingEngine):
    """Implements `Engine` for a policy whose weights change between calls."""

    def __init__(self, llm: Any, engine: VllmEngine, weights: Weights, sleeps: bool) -> None:
        self._llm, self._engine, self._weights, self._sleeps = llm, engine, weights, sleeps
        if sleeps:
            llm.sleep(level=SLEEP)

    def stream(self, requests: Iterable[Request], sampling: SamplingConfig, finished: Finished) -> None:
        """Answer by the policy as it is now; see `Engine.stream`."""
        self._take_weights()
        self._engine.stream(requests, sampling, finished)
        if self._sleeps:
            self._llm.sleep(level=SLEEP)

    def _take_weights(self) -> None:
        """Raises:
        RolloutError: vLLM did not take them all.
        """
        with as_rollout_error("vLLM could not take the policy's weights"):
            if self._sleeps:
                torch.cuda.empty_cache()  # what the trainer has freed is vLLM's to take
                self._llm.wake_up(tags=["weights"])
            workers = self._llm.collective_rpc(_reload, args=(self._weights(),))
            if self._sleeps:
                self._llm.wake_up(tags=["kv_cache"])
            # Computed by other weights.
            self._llm.reset_prefix_cache()
            self._llm.llm_engine.reset_encoder_cache()
        if kept := [name for names in workers for name in names]:
            raise RolloutError(
                f"vLLM kept {len(kept)} of its weights, for which the policy has none, such as {kept[0]}."
            )


def _reload(worker: Any, weights: Iterable[tuple[str, Tensor]]) -> list[str]:
    """Inside vLLM: load `weights` as if from a checkpoint; sorted names of the parameters that got none.

    As vLLM's own `Worker.reload_weights`, which does no more than warn of these. Layers that hold their
    weights repacked, as all do on the CPU, are given back their first form, filled and repacked.
    """
    from vllm.config import set_current_vllm_config
    from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead
    from vllm.model_executor.model_loader.reload import finalize_layerwise_reload, initialize_layerwise_reload

    with set_current_vllm_config(worker.vllm_config), torch.no_grad():
        model = worker.model_runner.get_model()
        wanted = {name for name, _ in model.named_parameters()}
        initialize_layerwise_reload(model)
        loaded = model.load_weights(weights)
        finalize_layerwise_reload(model, worker.model_runner.model_config)
        for layer in model.modules():
            # Tied to the embedding a head gets no weights of its own, so its repacked copy is an old one.
            if isinstance(layer, ParallelLMHead):
                layer.quant_method.process_weights_after_loading(layer)
    return sorted(wanted - loaded)


def open_policy(config: EngineConfig, checkpoint: Path, weights: Weights) -> VllmPolicy:
    """vLLM for the policy that starts as `checkpoint`; `config.gpu_memory` is its share while it draws.

    Raises:
        InputError: vLLM is not installed, or refuses the model.
    """
    vocabulary, sleeps = read_vocabulary(checkpoint, config.thinking), torch.cuda.is_available()
    llm = start(config, checkpoint, vocabulary, sleeps)
    return VllmPolicy(llm, VllmEngine(llm, vocabulary), weights, sleeps)
