"""What each stage of a run computed, by the formulas of `harness.cost`: tokens read, drawn and trained on,
pictures encoded, operations.

It is the least work that does the same: every distinct prompt read once and its picture encoded once a call,
no padding, nothing recomputed. A stage is counted by what it left: rollouts, or requests and the tokens drawn
for them. One that drew nothing costs nothing; one that drew and left too little leaves the total unknown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.analysis.measures import StageCompute
from harness.cost.meter import Meter, meter, scoring_passes, trained_shape
from harness.runs.sealed import Row, Run, SealedStage
from vzero.arms.answerability import rotate_options
from vzero.errors import InputError
from vzero.prompts import parse_question
from vzero.runtime.schemas import Known
from vzero.selfplay import MEASUREMENTS

Asked = tuple[str | None, str | None]  # a question (None: the Questioner's prompt), the picture shown


class Unrecorded(Exception):
    """A stage left too little to say what it took."""


def by_stage(run: Run) -> dict[str, StageCompute] | None:
    """Every finished stage but those that measure, by name; None where one left too little, or the model's
    sizes are not known here."""
    sizes = Known(
        {
            row["image_id"]: tuple(row.get("seen") or (row["width"], row["height"]))
            for stage in run.of_kind("images")
            for row in stage.rows("images.jsonl")
        }
    )
    try:
        counter = _Counter(run, meter(run.preset.model, run.preset.prompt_format), sizes)
        found = run.stages.items()
        return {name: counter.stage(one) for name, one in found if one.stage.kind not in MEASUREMENTS}
    except (InputError, Unrecorded):
        return None


@dataclass(frozen=True)
class _Call:
    """Requests, the tokens of the replies to each, and the pictures that are encoded for them."""

    asked: Sequence[Asked]
    replies: Sequence[Sequence[float]]
    encoded: Sequence[str | None]


@dataclass(frozen=True)
class _Counter:
    run: Run
    meter: Meter
    sizes: Mapping[str, tuple[int, int]]

    def stage(self, one: SealedStage) -> StageCompute:
        """What one stage took."""
        facts = one.manifest["facts"]
        if one.has("rollouts.jsonl"):
            return self._training(one)
        if facts.get("prompts_used") and "imitated" in facts:
            return self._taken(one, [], self._imitated(one), 0.0)
        if facts.get("tokens"):
            asked, n = self._bulk(one)
            each = facts["tokens"] / (n * len(asked))
            return self._taken(one, [_Call(asked, [[each] * n] * len(asked), [image for _, image in asked])])
        if facts.get("steps"):
            raise Unrecorded(one.stage.name)
        return StageCompute(iteration=one.stage.iteration)

    def _taken(
        self, one: SealedStage, calls: Sequence[_Call], trained: _Call | None = None, scored: float = 0.0
    ) -> StageCompute:
        """Calls that draw, then an update by what was `trained` on, which is scored so often before."""
        read, flop = 0.0, 0.0
        for call in calls:
            prompts = self._tokens(call.asked)
            lengths = [(p, own) for p, own_all in zip(prompts, call.replies, strict=True) for own in own_all]
            flop += self.meter.drawn(prompts, lengths, self._pictures(call.encoded))
            read += sum(prompts)
        encoded = sum(len(call.encoded) for call in calls)
        if trained is not None:
            preset = self.run.preset
            grpo = preset.questioner.grpo if one.stage.kind == "train-questioner" else preset.solver.grpo
            shape = trained_shape(preset, grpo, self.meter.size)
            groups = list(zip(self._tokens(trained.asked), trained.replies, strict=True))
            flop += self.meter.trained(groups, self._pictures(trained.encoded), shape, scored)
            encoded += round((1 + scored) * len(trained.encoded))
        return StageCompute(
            iteration=one.stage.iteration,
            read=round(read),
            drawn=round(sum(sum(own) for call in calls for own in call.replies)),
            trained=round(sum(map(sum, trained.replies))) if trained else 0,
            pictures=encoded,
            flop=flop,
        )

    def _tokens(self, asked: Sequence[Asked]) -> list[int]:
        """Tokens of each prompt, its picture's included."""
        blind = [text for text, image in asked if image is None and text is not None]
        seeing = [text for text, image in asked if image is not None and text is not None]
        texts = {(text, True): n for text, n in zip(seeing, self.meter.answering(seeing), strict=True)}
        texts |= {(text, False): n for text, n in zip(blind, self.meter.answering(blind, False), strict=True)}
        asking = self.meter.asking()
        words = [asking if text is None else texts[text, image is not None] for text, image in asked]
        seen = [0 if image is None else self.meter.picture(*self.sizes[image]) for _, image in asked]
        return [a + b for a, b in zip(words, seen, strict=True)]

    def _pictures(self, images: Sequence[str | None]) -> list[int]:
        return [self.meter.picture(*self.sizes[image]) for image in images if image is not None]

    def _bulk(self, one: SealedStage) -> tuple[list[Asked], int]:
        """The requests of a stage that draws and does not train, and how many replies each has."""
        n = self.run.preset.solver.votes.n
        if one.has("questions.jsonl"):
            return [(None, row["image_id"]) for row in one.rows("questions.jsonl")], 1
        if one.has("checks.jsonl"):
            asked = {row["question_id"] for row in one.rows("checks.jsonl") if row["votes"]}
            rows = [row for row in self._labels(one) if row["question_id"] in asked]
            return [(rotate_options(row["text"]), row["image_id"]) for row in rows], n
        if one.has("graded.jsonl"):
            return [(row["question"], row["image_id"]) for row in one.rows("graded.jsonl")], n
        if one.has("votes.jsonl"):
            return [(row["text"], row["image_id"]) for row in one.rows("labels.jsonl")], n
        raise Unrecorded(one.stage.name)

    def _labels(self, one: SealedStage) -> list[Row]:
        return self.run.stages[one.stage.inputs["labels"]].rows("labels.jsonl")

    def _training(self, one: SealedStage) -> StageCompute:
        rows, groups = one.rows("rollouts.jsonl"), dict[tuple[int, str], list[float]]()
        for row in rows:
            groups.setdefault((row["generation"], row["prompt"]), []).append(row["tokens"])
        if one.stage.kind == "train-questioner":
            asked: list[Asked] = [(None, image) for _, image in groups]
        else:
            labels = Known({row["question_id"]: (row["text"], row["image_id"]) for row in self._labels(one)})
            asked = [labels[name] for _, name in groups]
        own = _Call(asked, list(groups.values()), [image for _, image in asked])
        facts, preset = one.manifest["facts"], self.run.preset
        steps = facts["steps"] / facts["generations"] if facts["generations"] else 1
        if one.stage.kind == "train-questioner":
            scored = scoring_passes(preset.questioner.grpo, steps)
            return self._taken(one, [own, *self._votes(one, rows)], own, scored)
        return self._taken(one, [own], own, scoring_passes(preset.solver.grpo, steps))

    def _votes(self, one: SealedStage, rows: Sequence[Row]) -> list[_Call]:
        """What the reward asked the frozen Solver: `votes.n` replies to each valid question, and where
        a frozen model gives the intuitive answer, its one reply, for which it reads all again. A generation's
        pictures are encoded once a model."""
        asking = self.run.preset.questioner
        valid = [row for row in rows if row["votes"] is not None]
        if not valid:
            return []
        drawn = sum(int(row["vote_tokens"]) for row in one.rows("timings.jsonl"))
        greedy = asking.intuition == "base"
        n, sees = asking.votes.n, asking.votes_see == "image"
        questions = [parse_question(row["text"]) for row in valid]
        texts = [question.text if question else "" for question in questions]
        shown = [(text, row["prompt"]) for text, row in zip(texts, valid, strict=True)]
        pictures = [image for _, image in sorted({(row["generation"], row["prompt"]) for row in valid})]
        each = drawn / (len(valid) * (n + greedy))
        asked = shown if sees else [(text, None) for text in texts]
        votes = _Call(asked, [[each] * n] * len(valid), pictures if sees else [])
        return [votes, *([_Call(shown, [[each]] * len(valid), pictures)] if greedy else [])]

    def _imitated(self, one: SealedStage) -> _Call:
        """Replies that fine-tuning learned, as its stage chose them: a question counts once an epoch."""
        from vzero.arms.sft import chosen_votes  # loads torch

        votes = self.run.stages[one.stage.inputs["votes"]].rows("votes.jsonl")
        kept = {row["question_id"]: row for row in self._labels(one) if row["kept"]}
        chosen = chosen_votes(list(kept.values()), votes, self.run.preset.solver.grpo.group_size)
        share = one.manifest["facts"]["imitated"] / max(1, sum(map(len, chosen.values())))
        found = [(kept[name], [share * row["tokens"] for row in rows]) for name, rows in chosen.items()]
        asked = [(row["text"], row["image_id"]) for row, _ in found]
        return _Call(asked, [own for _, own in found], [image for _, image in asked])
