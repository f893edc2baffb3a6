"""The Questioner's reward: what the frozen Solver's votes on its questions make them worth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar

from PIL import Image

from vzero import voting
from vzero.arms.questioner_rewards import DUAL_TRACK
from vzero.arms.reward_file import RewardFile
from vzero.arms.scored import ScoredQuestion, scored_question
from vzero.config import SamplingConfig
from vzero.grpo.data import Prompt
from vzero.grpo.group_sharding import GroupSharding
from vzero.grpo.groups import Group, Scores
from vzero.images.records import ImageRecord
from vzero.prompts import Question, parse_answer, read_question, solver_messages
from vzero.rollout.ahead import AskedAhead
from vzero.rollout.protocol import Answer, Engine, Request, Rollout
from vzero.rollout.streaming import answers
from vzero.runtime import processes

T = TypeVar("T")
Drawn = tuple[Prompt, int, Question | None]  # a completion: its prompt, its place in the group, what it asks
Entropies = Callable[[Sequence[Request]], list[tuple[float, ...]]]


@dataclass(frozen=True)
class RewardSpec:
    """What a question is paid and what is asked to find out; the defaults are V-Zero's.

    Attributes:
        reward: scores a whole generation batch of questions with their votes.
        votes_see_image: whether the frozen Solver is shown the image; else it votes on the text alone.
        intuition: a frozen model whose one greedy answer, given as a Solver, is the intuitive one; None takes
            the Questioner's own.
        entropies: of the first tokens of the frozen Solver's greedy answer to each request; None looks at
            none.
    """

    reward: RewardFile = DUAL_TRACK
    votes_see_image: bool = True
    intuition: Engine | None = None
    entropies: Entropies | None = None


@dataclass(frozen=True)
class VoteReward:
    """The Questioner's reward, asking the Solver behind `engine`.

    It raises what the engine raises: a Solver that cannot be asked ends the stage and is never a reward. A
    question that exceeds the Solver's context is invalid.

    Attributes:
        engine: the frozen Solver's; asked one request per valid question.
        votes: `n` answers to each question.
        prompt_format: of the Solver's prompt.
        opener: image of a record.
        seed_of: (generation, image id, index in the group) -> seed of a request.
        keep: bounds of the confidence filter, for the metric `would_keep` alone.
        spec: what is paid.
        sharding: of a generation batch over processes: each asks about its own questions, and all are paid as
            one batch.
        breaks_prompt: see `read_question`.
    """

    engine: Engine
    votes: SamplingConfig
    prompt_format: str
    opener: Callable[[ImageRecord], Image.Image]
    seed_of: Callable[[int, str, int], int]
    keep: tuple[float, float]
    spec: RewardSpec = RewardSpec()
    sharding: GroupSharding = field(default_factory=GroupSharding)
    breaks_prompt: Callable[[str], bool] | None = None

    def __call__(self, groups: Sequence[Group], generation: int) -> Scores:
        """See `vzero.grpo.groups.Reward`."""
        drawn = self._drawn(groups)
        requests = self._requests(drawn, generation)
        voted = answers(self.engine, self._shown(requests), self.votes)
        too_long = len(requests) - sum(isinstance(one, Rollout) for one in voted)
        drawn, requests, rollouts = _without_too_long(drawn, requests, voted)
        greedy = self._greedy(requests)
        entropies = self.spec.entropies(requests) if self.spec.entropies and requests else []
        shard = _scored(drawn, rollouts, greedy, entropies)
        batch = self.sharding.all_gather(shard)
        rewards = self.sharding.shard(self.spec.reward.score(batch))
        metrics = _metrics([one for one in batch if one is not None], len(batch), self.keep)
        if too_long := sum(processes.all_gather_object(too_long)):
            metrics["too_long"] = too_long
        metrics |= self._unfinished(rollouts)
        return Scores(
            _by_group(rewards, groups),
            metrics,
            sum(rollout.tokens for rollout in (*rollouts, *greedy)) + sum(map(len, entropies)),
            _by_group([_reward_inputs(one) for one in shard], groups),
        )

    def begin(self, groups: Sequence[Group], generation: int) -> None:
        """Let a Solver that can be asked ahead vote on the first groups of a generation batch."""
        if isinstance(self.engine, AskedAhead):
            self.engine.begin(self._shown(self._requests(self._drawn(groups), generation)), self.votes)

    def _drawn(self, groups: Sequence[Group]) -> list[Drawn]:
        read = partial(read_question, prompt_format=self.prompt_format, breaks_prompt=self.breaks_prompt)
        return [
            (group.prompt, index, read(one.text, one.finish_reason))
            for group in groups
            for index, one in enumerate(group.completions)
        ]

    def _requests(self, drawn: Sequence[Drawn], generation: int) -> list[Request]:
        return [
            Request(
                solver_messages(self.prompt_format, question.text),
                self.opener(prompt.image),
                self.seed_of(generation, prompt.key, index),
            )
            for prompt, index, question in drawn
            if question is not None
        ]

    def _shown(self, requests: Sequence[Request]) -> Sequence[Request]:
        if self.spec.votes_see_image:
            return requests
        return [Request(one.messages, None, one.seed) for one in requests]

    def _unfinished(self, rollouts: Sequence[Rollout]) -> dict[str, float]:
        """Share of the votes of all processes that end inside a thought; nothing of a model without any."""
        drawn = [one for rollout in rollouts for one in rollout.completions]
        thoughts = [one for one in drawn if one.thought]
        counts = len(thoughts), sum(not one.text for one in thoughts), len(drawn)
        thought, unfinished, votes = map(sum, zip(*processes.all_gather_object(counts), strict=True))
        return {"unfinished_votes": unfinished / votes} if thought else {}

    def _greedy(self, requests: Sequence[Request]) -> list[Rollout]:
        """The frozen intuition's one greedy answer to each request, as long as a vote may be."""
        if self.spec.intuition is None or not requests:
            return []
        greedy = SamplingConfig(n=1, temperature=0.0, max_new_tokens=self.votes.max_new_tokens)
        return self.spec.intuition.generate(requests, greedy)


def _without_too_long(
    drawn: Sequence[Drawn], requests: Sequence[Request], voted: Sequence[Answer]
) -> tuple[list[Drawn], list[Request], list[Rollout]]:
    """Questions that were too long to be voted on made invalid; the requests and votes of the others.
    `requests` and `voted` are those of the valid ones."""
    answered = iter(voted)
    fits = [
        one if one[2] is None or isinstance(next(answered), Rollout) else (one[0], one[1], None)
        for one in drawn
    ]
    pairs = zip(requests, voted, strict=True)
    asked = [(request, answer) for request, answer in pairs if isinstance(answer, Rollout)]
    return fits, [request for request, _ in asked], [rollout for _, rollout in asked]


def _scored(
    drawn: Sequence[Drawn],
    rollouts: Sequence[Rollout],
    greedy: Sequence[Rollout],
    entropies: Sequence[tuple[float, ...]],
) -> list[ScoredQuestion | None]:
    """Each completion as it is paid, None for an invalid one. `rollouts` answer the valid ones; the intuitive
    answer is that of `greedy`, or the writer's own where that is empty; `entropies` are of the valid ones, or
    of none."""
    valid = [(prompt, question) for prompt, _, question in drawn if question is not None]
    own = [parse_answer(one.completions[0].text) for one in greedy] or [one.intuitive for _, one in valid]
    given = zip(valid, own, rollouts, entropies or [()] * len(valid), strict=True)
    scored = iter(
        [
            scored_question(prompt, question, intuitive, [one.text for one in rollout.completions], looked_at)
            for (prompt, question), intuitive, rollout, looked_at in given
        ]
    )
    return [None if question is None else next(scored) for _, _, question in drawn]


def _reward_inputs(scored: ScoredQuestion | None) -> dict[str, Any]:
    """What a reward rests on, for rollouts.jsonl."""
    if scored is None:
        return {"votes": None, "intuitive": None}
    entropies = {"token_entropies": list(scored.token_entropies)} if scored.token_entropies else {}
    return {"votes": list(scored.votes), "intuitive": scored.intuitive, **entropies}


def _by_group(values: Sequence[T], groups: Sequence[Group]) -> list[list[T]]:
    rest = iter(values)
    return [[next(rest) for _ in group.completions] for group in groups]


def _metrics(
    scored: Sequence[ScoredQuestion], count: int, keep: tuple[float, float]
) -> dict[str, float | None]:
    """valid: share of all `count` completions; the others are means over valid ones, None without any."""
    tallies = [voting.tally(one.votes) for one in scored]
    agreement = [tally.answer == one.intuitive for tally, one in zip(tallies, scored, strict=True)]
    return {
        "valid": len(scored) / count,
        "confidence": _mean([tally.confidence for tally in tallies]),
        "agreement": _mean(agreement),
        "would_keep": _mean([voting.keep(tally, *keep) for tally in tallies]),
    }


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
