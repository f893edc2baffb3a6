"""A vzero rollout engine as an lmms-eval model.

lmms-eval hands over all requests of all tasks in one call, a request with `repeats: n` as the same object n
times in a row. Each such run becomes one engine request with n completions, so that its image and prompt are
computed once. Importing this module imports lmms-eval (seconds): only the stage does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby, islice
from typing import Any

from lmms_eval.api.instance import GenerationResult, Instance, TokenCounts
from lmms_eval.api.model import lmms

from harness.evals.answers import Answer, Answerer, image_sha256, prompt_sha256, request_of, sampling_of
from vzero.config import SamplingConfig
from vzero.errors import VZeroError
from vzero.prompts import parse_answer
from vzero.rollout.protocol import Request
from vzero.runtime.seeding import derive


class EngineModel(lmms):
    """Answers lmms-eval's requests and keeps what it was asked and answered.

    Attributes:
        records: (suite, item_id) -> a row of samples.jsonl, filled by purpose ("greedy", "sampled").
        sent: purpose -> the sampling parameters the engine was given.
        ignored: purpose -> what lmms-eval handed over and was left out on purpose.
    """

    is_simple = False  # requests come with chat messages

    def __init__(self, answerer: Answerer, seed: int) -> None:
        super().__init__()
        self._answerer = answerer
        self._seed = seed
        self.records: dict[tuple[str, str], dict[str, Any]] = {}
        self.sent: dict[str, SamplingConfig] = {}
        self.ignored: dict[str, dict[str, Any]] = {}

    def generate_until(self, requests: Sequence[Instance]) -> list[GenerationResult]:
        """One result for each of `requests`, in order."""
        runs = [list(run) for _, run in groupby(requests, key=id)]
        by_purpose: dict[str, list[Instance]] = {}
        for run in runs:
            by_purpose.setdefault(self._admit(run), []).append(run[0])
        drawn: dict[int, list[Answer]] = {}
        for purpose, instances in sorted(by_purpose.items()):
            sampling = self.sent[purpose]
            instances.sort(
                key=lambda one: (one.task_name, one.doc_id)
            )  # chunks must not depend on the order tasks come in
            for chunk in _chunks(instances, self._answerer.chunk_size(sampling)):
                asked = [self._ask(instance) for instance in chunk]
                answers = self._answerer.draw([request for request, _ in asked], sampling)
                for instance, (request, document), given in zip(chunk, asked, answers, strict=True):
                    self._record(instance, request, document, given)
                    drawn[id(instance)] = given
        return [
            GenerationResult(answer["text"], TokenCounts(output_tokens=answer["tokens"]))
            for run in runs
            for answer in drawn[id(run[0])]
        ]

    def _admit(self, run: list[Instance]) -> str:
        """The purpose of a run of equal requests, after checking that its parameters are those of its
        purpose."""
        purpose, kwargs = run[0].metadata["purpose"], run[0].args[2]
        sampling = sampling_of(kwargs, len(run))
        if self.sent.setdefault(purpose, sampling) != sampling:
            raise VZeroError(
                f"Two {purpose} tasks ask for different sampling: {self.sent[purpose]} and {sampling}."
            )
        self.ignored[purpose] = {
            key: value for key, value in kwargs.items() if key not in sampling.model_dump()
        }
        return purpose

    def _ask(self, instance: Instance) -> tuple[Request, dict[str, Any]]:
        """The engine request of one item (its seed depends on the item, never on the checkpoint), and the
        item without its image."""
        _, doc_to_messages, _, doc_id, task, split = instance.args
        document = self.task_dict[task][split][doc_id]
        about = instance.metadata
        seed = derive(self._seed, "evaluate", about["suite"], document["item_id"], about["purpose"])
        request = request_of(doc_to_messages(document), seed)
        if request.image is None:
            raise VZeroError(f"Item {document['item_id']} of {about['suite']} has no image.")
        return request, {key: document[key] for key in ("item_id", "family", "gold")}

    def _record(
        self, instance: Instance, request: Request, document: dict[str, Any], answers: list[Answer]
    ) -> None:
        suite, purpose = instance.metadata["suite"], instance.metadata["purpose"]
        row = {
            "suite": suite,
            "item_id": document["item_id"],
            "family": document["family"],
            "image_sha256": image_sha256(request.image),
            "prompt_sha256": prompt_sha256(request.messages),
            "gold": document["gold"],
        }
        known = self.records.setdefault((suite, document["item_id"]), row)
        if any(known[key] != value for key, value in row.items()):
            raise VZeroError(f"Item {document['item_id']} of {suite} was asked in two different ways.")
        parsed = [
            {
                "text": one["text"],
                "answer": parse_answer(one["text"]),
                "finish_reason": one["finish_reason"],
                "tokens": one["tokens"],
            }
            for one in answers
        ]
        known[purpose] = parsed[0] if purpose == "greedy" else parsed

    def loglikelihood(self, requests: Sequence[Instance]) -> list[tuple[float, bool]]:
        """Not offered: our tasks generate."""
        raise NotImplementedError("our tasks generate text")

    def generate_until_multi_round(self, requests: Sequence[Instance]) -> list[str]:
        """Not offered: our tasks have one round."""
        raise NotImplementedError("our tasks have one round")


def _chunks(instances: Sequence[Instance], size: int) -> Iterator[list[Instance]]:
    iterator = iter(instances)
    while chunk := list(islice(iterator, size)):
        yield chunk
