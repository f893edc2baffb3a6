"""A vzero rollout engine as an lmms-eval model for real suites. Importing this module imports lmms-eval
(seconds).

Every answer comes from the store or goes into it. A request that cannot be answered raises: nothing of its
suite is scored then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from lmms_eval.api.instance import GenerationResult, Instance, TokenCounts
from lmms_eval.api.model import lmms

from harness.evals import rows
from harness.evals.answers import Answer, image_sha256, prompt_sha256, sampling_of
from harness.evals.pictures import Limits, one_picture
from harness.evals.store import Responses, key_of
from harness.evals.tasks import Task
from vzero.config import SamplingConfig
from vzero.errors import RolloutError, VZeroError
from vzero.rollout.protocol import Engine, Request
from vzero.runtime.seeding import derive

_INJECTED = [
    "\n\n"
]  # lmms-eval puts this `until` into every task; it would cut the reasoning at its first blank line
Tell = Callable[[int, int], None]  # (answered, total) items


@dataclass(frozen=True)
class Settings:
    """How to ask.

    Attributes:
        identity: what, beside request and sampling, determines answers.
        limits: of the pixels shown.
        seed: of sampled answers; an item's own seed follows from it, whichever the checkpoint.
        chunk: sequences the engine decodes together.
        budget: new tokens where a stock task names none, and their upper bound where it is not None.
        cap: whether `budget` bounds stock tasks too.
    """

    identity: Mapping[str, Any]
    limits: Limits
    seed: int
    chunk: int
    budget: int
    cap: bool


class SuiteModel(lmms):
    """Answers lmms-eval's requests for one suite.

    Attributes:
        sent: task -> the sampling parameters the engine was given.
        not_sent: task -> what else lmms-eval handed over, and what became of it.
    """

    is_simple = False  # requests come with chat messages

    def __init__(
        self, engine: Engine, store: Responses, tasks: Sequence[Task], settings: Settings, tell: Tell
    ) -> None:
        super().__init__()
        self._hidden = (engine,)  # lmms-eval's clean() deletes whatever module it finds as an attribute
        self._store, self._tasks, self._settings, self._tell = (
            store,
            {task.name: task for task in tasks},
            settings,
            tell,
        )
        self.sent: dict[str, SamplingConfig] = {}
        self.not_sent: dict[str, dict[str, Any]] = {}

    def generate_until(self, requests: Sequence[Instance]) -> list[GenerationResult]:
        """One result for each of `requests`, in order; a request that is there n times in a row (`repeats`)
        is asked once for n answers."""
        runs = [list(run) for _, run in groupby(requests, key=id)]
        groups: dict[str, list[Instance]] = {}
        for run in runs:
            self._admit(run)
            groups.setdefault(run[0].task_name, []).append(run[0])
        answers: dict[int, list[Answer]] = {}
        for name, instances in sorted(groups.items()):
            instances.sort(key=lambda one: one.doc_id)
            for chunk in _chunks(instances, max(1, self._settings.chunk // self.sent[name].n)):
                answers |= self._answer(self._tasks[name], chunk)
                self._tell(len(answers), len(runs))
        return [
            GenerationResult(
                cut(answer["text"], run[0].args[2].get("until")), TokenCounts(output_tokens=answer["tokens"])
            )
            for run in runs
            for answer in answers[id(run[0])]
        ]

    def _admit(self, run: list[Instance]) -> None:
        name, kwargs = run[0].task_name, dict(run[0].args[2])
        stock = name.startswith("vzero_stock_")
        sampling = stock_sampling(kwargs, self._settings) if stock else sampling_of(kwargs, len(run))
        if self.sent.setdefault(name, sampling) != sampling:
            raise VZeroError(
                f"Requests of {name} ask for different sampling: {self.sent[name]} and {sampling}."
            )
        self.not_sent[name] = {
            key: value for key, value in kwargs.items() if key not in sampling.model_dump()
        }

    def _answer(self, task: Task, chunk: Sequence[Instance]) -> dict[int, list[Answer]]:
        """Answers of one chunk by the instance's identity; what the store lacks is asked for together and
        kept item by item."""
        sampling, found, missing = self.sent[task.name], {}, []
        for instance in chunk:
            item = task.table.questions[instance.doc_id].item
            request = self._request(task, instance, item.id)
            key = key_of(self._settings.identity, request, sampling)
            kept = self._store.get(key)
            if kept is None:
                missing.append((instance, item.id, request, key))
            else:
                found[id(instance)] = kept
        if missing:
            rollouts = self._hidden[0].generate([request for _, _, request, _ in missing], sampling)
            if len(rollouts) != len(missing) or any(len(one.completions) != sampling.n for one in rollouts):
                raise RolloutError(
                    f"The engine owed {sampling.n} answers to each of {len(missing)} requests and gave others; nothing was scored."
                )
            for (instance, item_id, request, key), rollout in zip(missing, rollouts, strict=True):
                given = [
                    {"text": one.text, "finish_reason": one.finish_reason, "tokens": len(one.token_ids)}
                    for one in rollout.completions
                ]
                about = {"suite": task.table.suite.name, "id": item_id, "purpose": task.purpose}
                hashes = {
                    "image_sha256": image_sha256(request.image),
                    "prompt_sha256": prompt_sha256(request.messages),
                }
                self._store.put(key, about | hashes, given)
                found[id(instance)] = given
        return found

    def _request(self, task: Task, instance: Instance, item_id: str) -> Request:
        doc_to_messages, suite = instance.args[1], task.table.suite
        row = task.table.rows[instance.doc_id]
        shown = rows.pictures(suite, row, item_id)
        document = {name: shown.get(name) if name in suite.images else value for name, value in row.items()}
        messages, picture = one_picture(doc_to_messages(document), self._settings.limits)
        return Request(
            messages, picture, derive(self._settings.seed, "evaluate", suite.name, item_id, task.purpose)
        )

    def loglikelihood(self, requests: Sequence[Instance]) -> list[tuple[float, bool]]:
        """Not offered: these suites generate."""
        raise NotImplementedError("these suites generate text")

    def generate_until_multi_round(self, requests: Sequence[Instance]) -> list[str]:
        """Not offered: these suites have one round."""
        raise NotImplementedError("these suites have one round")


def cut(text: str, until: str | Sequence[str] | None) -> str:
    """A task's own stop strings, applied afterwards, since engines are not given any. The one that lmms-eval
    injects is ignored."""
    stops = [until] if isinstance(until, str) else list(until or [])
    if stops == _INJECTED:
        return text
    ends = [position for stop in stops if stop and (position := text.find(stop)) >= 0]
    return text[: min(ends)] if ends else text


def stock_sampling(kwargs: Mapping[str, Any], settings: Settings) -> SamplingConfig:
    """A stock task's generation arguments as ours: greedy unless it asks to sample; its own budget, or the
    run's where it has none."""
    budget = int(kwargs.get("max_new_tokens") or settings.budget)
    if settings.cap:
        budget = min(budget, settings.budget)
    temperature = float(kwargs.get("temperature") or 0)
    if not kwargs.get("do_sample", temperature > 0) or temperature == 0:
        return SamplingConfig(n=1, temperature=0, max_new_tokens=budget)
    return SamplingConfig(
        n=1,
        temperature=temperature,
        top_p=float(kwargs.get("top_p") or 1),
        top_k=int(kwargs.get("top_k") or 0),
        max_new_tokens=budget,
    )


def _chunks(instances: Sequence[Instance], size: int) -> Iterator[Sequence[Instance]]:
    for start in range(0, len(instances), size):
        yield instances[start : start + size]
