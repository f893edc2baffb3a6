"""Rollouts by vLLM in this process: questions, votes and evaluations in bulk on one device.

The same promises as `TransformersEngine` keeps: one request a question whose n completions share one prompt
and one encoded image, the chat template and the image processor of the checkpoint, structural tokens never
drawn, every draw fixed by the request's seed. Draws differ from those of the transformers engine, since the
generators differ; their distribution does not (results/vllm-cpu).

Prompts go in as token ids with one placeholder an image, which vLLM expands itself: ids that are already
expanded would be expanded again without a word (huggingface/trl issue 6294).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vzero.config import EngineConfig, SamplingConfig
from vzero.errors import InputError, RolloutError, VZeroError
from vzero.rollout import encoding
from vzero.rollout.protocol import Finished, Request, Rollout
from vzero.rollout.vocabulary import Vocabulary, read_vocabulary
from vzero.runtime import processes
from vzero.runtime.seeding import derive

_STEP_TOKENS = 8192  # at least, of all prompts that are read in one step on the CPU
CPU_CACHE_GIB = "1"  # keys and values of all sequences that decode together, without a GPU
ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the engine lives and dies with this process
    "VLLM_CPU_KVCACHE_SPACE": CPU_CACHE_GIB,
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # or it would pin this whole process, trainer included, to its choice of cores
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
}


class VllmEngine:
    """Implements `Engine` for a `vllm.LLM` and the vocabulary of its checkpoint."""

    def __init__(self, llm: Any, vocabulary: Vocabulary) -> None:
        self._llm = llm
        self._vocabulary = vocabulary

    def generate(self, requests: Sequence[Request], sampling: SamplingConfig) -> list[Rollout]:
        """Answer every request, in order; see `Engine.generate`."""
        return self.stream(requests, sampling, lambda i, rollout: None)

    def stream(
        self, requests: Sequence[Request], sampling: SamplingConfig, finished: Finished
    ) -> list[Rollout]:
        """As `generate`; `finished` is told of each request, by its number, when the last of its completions
        has ended.

        Raises:
            RolloutError: also for what `finished` raises.
        """
        if not requests:
            return []
        try:
            work = encoding.collect(self._vocabulary.processor, requests)
            prompts = self._prompts(work)
            wanted = [sampling_params(sampling, self._vocabulary, request.seed) for request in requests]
            names = self._llm.enqueue([prompts[i] for i in work.of_request], wanted, use_tqdm=False)
            return self._answers(names, sampling, finished)
        except VZeroError:
            raise
        except (
            Exception
        ) as error:  # a template, a scheduler, a kernel: whatever fails, callers must meet one kind of error
            raise RolloutError(
                f"vLLM could not answer: {type(error).__name__}: {str(error).rstrip('.')}."
            ) from error

    def _answers(self, names: Sequence[str], sampling: SamplingConfig, finished: Finished) -> list[Rollout]:
        """The rollouts of requests that wait in vLLM under `names`, to which it adds "-" and random letters
        within itself."""
        engine, rollouts = self._llm.llm_engine, {}
        numbers = {name.partition("-")[0]: i for i, name in enumerate(names)}
        try:
            while engine.has_unfinished_requests():
                for answer in engine.step():
                    if answer.finished:
                        i = numbers[answer.request_id]
                        rollouts[i] = self._rollout(answer, sampling)
                        finished(i, rollouts[i])
        except BaseException:
            engine.abort_request(
                list(names), internal=True
            )  # the next call must not meet what this one has left
            raise
        return [rollouts[i] for i in range(len(names))]

    def _prompts(self, work: encoding.Work) -> list[dict[str, Any]]:
        """vLLM's form of each distinct prompt, its image named by its number so that it is hashed once."""
        tokenizer = self._vocabulary.processor.tokenizer
        prompts = []
        for prompt in work.prompts:
            ids = tokenizer(prompt.text, **encoding.special_tokens(self._vocabulary.processor, prompt.text))[
                "input_ids"
            ]
            prompts.append({"prompt_token_ids": ids})
            if prompt.image is not None:
                prompts[-1]["multi_modal_data"] = {"image": work.images[prompt.image]}
        return prompts

    def _rollout(self, answer: Any, sampling: SamplingConfig) -> Rollout:
        context, prompt_tokens = self._llm.llm_engine.model_config.max_model_len, len(answer.prompt_token_ids)
        if prompt_tokens + sampling.max_new_tokens > context:  # vLLM itself would cut the completion off
            raise RolloutError(
                f"A prompt of {prompt_tokens} tokens and {sampling.max_new_tokens} new ones exceed vLLM's context of {context}; "
                "use smaller images, a shorter question, a lower max_new_tokens or a larger engine.max_model_len."
            )
        completions = []
        for output in sorted(answer.outputs, key=lambda one: one.index):
            completions.append(
                self._vocabulary.completion(
                    output.token_ids, _logprobs(output, sampling), output.finish_reason
                )
            )
        if sampling.temperature == 0:
            completions *= sampling.n
        if len(completions) != sampling.n:
            raise RolloutError(f"vLLM gave {len(completions)} completions where {sampling.n} were asked.")
        return Rollout(prompt_tokens, tuple(completions))


def sampling_params(sampling: SamplingConfig, vocabulary: Vocabulary, seed: int) -> Any:
    """vLLM's form of one request's sampling. Greedy completions are all alike, so one is drawn."""
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind

    greedy = sampling.temperature == 0
    return SamplingParams(
        n=1 if greedy else sampling.n,
        temperature=sampling.temperature,
        top_p=1.0 if greedy else sampling.top_p,
        top_k=0 if greedy else sampling.top_k,
        repetition_penalty=sampling.repetition_penalty,
        max_tokens=sampling.max_new_tokens,
        seed=derive(
            seed, "vllm"
        ),  # vLLM seeds completion i with seed + i: neighbouring seeds would draw each other's completions
        stop_token_ids=sorted(vocabulary.eos),
        logit_bias=vocabulary.bias,
        logprobs=0,
        detokenize=False,
        output_kind=RequestOutputKind.FINAL_ONLY,
    )


def whole_prompts(config: EngineConfig, vocabulary: Vocabulary) -> dict[str, Any]:
    """What keeps vLLM from reading a prompt in pieces on the CPU, where that kills it: after each piece it
    turns the request's generator back by an offset, which only CUDA generators have. One step must then have
    room for the longest prompt."""
    longest = config.max_model_len or vocabulary.positions or 0
    return {
        "enable_chunked_prefill": False,
        "max_num_batched_tokens": max(longest, _STEP_TOKENS, config.batch_sequences),
    }


def _logprobs(output: Any, sampling: SamplingConfig) -> list[float]:
    if (
        sampling.temperature == 0
    ):  # a greedy draw is certain (see Completion.logprobs); vLLM reports the model's own value
        return [0.0] * len(output.token_ids)
    return [step[token].logprob for step, token in zip(output.logprobs, output.token_ids, strict=True)]


def open_vllm(config: EngineConfig, checkpoint: Path) -> VllmEngine:
    """vLLM with the model in `checkpoint`: in bfloat16 on a GPU, in float32 on the CPU.

    Raises:
        InputError: vLLM is not installed, or refuses the model.
    """
    vocabulary = read_vocabulary(checkpoint)
    return VllmEngine(start(config, checkpoint, vocabulary), vocabulary)


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
            f"This needs vLLM, which cannot be imported ({error}); run `make vllm`, or use another engine (engine.name, rollouts.engine)."
        ) from None
    import torch

    on_gpu, together = torch.cuda.is_available(), processes.world().size > 1
    before = {name: os.environ[name] for name in processes.VARIABLES if name in os.environ}
    try:
        return LLM(
            model=str(checkpoint),
            dtype="bfloat16" if on_gpu else "float32",
            enforce_eager=not on_gpu,
            seed=0,
            load_format="safetensors",
            trust_remote_code=False,
            generation_config="vllm",  # a checkpoint's own sampling defaults must not mix with the preset's
            logprobs_mode="processed_logprobs",
            max_model_len=config.max_model_len,
            max_num_seqs=config.batch_sequences,
            **({} if on_gpu else whole_prompts(config, vocabulary)),
            gpu_memory_utilization=config.gpu_memory,
            enable_sleep_mode=sleeps,
            distributed_executor_backend="external_launcher" if together else None,
            limit_mm_per_prompt={"image": 1, "video": 0},
            disable_log_stats=True,
            use_tqdm_on_load=False,
        )
    except Exception as error:
        raise InputError(
            f"vLLM cannot serve {checkpoint}: {type(error).__name__}: {_first_line(error)}."
        ) from error
    finally:
        os.environ.update(before)  # on the CPU vLLM says that every process is alone on its machine


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or ["no reason given"])[0].rstrip(".")
