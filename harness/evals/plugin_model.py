"""The model behind `lmms-eval --model vzero`; see `plugin`. Importing this module imports lmms-eval."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from lmms_eval.api.instance import GenerationResult, Instance
from loguru import logger

from harness.evals.asking import Asking
from harness.evals.model import EngineModel
from harness.evals.pictures import DEFAULT
from harness.evals.results import Limits
from vzero.config import EngineConfig
from vzero.errors import InputError
from vzero.rollout.engines import open_engine
from vzero.runtime.checkpoints import load_image_processor, resolve

BUDGET = 2048  # new tokens where a task names none
_THEIRS = frozenset({"batch_size", "max_batch_size", "device"})  # put in by lmms-eval itself


class VZero(EngineModel):
    """One of our rollout engines, asked with what lmms-eval's task says."""

    def __init__(
        self,
        pretrained: str = "",
        engine: Literal["transformers", "vllm", "server"] = "transformers",
        batch_sequences: int = 32,
        threads: int = 2,
        min_pixels: int = DEFAULT.least,
        max_pixels: int = DEFAULT.most,
        max_new_tokens: int | None = None,
        seed: int = 0,
        thinking: bool | None = None,
        thought_tokens: int = 0,
        **others: object,
    ) -> None:
        """Open the checkpoint.

        Raises:
            InputError: an unknown argument (it would silently do nothing), or a folder that is no checkpoint.
        """
        unknown = sorted(others.keys() - _THEIRS)
        if unknown or not pretrained:
            wrong = f"does not know {', '.join(unknown)}" if unknown else "needs pretrained=FOLDER"
            raise InputError(f"lmms-eval's model vzero {wrong}; see docs/suites.md for its arguments.")
        folder, limits = resolve(str(pretrained)), Limits(least=int(min_pixels), most=int(max_pixels))
        config = EngineConfig(
            name=engine,
            batch_sequences=int(batch_sequences),
            threads=int(threads),
            thinking=thinking,
            thought_tokens=int(thought_tokens),
        )
        budget, cap = int(max_new_tokens or BUDGET) + config.thought_tokens, max_new_tokens is not None
        asking = Asking(limits, int(seed), budget, cap, config.thought_tokens)
        super().__init__(open_engine(config, folder), asking)
        logger.info(f"pixels: {limits}, the processor's own: {load_image_processor(folder).size}")

    def generate_until(self, requests: Sequence[Instance]) -> list[GenerationResult]:
        """See `EngineModel`.

        Raises:
            InputError: `--repeats`, which lmms-eval would draw and not score.
        """
        if len({(one.task_name, one.doc_id) for one in requests}) != len(requests):
            raise InputError(
                "The model vzero gives one answer per item; leave out --repeats (`vzero-harness evaluate "
                "--samples` scores several)."
            )
        return super().generate_until(requests)
