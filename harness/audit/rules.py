"""What is audited: a reward of a question and its votes, with the readers, the filter and the labels it
works with.

To audit another reward add a `Rules` to `RULES`, or pass one to `harness.audit.audit`; a field left out is
the method's own. `of_arm` makes the rules of an arm from its settings, so what is audited is what is run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from vzero.arms import Arm, defects
from vzero.arms.questioner_rewards import named, reward_of
from vzero.arms.reward_file import RewardFile, read_source
from vzero.arms.scored import ScoredQuestion
from vzero.config import OWN, Preset
from vzero.parsing import Question, parse_answer
from vzero.presets import changed, load_preset
from vzero.prompts import read_question
from vzero.voting import Tally, keep, tally

Votes = Sequence[str | None]


def read_natural(text: str, finish_reason: str) -> Question | None:
    """The method's own reading of a Questioner's reply, for instruction-tuned models."""
    return read_question(text, finish_reason, "natural")


@dataclass(frozen=True)
class Rules:
    """How a question is paid, whether it is kept, and with which label.

    Attributes:
        name: as in `--reward`.
        formula: in one line, for people.
        source: where the formula comes from.
        reward: of a valid question with its votes in the order drawn; texts are there where it is simulated.
        read_question: of (reply, finish reason); None is an invalid question, paid `vzero.rewards.INVALID`.
        read_answer: a Solver's reply -> its vote, "A".."D" or None, inside the reward.
        keep: whether the Solver trains on a question with this tally.
        order_free: whether, of the order of the votes, only the first seen of equally frequent answers
            matters. Else it is simulated.
        read_label: as `read_answer` for the votes that make the label; None where one reader does both.
        count: how the votes for the label are counted.
        blind: whether the votes inside the reward come from a Solver that never gets the image. The label's
            votes always see it.
        intuition: "writer" for the answer in the reply; "solver" for the one the Solver thinks likeliest, as
            a frozen model would say.
        twice: whether a question is kept only if a second set of votes has the same majority, as
            `vzero.arms.answerability` asks for.
        labels: what a kept question is labelled with.
        selection: a reward file of the user's own that labels or keeps questions instead.
    """

    name: str
    formula: str
    source: str
    reward: Callable[[ScoredQuestion], float]
    read_question: Callable[[str, str], Question | None] = read_natural
    read_answer: Callable[[str], str | None] = parse_answer
    keep: Callable[[Tally], bool] = keep
    order_free: bool = True
    read_label: Callable[[str], str | None] | None = None
    count: Callable[[Votes], Tally] = tally
    blind: bool = False
    intuition: Literal["writer", "solver"] = "writer"
    twice: bool = False
    labels: Literal["majority", "random", "truth"] = "majority"
    selection: RewardFile | None = None

    @property
    def apart(self) -> bool:
        """Whether the reward and the label are made of different votes."""
        return self.blind or self.read_label is not None


RULES = {
    name: Rules(name, named(name).summary, source, named(name).reward)
    for name, source in (("dual_track", "V-Zero, arXiv 2601.10094"), ("uncertainty", "V-Zero's ablation"))
}


def has_majority(counted: Tally) -> bool:
    """A filter that keeps whatever has a label."""
    return counted.answer is not None


def preset_of(arm: Arm) -> Preset:
    """The pocket preset as `arm` changes it."""
    return changed(load_preset("pocket"), {"arm": arm.name, **arm.changes})


def of_arm(arm: Arm) -> Rules | None:
    """The rules by which `arm` pays its Questioner and chooses what the Solver trains on; None where no
    Questioner is trained.

    What depends on the rest of a batch is left out, as the formula then says. A reward file of the user's own
    may read votes in any way, so it is simulated, each question by itself.
    """
    preset = preset_of(arm)
    if not preset.questioner.trained:
        return None
    reward, solver = reward_of(preset.questioner), preset.solver
    whole = "score" in reward.functions
    within = partial(keep, low=solver.keep_low, high=solver.keep_high)
    return Rules(
        name=arm.name,
        formula="; ".join([reward.summary + whole * " (without the rest of the batch)", *_beyond(preset)]),
        source=arm.source,
        reward=reward.reward,
        keep=has_majority if solver.filter == "none" else within,
        order_free=OWN not in (preset.questioner.reward, solver.labels, solver.filter),
        selection=None if solver.selection_source is None else read_source(solver.selection_source),
        read_label=defects.reader(preset.defects) if preset.defects else None,
        count=defects.counter(preset.defects),
        blind=preset.questioner.votes_see == "nothing",
        intuition="solver" if preset.questioner.intuition == "base" else "writer",
        twice=solver.answerable,
        labels=solver.labels if solver.labels in ("random", "truth") else "majority",
    )


def _beyond(preset: Preset) -> list[str]:
    """What the rules hold besides the formula, in words."""
    solver = preset.solver
    low, high = solver.keep_low, solver.keep_high
    notes = {
        "votes without the image": preset.questioner.votes_see == "nothing",
        "intuition of a frozen model": preset.questioner.intuition == "base",
        "without its tokens' entropies": preset.questioner.token_entropies > 0,
        "no filter": solver.filter == "none",
        "own filter": solver.filter == OWN,
        f"kept: {low:g} <= c <= {high:g}": solver.filter == "confidence" and (low, high) != (0.3, 0.8),
        "options checked": solver.answerable,
        f"{solver.labels} labels": solver.labels in ("random", "truth", OWN),
        f"defects: {', '.join(preset.defects)}": bool(preset.defects),
    }
    found = ", ".join(note for note, holds in notes.items() if holds)
    return [found] if found else []


def of_arms(arms: Sequence[Arm]) -> tuple[list[Rules], list[str]]:
    """The rules of several arms, those that are audited alike once under the name of the first, and what is
    not audited and why."""
    found: dict[str, Rules] = {}
    notes: list[str] = []
    for arm in arms:
        rules = of_arm(arm)
        if rules is None:
            notes.append(f"{arm.name}: no Questioner is trained, so there is no reward to audit.")
            continue
        alike = found.setdefault(_settings_audited(preset_of(arm)), rules)
        if alike is not rules:
            notes.append(f"{arm.name}: the same reward, filter and labels as {alike.name}.")
    return list(found.values()), notes


def _settings_audited(preset: Preset) -> str:
    """All settings that `of_arm` reads."""
    questioner = preset.questioner.model_dump_json(
        include={"reward", "reward_source", "votes_see", "intuition"}
    )
    solver = preset.solver.model_dump_json(
        include={"filter", "keep_low", "keep_high", "answerable", "labels", "selection_source"}
    )
    return f"{questioner} {solver} {preset.defects}"
