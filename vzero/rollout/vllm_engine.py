"""Rollouts by vLLM in this process: questions, votes and evaluations in bulk on one device.

The same promises as `TransformersEngine` keeps: one request a question whose n completions share one prompt
and one encoded image, the chat template and the image processor of the checkpoint, structural tokens never
drawn, every draw fixed by the request's seed. Draws differ from those of the transformers engine, since the
generators differ; their distribution does not (results/vllm-cpu).

Prompts go in as token ids with one placeholder per image, which vLLM expands itself: ids that are already
expanded would be expanded again without a word (huggingface/trl issue 6294).
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vzero.config import EngineConfig, SamplingConfig
from vzero.errors import InputError, RolloutError, machine_failure
from vzero.rollout import encoding, template
from vzero.rollout.protocol import (
    PICTURE_BYTES,
    Answer,
    ContextOverflow,
    Finished,
    Request,
    Rollout,
    overflow,
)
from vzero.rollout.streaming import StreamingEngine, as_rollout_error
from vzero.rollout.vocabulary import Vocabulary, read_vocabulary
from vzero.runtime import processes
from vzero.runtime.checkpoints import inference_dtype

_STEP_TOKENS = 8192  # at least, of all prompts that are read in one step on the CPU
CPU_CACHE_GIB = "1"  # keys and values of all sequences that decode together, without a GPU
ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the engine lives and dies with this process
    "VLLM_CPU_KVCACHE_SPACE": CPU_CACHE_GIB,
    # Or it would pin this whole process, trainer included, to its choice of cores.
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
}


# Of its slots, what a server is given at a time: none then waits for the next request to arrive.
FULL = 1.25


@dataclass(frozen=True)
class _Open:
    """A request in vLLM, by its whole name there."""

    number: int
    name: str
    picture_bytes: int
    sampling: SamplingConfig


class VllmEngine(StreamingEngine):
    """Implements `Engine` for a `vllm.LLM` and the vocabulary of its checkpoint."""

    def __init__(self, llm: Any, vocabulary: Vocabulary) -> None:
        self._llm = llm
        self._vocabulary = vocabulary

    def stream(self, requests: Iterable[Request], sampling: SamplingConfig, finished: Finished) -> None:
        """See `Engine.stream`. vLLM has so many requests that a few always wait for a slot."""
        engine, waiting, pictures = self._llm.llm_engine, enumerate(requests), 0
        together = FULL * engine.vllm_config.scheduler_config.max_num_seqs
        numbers: dict[str, _Open] = {}
        try:
            with as_rollout_error("vLLM could not answer"):
                while True:
                    while pictures < PICTURE_BYTES:
                        if sum(one.sampling.drawn for one in numbers.values()) >= together:
                            break
                        if (following := next(waiting, None)) is None:
                            break
                        number, request = following
                        own = request.sampled_by(sampling)
                        pictures += self._enqueue(number, request, own, numbers, finished)
                    if not numbers:
                        return
                    for answer in engine.step():
                        # vLLM adds "-" and random letters to a name within itself.
                        if answer.finished:
                            ended = numbers.pop(answer.request_id.partition("-")[0])
                            pictures -= ended.picture_bytes
                            finished(ended.number, self._answer(answer, ended.sampling))
        finally:
            if numbers:  # the next call must not meet what is left
                engine.abort_request([one.name for one in numbers.values()], internal=True)

    def _enqueue(
        self,
        i: int,
        request: Request,
        sampling: SamplingConfig,
        numbers: dict[str, _Open],
        finished: Finished,
    ) -> int:
        """Hand request `i` over, its name into `numbers`; how many bytes of pictures that opens."""
        work = encoding.collect(self._vocabulary.processor, [request])
        prompt: dict[str, Any] = {
            "prompt_token_ids": template.token_ids(self._vocabulary.processor, work.prompts[0].text)
        }
        if work.images:
            prompt["multi_modal_data"] = {"image": work.images[0]}
        wanted = sampling_params(sampling, self._vocabulary, request.seed)
        try:
            (name,) = self._llm.enqueue([prompt], [wanted], use_tqdm=False)
        except Exception as error:  # vLLM's own type of it has changed between versions
            if not says_overflow(str(error)):
                raise
            finished(i, ContextOverflow(f"{str(error).rstrip('.')}."))
            return 0
        numbers[name.partition("-")[0]] = _Open(i, name, request.picture_bytes, sampling)
        return request.picture_bytes

    def _answer(self, answer: Any, sampling: SamplingConfig) -> Answer:
        context, prompt_tokens = self._llm.llm_engine.model_config.max_model_len, len(answer.prompt_token_ids)
        if prompt_tokens + sampling.max_new_tokens > context:  # vLLM itself would cut the completion short
            return overflow(prompt_tokens, sampling.max_new_tokens, context)
        completions = [
            self._vocabulary.completion(one.token_ids, _logprobs(one, sampling), one.finish_reason)
            for one in sorted(answer.outputs, key=lambda one: one.index)
        ]
        if sampling.temperature == 0:
            completions *= sampling.n
        if len(completions) != sampling.n:
            raise RolloutError(f"vLLM gave {len(completions)} completions where {sampling.n} were asked.")
        return Rollout(prompt_tokens, tuple(completions))


def open_requests(slots: int, completions: float) -> int:
    """Requests of so many completions each that a server with `slots` is given at a time."""
    return max(1, math.ceil(FULL * slots / completions))


def says_overflow(message: str) -> bool:
    """Whether vLLM refuses a request because it exceeds the context (0.31: before and after its pictures are
    counted)."""
    return any(
        part in message for part in ("maximum context length is", "longer than the maximum model length")
    )


def sampling_params(sampling: SamplingConfig, vocabulary: Vocabulary, seed: int) -> Any:
    """vLLM's form of one request's sampling."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    return SamplingParams(
        **vocabulary.vllm_sampling(sampling, seed),
        max_tokens=sampling.max_new_tokens,
        logprobs=0,
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def _logprobs(output: Any, sampling: SamplingConfig) -> list[float]:
    if (
        sampling.temperature == 0
    ):  # certain, as Completion.logprobs has it; vLLM reports the model's own value
        return [0.0] * len(output.token_ids)
    return [step[token].logprob for step, token in zip(output.logprobs, output.token_ids, strict=True)]


def open_vllm(config: EngineConfig, checkpoint: Path) -> VllmEngine:
    """vLLM with the model in `checkpoint`: in bfloat16 on a GPU, in float32 on the CPU.

    Raises:
        InputError: vLLM is not installed, or refuses the model.
    """
    vocabulary = read_vocabulary(checkpoint, config.thinking)
    return VllmEngine(start(config, checkpoint, vocabulary), vocabulary)


def engine_arguments(config: EngineConfig, vocabulary: Vocabulary) -> dict[str, Any]:
    """vLLM's settings, by its names: of the engine in this process and of servers."""
    import torch

    on_gpu = torch.cuda.is_available()
    arguments: dict[str, Any] = {
        "dtype": inference_dtype(),
        "seed": 0,
        "load_format": "safetensors",
        "generation_config": "vllm",  # a checkpoint's own sampling defaults must not mix with the preset's
        "max_num_seqs": config.batch_sequences,
        "gpu_memory_utilization": config.gpu_memory,
        "limit_mm_per_prompt": {"image": 1, "video": 0},
        "disable_log_stats": True,
    }
    if config.max_model_len:  # vLLM refuses to go beyond the positions of the model
        arguments["max_model_len"] = min(config.max_model_len, vocabulary.positions or config.max_model_len)
    if not on_gpu:
        # Reading a prompt in pieces kills vLLM there: after each piece it turns the request's generator back
        # by an offset, which only CUDA generators have. One step must then have room for the longest prompt.
        longest = arguments.get("max_model_len") or vocabulary.positions or 0
        arguments["enforce_eager"] = True
        arguments["enable_chunked_prefill"] = False
        arguments["max_num_batched_tokens"] = max(longest, _STEP_TOKENS, config.batch_sequences)
    return arguments


def start(config: EngineConfig, checkpoint: Path, vocabulary: Vocabulary, sleeps: bool = False) -> Any:
    """The `vllm.LLM` of `open_vllm`; one that `sleeps` can be asked to give its GPU memory back.

    Of several processes, which must all come here, each has an engine of its own, whole, on the device of its
    local rank. vLLM finds that torch's processes have met already and joins them (its "external launcher");
    its groups for tensor parallelism are of one process, so that engines wait for each other here, where they
    agree on memory, and never while they draw.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        from vllm import LLM
    except ImportError as error:
        raise InputError(
            f"This needs vLLM, which cannot be imported ({error}); run `make vllm`, or use another engine "
            "(engine.name, rollouts.engine)."
        ) from None
    before = {name: os.environ[name] for name in processes.VARIABLES if name in os.environ}
    try:
        return LLM(
            model=str(checkpoint),
            trust_remote_code=False,
            logprobs_mode="processed_logprobs",
            enable_sleep_mode=sleeps,
            distributed_executor_backend="external_launcher" if processes.world().size > 1 else None,
            use_tqdm_on_load=False,
            **engine_arguments(config, vocabulary),
        )
    except Exception as error:
        reason = (str(error).strip().splitlines() or ["no reason given"])[0].rstrip(".")
        refused = InputError(f"vLLM cannot serve {checkpoint}: {type(error).__name__}: {reason}.")
        raise machine_failure(error, checkpoint) or refused from error
    finally:
        os.environ.update(before)  # on the CPU vLLM says that every process is alone on its machine
