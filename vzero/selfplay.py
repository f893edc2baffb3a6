"""The loop: the ordered stages of T iterations, as data.

One iteration trains the Questioner against the frozen Solver, lets it write one question an image, lets the same frozen Solver vote on
them, and trains the Solver on the questions whose majority is neither too sure nor too unsure. Stages name the stages they read, so a
runner needs no knowledge of the method.

    00-images -> 01-evaluate-base -> [train-questioner -> write-questions -> label -> train-solver -> evaluate] x T
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from vzero.config import Preset

Kind = Literal["images", "evaluate", "train-questioner", "write-questions", "label", "train-solver"]


@dataclass(frozen=True)
class Stage:
    """One step of an experiment.

    Attributes:
        name: folder name below `stages/`, e.g. "02-train-questioner-1".
        kind: which program runs it.
        iteration: 1..T; 0 before the first.
        inputs: role ("images", "questioner", "solver", "questions", "labels", "model") -> name of the stage that made it, or "base" for
            the preset's model.
        config: the part of the preset that determines this stage's output.
    """

    name: str
    kind: Kind
    iteration: int
    inputs: dict[str, str]
    config: dict[str, Any]


def plan(preset: Preset) -> tuple[Stage, ...]:
    """All stages of `preset`, in the order they run; each reads only stages before it."""
    config = preset.model_dump(mode="json")
    common = {"seed": preset.seed, "model": preset.model, "dialect": preset.dialect, "engine": config["engine"]}
    evaluation = {**common, "evaluation": config["evaluation"]}
    stages = [
        Stage("00-images", "images", 0, {}, {"seed": preset.seed, "images": config["images"]}),
        Stage("01-evaluate-base", "evaluate", 0, {"model": "base"}, evaluation),
    ]
    questioner = solver = "base"
    for t in range(1, preset.iterations + 1):
        number = 2 + 5 * (t - 1)
        names = [
            f"{number + i:02d}-{kind}-{t}"
            for i, kind in enumerate(("train-questioner", "write-questions", "label", "train-solver", "evaluate"))
        ]
        asked = {**common, "iteration": t, "questioner": config["questioner"]}
        answered = {**common, "iteration": t, "solver": config["solver"]}
        stages += [
            Stage(names[0], "train-questioner", t, {"images": "00-images", "questioner": questioner, "solver": solver}, asked),
            Stage(names[1], "write-questions", t, {"images": "00-images", "questioner": names[0]}, asked),
            Stage(names[2], "label", t, {"images": "00-images", "questions": names[1], "solver": solver}, answered),
            Stage(names[3], "train-solver", t, {"images": "00-images", "labels": names[2], "solver": solver}, answered),
            Stage(names[4], "evaluate", t, {"model": names[3]}, evaluation),
        ]
        questioner, solver = names[0], names[3]
    return tuple(stages)
