"""A vzero rollout engine as an lmms-eval model. Importing this module imports lmms-eval (seconds).

lmms-eval hands over all requests in one call, a request with `repeats: n` as the same object n times in a
row. Each such run becomes one engine request with n completions, so that its image and prompt are computed
once. A request that cannot be answered raises: nothing of its suite is scored then.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from lmms_eval.api.instance import GenerationResult, Instance, TokenCounts
from lmms_eval.api.model import lmms
from PIL import Image

from harness.evals.answer_count import AnswerCount
from harness.evals.asking import SENT, Asking, Said, cut, draw, sampling_of
from harness.evals.pictures import fit, one_picture
from harness.evals.set_aside import TooLong
from harness.evals.store import Response, Store, StoredAnswer, image_sha256, key_of, prompt_sha256
from harness.evals.tasks import Task
from vzero.config import SamplingConfig
from vzero.errors import VZeroError
from vzero.rollout.protocol import Engine, Message, Request
from vzero.runtime.seeding import derive


class EngineModel(lmms):
    """Answers lmms-eval's requests. This one, under lmms-eval's own command line (`plugin`), takes every task
    as lmms-eval states it and keeps nothing; `StoredModel` knows our tasks."""

    is_simple = False  # requests come with chat messages

    def __init__(self, engine: Engine, asking: Asking) -> None:
        super().__init__()
        self._engine = engine
        self._asking = asking

    def generate_until(self, requests: Sequence[Instance]) -> list[GenerationResult]:
        """One result for each of `requests`, in order."""
        runs = [list(run) for _, run in groupby(requests, key=id)]
        # All answers to an item one after the other, whatever the order in which lmms-eval takes the tasks.
        asked = sorted(
            ((run[0], self.sampling(run[0], len(run))) for run in runs), key=lambda one: self.place(one[0])
        )
        found = self.answer(asked) if asked else []
        answers = {id(one): answer for (one, _), answer in zip(asked, found, strict=True)}
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

    def place(self, instance: Instance) -> tuple[str | int, ...]:
        """Where a request stands among all."""
        return instance.task_name, instance.doc_id

    def answer(self, asked: Sequence[tuple[Instance, SamplingConfig]]) -> list[list[StoredAnswer]]:
        """All answers to each request, of which there is one at least."""
        found: dict[int, list[StoredAnswer]] = {}
        requests = (self.request(*one) for one in asked)
        too_long = draw(self._engine, requests, asked[0][1], found.__setitem__)
        for error in too_long.values():
            raise error
        return [found[i] for i in range(len(asked))]

    def request(self, instance: Instance, sampling: SamplingConfig) -> Request:
        """What the engine is asked."""
        _, doc_to_messages, _, doc_id, task, split = instance.args
        chat = doc_to_messages(self.task_dict[task][split][doc_id])
        messages, picture = one_picture(chat)
        seed = derive(self._asking.seed, "lmms-eval", task, str(doc_id))
        return Request(messages, fit(picture, self._asking.limits), seed, sampling=sampling)

    def clean(self) -> None:
        """Frees nothing: the engine is asked for the next suite. Collecting garbage took 0.4 s."""

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
        self._shown: tuple[tuple[str | int, ...], tuple[Message, ...], Image.Image | None] | None = None

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

    def place(self, instance: Instance) -> tuple[str | int, ...]:
        """See `EngineModel`; the greedy answer to an item comes before its samples."""
        task = self._tasks[instance.task_name]
        return task.opened.suite.name, task.opened.part.config or "", instance.doc_id, task.purpose

    def answer(self, asked: Sequence[tuple[Instance, SamplingConfig]]) -> list[list[StoredAnswer]]:
        """See `EngineModel`; what the stores lack is asked for and kept item by item.

        Raises:
            TooLong: some items exceed the context; all others are answered.
        """
        found: dict[int, list[StoredAnswer]] = {}
        lacking: list[tuple[int, Response]] = []  # place, what will be stored

        def missing() -> Iterator[Request]:
            for place, (instance, sampling) in enumerate(asked):
                request = self.request(instance, sampling)
                response = self._response(instance, key_of(self._identity, request, sampling), request)
                kept = self._stores[response["suite"]].get(response["key"])
                if kept is None:
                    lacking.append((place, response))
                    yield request
                else:
                    found[place] = kept
                    self._tally.add(response["suite"], len(kept))

        def finished(number: int, answers: list[StoredAnswer]) -> None:
            place, response = lacking[number]
            found[place], suite = answers, response["suite"]
            said = self._tally.add(suite, 0, len(answers), sum(one["tokens"] for one in answers))
            self._stores[suite].put([{**response, "answers": answers}], sync=said)

        with self._tally.drawing():
            too_long = draw(self._engine, missing(), asked[0][1], finished)
        if too_long:
            rows = ((lacking[i][1], error) for i, error in too_long.items())
            raise TooLong([(row["suite"], row["id"], str(error)) for row, error in rows])
        return [found[place] for place in range(len(asked))]

    def request(self, instance: Instance, sampling: SamplingConfig) -> Request:
        """See `EngineModel`. Pictures of a drawn suite are shown as they are."""
        task, index = self._tasks[instance.task_name], instance.doc_id
        opened, suite = task.opened, task.opened.suite
        place = (task.profile, *self.place(instance)[:-1])
        if self._shown is None or self._shown[0] != place:  # else the item just asked about, drawn otherwise
            shown = opened.pictures(index)
            document = {
                name: shown.get(name) if name in suite.images else value
                for name, value in opened.rows[index].items()
            }
            messages, picture = one_picture(instance.args[1](document))
            self._shown = place, messages, picture if suite.drawn else fit(picture, self._asking.limits)
        item = opened.questions[index].item.id
        seed = derive(self._asking.seed, "evaluate", suite.name, item, task.purpose)
        return Request(*self._shown[1:], seed, sampling=sampling)

    def _response(self, instance: Instance, key: str, request: Request) -> Response:
        """What is stored, its answers yet to come."""
        task = self._tasks[instance.task_name]
        assert request.image is not None
        return Response(
            key=key,
            suite=task.opened.suite.name,
            id=task.opened.questions[instance.doc_id].item.id,
            purpose=task.purpose,
            image_sha256=image_sha256(request.image),
            prompt_sha256=prompt_sha256(request.messages),
            answers=[],
        )
