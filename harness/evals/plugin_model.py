"""The model behind `lmms-eval --model vzero`; see `plugin`. Importing this module imports lmms-eval."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lmms_eval.api.instance import GenerationResult, Instance, TokenCounts
from lmms_eval.api.model import lmms
from loguru import logger

from harness.evals.adapter import Settings, cut, stock_sampling
from harness.evals.pictures import Limits, one_picture
from harness.evals.plugin import arguments
from harness.evals.run import processor_limits
from vzero.config import EngineConfig
from vzero.errors import InputError
from vzero.rollout.engines import open_engine
from vzero.rollout.protocol import Request
from vzero.runtime.checkpoints import resolve
from vzero.runtime.seeding import derive

PIXELS = (3136, 12_845_056)
BUDGET = 2048  # new tokens where a task names none
_OURS = ("batch_size", "max_batch_size", "device")  # put in by lmms-eval itself


class VZero(lmms):
    """One of our rollout engines, asked with what lmms-eval's task says."""

    is_simple = False  # requests come with chat messages

    def __init__(self, **given: Any) -> None:
        """Open the checkpoint.

        Raises:
            InputError: an unknown argument, or a folder that is no checkpoint.
        """
        super().__init__()
        asked = arguments({key: value for key, value in given.items() if key not in _OURS})
        folder: Path = resolve(str(asked["pretrained"]))
        config = EngineConfig(
            name=asked.get("engine", "transformers"),
            batch_sequences=int(asked.get("batch_sequences", 32)),
            threads=int(asked.get("threads", 2)),
        )
        limits = Limits(int(asked.get("min_pixels", PIXELS[0])), int(asked.get("max_pixels", PIXELS[1])))
        budget = int(asked.get("max_new_tokens", BUDGET))
        self._settings = Settings(
            {}, limits, int(asked.get("seed", 0)), config.batch_sequences, budget, "max_new_tokens" in asked
        )
        self._hidden = (
            open_engine(config, folder),
        )  # lmms-eval's clean() deletes whatever module it finds as an attribute
        logger.info(f"pixels: {limits}, the processor's own: {processor_limits(folder)}")

    def generate_until(self, requests: Sequence[Instance]) -> list[GenerationResult]:
        """One result a request, in order.

        Raises:
            InputError: `--repeats`, which lmms-eval would draw and not score.
            RolloutError: a request cannot be answered.
        """
        if len({(one.task_name, one.doc_id) for one in requests}) != len(requests):
            raise InputError(
                "The model vzero gives one answer an item; leave out --repeats (`vzero-harness evaluate --samples` scores several)."
            )
        found: dict[int, GenerationResult] = {}
        for sampling, group in self._by_sampling(requests):
            for start in range(0, len(group), self._settings.chunk):
                chunk = group[start : start + self._settings.chunk]
                rollouts = self._hidden[0].generate([self._request(one) for one in chunk], sampling)
                for instance, rollout in zip(chunk, rollouts, strict=True):
                    (answer,) = rollout.completions
                    tokens = TokenCounts(output_tokens=len(answer.token_ids))
                    found[id(instance)] = GenerationResult(
                        cut(answer.text, instance.args[2].get("until")), tokens
                    )
        return [found[id(one)] for one in requests]

    def _by_sampling(self, requests: Sequence[Instance]) -> list[tuple[Any, list[Instance]]]:
        groups: dict[str, tuple[Any, list[Instance]]] = {}
        for one in requests:
            sampling = stock_sampling(one.args[2], self._settings)
            groups.setdefault(sampling.model_dump_json(), (sampling, []))[1].append(one)
        for sampling, group in groups.values():
            logger.info(f"{len(group)} requests with {sampling}")
        return list(groups.values())

    def _request(self, instance: Instance) -> Request:
        _, doc_to_messages, _, doc_id, task, split = instance.args
        messages, picture = one_picture(
            doc_to_messages(self.task_dict[task][split][doc_id]), self._settings.limits
        )
        return Request(messages, picture, derive(self._settings.seed, "lmms-eval", task, str(doc_id)))

    def loglikelihood(self, requests: Sequence[Instance]) -> list[tuple[float, bool]]:
        """Not offered: our engines generate."""
        raise NotImplementedError("the model vzero generates text; choose a generate_until task")

    def generate_until_multi_round(self, requests: Sequence[Instance]) -> list[str]:
        """Not offered: our engines answer once."""
        raise NotImplementedError("the model vzero answers in one round")
