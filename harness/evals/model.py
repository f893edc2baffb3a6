"""A vzero rollout engine as an lmms-eval model. Importing this module imports lmms-eval (seconds).

lmms-eval hands over all requests in one call, a request with `repeats: n` as the same object n times in a
row. Each such run becomes one engine request with n completions, so that its image and prompt are computed
once. A request that cannot be answered raises: nothing of its suite is scored then.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from lmms_eval.api.instance import GenerationResult, Instance, TokenCounts
from lmms_eval.api.model import lmms

from harness.evals.answer_count import AnswerCount
from harness.evals.asking import SENT, Asking, Said, cut, draw, sampling_of
from harness.evals.pictures import fit, one_picture
from harness.evals.store import Response, Store, StoredAnswer, image_sha256, key_of, prompt_sha256
from harness.evals.tasks import Task
from vzero.config import SamplingConfig
from vzero.errors import VZeroError
from vzero.rollout.protocol import Engine, Request
from vzero.runtime.seeding import derive


class EngineModel(lmms):
    """Answers lmms-eval's requests. This one, under lmms-eval's own command line (`plugin`), takes every task
    as lmms-eval states it and keeps nothing; `StoredModel` knows our tasks."""

    is_simple = False  # requests come with chat messages

    def __init__(self, engine: Engine, asking: Asking) -> None:
        super().__init__()
        self._hidden = (engine,)  # lmms-eval's clean() deletes whatever module it finds as an attribute
        self._asking = asking

    def generate_until(self, requests: Sequence[Instance]) -> list[GenerationResult]:
        """One result for each of `requests`, in order."""
        runs = [list(run) for _, run in groupby(requests, key=id)]
        groups: dict[str, tuple[SamplingConfig, list[Instance]]] = {}
        for run in runs:
            sampling = self.sampling(run[0], len(run))
            groups.setdefault(sampling.model_dump_json(), (sampling, []))[1].append(run[0])
        answers: dict[int, list[StoredAnswer]] = {}
        for sampling, instances in sorted(groups.values(), key=lambda one: one[0].temperature):
            # Batches must not depend on the order in which lmms-eval takes the tasks.
            instances.sort(key=lambda one: (one.task_name, one.doc_id))
            for chunk in _chunks(instances, self._asking.requests_together(sampling)):
                answers |= zip(map(id, chunk), self.answer(chunk, sampling), strict=True)
        return [
            GenerationResult(
                Said(cut(one["text"], run[0].args[2].get("until")), one["finish_reason"]),
                TokenCounts(output_tokens=one["tokens"]),
            )
            for run in runs
            for one in answers[id(run[0])]
        ]

    def sampling(self, instance: Instance, count: int) -> SamplingConfig:
        """How to draw `count` answers to a request."""
        return self._asking.stock(instance.args[2])

    def answer(self, chunk: Sequence[Instance], sampling: SamplingConfig) -> list[list[StoredAnswer]]:
        """`sampling.n` answers to each request."""
        return draw(self._hidden[0], [self.request(one) for one in chunk], sampling)

    def request(self, instance: Instance) -> Request:
        """What the engine is asked."""
        _, doc_to_messages, _, doc_id, task, split = instance.args
        chat = doc_to_messages(self.task_dict[task][split][doc_id])
        messages, picture = one_picture(chat)
        seed = derive(self._asking.seed, "lmms-eval", task, str(doc_id))
        return Request(messages, fit(picture, self._asking.limits), seed)

    def loglikelihood(self, requests: Sequence[Instance]) -> list[tuple[float, bool]]:
        """Not offered: our engines generate."""
        raise NotImplementedError("the model generates text; choose a generate_until task")

    def generate_until_multi_round(self, requests: Sequence[Instance]) -> list[str]:
        """Not offered: our engines answer once."""
        raise NotImplementedError("the model answers in one round")


class StoredModel(EngineModel):
    """Answers the requests of our tasks, each from its suite's store or into it.

    Attributes:
        sent: task -> the sampling parameters the engine was given.
        not_sent: task -> what else lmms-eval handed over.
        limits: of the pixels shown.
    """

    def __init__(
        self,
        engine: Engine,
        asking: Asking,
        identity: Mapping[str, str],
        tasks: Sequence[Task],
        stores: Mapping[str, Store],
        tally: AnswerCount,
    ) -> None:
        """`identity` is what, beside request and sampling, determines an answer; `stores` are by suite."""
        super().__init__(engine, asking)
        self._identity, self._stores, self._tally = identity, stores, tally
        self._tasks = {task.name: task for task in tasks}
        self.limits = asking.limits
        self.sent: dict[str, SamplingConfig] = {}
        self.not_sent: dict[str, dict[str, Any]] = {}

    def sampling(self, instance: Instance, count: int) -> SamplingConfig:
        """See `EngineModel`; every parameter of a task of ours is sent.

        Raises:
            VZeroError: lmms-eval did not hand over what the task file states.
        """
        name, kwargs = instance.task_name, dict(instance.args[2])
        stock = self._tasks[name].profile == "stock"
        sampling = self._asking.stock(kwargs) if stock else sampling_of(kwargs, count)
        if self.sent.setdefault(name, sampling) != sampling:
            raise VZeroError(
                f"Requests of {name} ask for different sampling: {self.sent[name]} and {sampling}."
            )
        self.not_sent[name] = {key: kwargs[key] for key in kwargs.keys() - SENT}
        return sampling

    def answer(self, chunk: Sequence[Instance], sampling: SamplingConfig) -> list[list[StoredAnswer]]:
        """See `EngineModel`; what the stores lack is asked for together and kept item by item."""
        requests = [self.request(one) for one in chunk]
        keys = [key_of(self._identity, one, sampling) for one in requests]
        suites = [self._tasks[one.task_name].opened.suite.name for one in chunk]
        found = [self._stores[suite].get(key) for suite, key in zip(suites, keys, strict=True)]
        missing = [place for place, answers in enumerate(found) if answers is None]
        begin = time.monotonic()
        drawn = draw(self._hidden[0], [requests[place] for place in missing], sampling)
        seconds = time.monotonic() - begin
        new: dict[str, list[Response]] = {}
        for place, answers in zip(missing, drawn, strict=True):
            found[place] = answers
            response = self._response(chunk[place], keys[place], requests[place], answers)
            new.setdefault(suites[place], []).append(response)
        for suite, responses in new.items():
            self._stores[suite].put(responses)
        tokens = sum(one["tokens"] for answers in drawn for one in answers)
        kept = (len(chunk) - len(missing)) * sampling.n
        self._tally.add(suites[0], kept, len(missing) * sampling.n, tokens, seconds)
        return [answers for answers in found if answers is not None]

    def request(self, instance: Instance) -> Request:
        """See `EngineModel`. Pictures of a drawn suite are shown as they are."""
        task, index = self._tasks[instance.task_name], instance.doc_id
        opened, suite = task.opened, task.opened.suite
        shown = opened.pictures(index)
        document = {
            name: shown.get(name) if name in suite.images else value
            for name, value in opened.rows[index].items()
        }
        messages, picture = one_picture(instance.args[1](document))
        item = opened.questions[index].item.id
        seed = derive(self._asking.seed, "evaluate", suite.name, item, task.purpose)
        return Request(messages, picture if suite.drawn else fit(picture, self._asking.limits), seed)

    def _response(
        self, instance: Instance, key: str, request: Request, answers: list[StoredAnswer]
    ) -> Response:
        task = self._tasks[instance.task_name]
        assert request.image is not None
        return Response(
            key=key,
            suite=task.opened.suite.name,
            id=task.opened.questions[instance.doc_id].item.id,
            purpose=task.purpose,
            image_sha256=image_sha256(request.image),
            prompt_sha256=prompt_sha256(request.messages),
            answers=answers,
        )


def _chunks(instances: Sequence[Instance], size: int) -> Iterator[Sequence[Instance]]:
    for start in range(0, len(instances), size):
        yield instances[start : start + size]
