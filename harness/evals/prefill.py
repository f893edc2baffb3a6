"""The probe that separates elicitation from learning: each answer of the base is prefilled with the first
words of the trained Solver's.

Reinforcement learning often only picks one of the ways of answering that the base already has. If the base
reaches the trained accuracy with the prefill, training has elicited what was there; what remains between the
two is more than the choice of the first words. Nothing here looks at right answers, so the probe works on any
images.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice, takewhile
from typing import Any

from vzero.config import SamplingConfig
from vzero.errors import VZeroError
from vzero.prompts import has_control_tokens
from vzero.rollout.protocol import Answer, Completion, ContextOverflow, Engine, Finished, Request, Rollout
from vzero.rollout.streaming import StreamingEngine
from vzero.runtime.seeding import derive

BOX = "\\boxed"


def prefill(text: str, words: int, prompt_format: str) -> str:
    """The first `words` words of an answer. Fewer where its final answer begins before, which must not be
    given away, or where a word would break the prompt it becomes a part of: answers are hostile text."""
    before = islice(text.partition(BOX)[0].split(), words)
    return " ".join(takewhile(lambda word: not has_control_tokens(word, prompt_format), before))


def prefills(
    rows: Sequence[Mapping[str, Any]], words: int, seed: int, prompt_format: str
) -> dict[int, tuple[str, ...]]:
    """Seed of a request of the evaluation -> the first words of each of its answers.

    Args:
        rows: of an evaluation's samples.jsonl.
        words: at most so many of each answer.
        seed: the run's.
        prompt_format: of the Solver's prompt.
    """
    found = {}
    for row in rows:
        for purpose in ("greedy", "sampled"):
            answers = [row[purpose]] if purpose == "greedy" else row[purpose]
            key = derive(seed, "evaluate", row["suite"], row["item_id"], purpose)
            found[key] = tuple(prefill(one["text"], words, prompt_format) for one in answers)
    return found


@dataclass(frozen=True)
class PrefilledAnswers(StreamingEngine):
    """An engine whose answers to a request are prefilled; it gives back each answer whole, the prefill
    included.

    Attributes:
        engine: asked for the rest.
        prefills: seed of a request -> one prefill per answer.
    """

    engine: Engine
    prefills: Mapping[int, tuple[str, ...]]

    def stream(self, requests: Iterable[Request], sampling: SamplingConfig, finished: Finished) -> None:
        """See `Engine.stream`. Every answer is a request of its own, since its prompt is.

        Raises:
            VZeroError: an answer without a prefill.
        """
        asked: list[tuple[int, int, str]] = []  # request, index and prefill of each answer
        parts: list[list[tuple[str, Answer] | None]] = []  # of each request

        def each() -> Iterator[Request]:
            for number, request in enumerate(requests):
                words, own = self.prefills.get(request.seed, ()), request.sampled_by(sampling)
                if len(words) != own.n:
                    raise VZeroError(
                        f"{len(words)} prefills for {own.n} answers; the trained Solver answered other "
                        "questions."
                    )
                one = own.model_copy(update={"n": 1})
                parts.append([None] * own.n)
                # "begun" is the label that the seeds of all committed probes were derived with.
                for i, word in enumerate(words):
                    asked.append((number, i, word))
                    seed = derive(request.seed, "begun", i)
                    yield replace(request, seed=seed, prefill=word, sampling=one)

        def told(which: int, answer: Answer) -> None:
            number, i, prefill = asked[which]
            parts[number][i] = prefill, answer
            whole = [part for part in parts[number] if part is not None]
            if len(whole) == len(parts[number]):
                parts[number] = []
                finished(number, _joined(whole))

        self.engine.stream(each(), sampling.model_copy(update={"n": 1}), told)


def _joined(parts: Sequence[tuple[str, Answer]]) -> Answer:
    """The answers to one request, each with its prefill."""
    for _, answer in parts:
        if isinstance(answer, ContextOverflow):
            return answer
    rollouts = [(prefill, answer) for prefill, answer in parts if isinstance(answer, Rollout)]
    whole = tuple(_whole(prefill, one.completions[0]) for prefill, one in rollouts)
    return Rollout(rollouts[0][1].prompt_tokens, whole)


def _whole(prefill: str, rest: Completion) -> Completion:
    """A tokenizer's text of the rest may lack the blank after the prefill."""
    blank = " " if prefill and rest.text[:1].strip() else ""
    return replace(rest, text=f"{prefill}{blank}{rest.text}")
