"""The loop: the ordered stages of T iterations, as data.

One iteration trains the Questioner against the frozen Solver, lets it write one question per image, lets the
same frozen Solver vote on them, and trains the Solver on the questions whose majority is neither too sure nor
too unsure. Stages name the stages they read, so a runner needs no knowledge of the method.

    00-images -> 01-evaluate-base -> [train-questioner -> write-questions -> label -> train-solver ->
    evaluate] x T [-> probe]

An arm (vzero.arms) is a preset with other switches. It leaves stages out (a frozen Questioner is not trained,
an objective without labels needs no votes, recycled questions are written already) or adds `recycle`,
`check-options` and `select` between `label` and `train-solver` (one defect: `choose-images` before
everything). A stage's config holds what determines its output and nothing else, defaults left out: arms that
agree up to some point share the stages up to there, and a new setting does not unmake the stages of before.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

from vzero.config import OPERATIONAL, Preset

Tree = dict[str, Any]
Preparation = Literal[
    "images", "choose-images", "write-questions", "label", "recycle", "check-options", "select"
]
Training = Literal["train-questioner", "train-solver"]
Measurement = Literal["evaluate", "probe"]  # nothing is trained from these
StageKind = Preparation | Training | Measurement
MEASUREMENTS: frozenset[str] = frozenset(get_args(Measurement))
IMAGES = "00-images"
SELECTION = ("labels", "filter", "selection_source")  # of the Solver: which questions, with which labels


@dataclass(frozen=True)
class Stage:
    """One step of an experiment.

    Attributes:
        name: folder name below `stages/`, e.g. "02-train-questioner-1".
        kind: which program runs it.
        iteration: 1..T; 0 before the first.
        inputs: role ("images", "questioner", "solver", "intuition", "questions", "labels", "votes",
            "rollouts", "checks", "model", "prefills") -> name of the stage that made it, or "base" for the
            preset's model.
        config: the part of the preset that determines this stage's output.
    """

    name: str
    kind: StageKind
    iteration: int
    inputs: dict[str, str]
    config: Tree


Step = tuple[StageKind, dict[str, str], Tree]  # kind, inputs, config


def plan(preset: Preset) -> tuple[Stage, ...]:
    """All stages of `preset`, in the order they run; each reads only stages before it."""
    config = preset.model_dump(mode="json", exclude_defaults=True)
    evaluation = _evaluation(preset, config)
    stages = [
        Stage(IMAGES, "images", 0, {}, {"seed": preset.seed, "images": config["images"]}),
        Stage("01-evaluate-base", "evaluate", 0, {"model": "base"}, evaluation),
    ]
    sources = {"questioner": "base", "solver": "base"}
    if "label_selection" in preset.defects:
        sources[IMAGES] = f"{len(stages):02d}-choose-images"
        own = {**_common(preset, config), **_pick(config["solver"], "votes")}
        stages.append(Stage(sources[IMAGES], "choose-images", 0, {"images": IMAGES, "solver": "base"}, own))
    for t in range(1, preset.iterations + 1):
        names: dict[str, str] = {}
        for kind, inputs, own in _iteration(preset, config, t):
            found = {role: names.get(source, sources.get(source, source)) for role, source in inputs.items()}
            names[kind] = f"{len(stages):02d}-{kind}-{t}"
            stages.append(Stage(names[kind], kind, t, found, own))
        sources |= {"questioner": names.get("train-questioner", "base"), "solver": names["train-solver"]}
    if words := preset.evaluation.prefill_words:
        name, inputs = (
            f"{len(stages):02d}-probe-{preset.iterations}",
            {"model": "base", "prefills": stages[-1].name},
        )
        own = {**evaluation, "prefill_words": words}
        stages.append(Stage(name, "probe", preset.iterations, inputs, own))
    return tuple(stages)


def training(preset: Preset) -> tuple[Stage, ...]:
    """The stages of `plan` without those that measure: what training both roles takes."""
    return tuple(stage for stage in plan(preset) if stage.kind not in MEASUREMENTS)


def _evaluation(preset: Preset, config: Tree) -> Tree:
    """Without the probe's setting, and without the place of benchmark data, whose digest is a setting."""
    own = {key: value for key, value in config["evaluation"].items() if key not in ("prefill_words", "data")}
    return {**_common(preset, config), "evaluation": own}


def _common(preset: Preset, config: Tree) -> Tree:
    engine = {name: value for name, value in config.get("engine", {}).items() if name not in OPERATIONAL}
    common = {"seed": preset.seed, "model": preset.model, "prompt_format": preset.prompt_format}
    return {**common, "engine": engine} if engine else common


def processes_of(preset: Preset, kind: StageKind) -> int:
    """How many processes run a stage of this kind: several train by GRPO, all else is one."""
    grpo = kind == "train-questioner" or (kind == "train-solver" and preset.solver.objective != "sft")
    return preset.launch.ranks if grpo else 1


def _shared(preset: Preset, kind: StageKind) -> Tree:
    """Among how many processes a training is split, and how; it changes the order of sums (see
    plan_batches)."""
    count = processes_of(preset, kind)
    return {"launch": {"strategy": preset.launch.strategy, "processes": count}} if count > 1 else {}


def _pick(tree: Tree, *names: str) -> Tree:
    """Those of `names` that are not at their default."""
    return {name: tree[name] for name in names if name in tree}


def _policy(config: Tree, draws: bool) -> Tree:
    """Of a training: its adapters, and the engine that draws from the policy, where any does."""
    engine = _pick(config.get("rollouts", {}), "engine") if draws else {}
    return {**_pick(config, "lora"), **({"rollouts": engine} if engine else {})}


def _iteration(preset: Preset, config: Tree, t: int) -> Iterator[Step]:
    """The steps of iteration `t`. A source is a kind of this iteration, "base", a stage of before, or a role:
    "questioner" and "solver" as the iteration found them."""
    asking, solving = config["questioner"], config["solver"]
    common = {**_common(preset, config), "iteration": t}
    keep = {"keep": [preset.solver.keep_low, preset.solver.keep_high]}
    images, solver = {"images": IMAGES}, {"solver": "solver"}
    writer = "base"
    if preset.questioner.trained:
        writer = "train-questioner"
        intuition = {"intuition": "base"} if preset.questioner.intuition == "base" else {}
        paid = ("grpo", "reward", "reward_source", "intuition", "votes_see", "votes", "token_entropies")
        own = {**keep, **_pick(asking, *paid)}
        policy = {**_policy(config, draws=True), **_shared(preset, "train-questioner")}
        inputs = {**images, "questioner": "questioner", **solver, **intuition}
        yield "train-questioner", inputs, {**common, **own, **policy}
    labels: StageKind | None = None
    if preset.solver.questions != "recycled":
        own = {**common, **_pick(asking, "write", "per_image")}
        yield "write-questions", {**images, "questioner": writer}, own
        if preset.solver.labels != "none":
            labels = "label"
            own = {**common, **keep, **_pick(solving, "votes"), **_pick(config, "defects")}
            yield labels, {**images, "questions": "write-questions", **solver}, own
    if preset.solver.questions != "written":
        bought = {"labels": "label"} if labels else {}
        labels = "recycle"
        own = {"iteration": t, "prompt_format": preset.prompt_format, **keep}
        yield labels, {"rollouts": "train-questioner", **bought}, own
    given = {"labels": labels} if labels else {"questions": "write-questions"}
    if preset.solver.answerable:
        yield "check-options", {**images, **given, **solver}, {**common, **_pick(solving, "votes")}
    if selects(preset):
        checks = {"checks": "check-options"} if preset.solver.answerable else {}
        yield "select", {**images, **given, **checks, **_texts(preset)}, _selection(preset, solving, t)
        given = {"labels": "select"}
    imitates = preset.solver.objective == "sft"
    votes = {"votes": "label"} if imitates else {}
    own = _pick(solving, "grpo", "objective", "reward_source")
    policy = {**_policy(config, draws=not imitates), **_shared(preset, "train-solver")}
    yield "train-solver", {**images, **given, **solver, **votes}, {**common, **own, **policy}
    yield "evaluate", {"model": "train-solver"}, _evaluation(preset, config)


def selects(preset: Preset) -> bool:
    """Whether the Solver trains on other questions or labels than votes and filter make by themselves."""
    solver = preset.solver
    usual = solver.labels == "majority" and solver.filter == "confidence"
    return not usual or solver.answerable or preset.step_matched is not None


def _texts(preset: Preset) -> dict[str, str]:
    """Where a selection of one's own finds what a question's writer and its voters said, where it was written
    down."""
    if preset.solver.selection_source is None or preset.solver.questions == "recycled":
        return {}
    return {"questions": "write-questions", **({} if preset.solver.labels == "none" else {"votes": "label"})}


def _selection(preset: Preset, solving: Tree, t: int) -> Tree:
    limits = preset.step_matched or ()
    at_most = {"at_most": limits[t - 1]} if t <= len(limits) else {}
    return {"seed": preset.seed, "iteration": t, **_pick(solving, *SELECTION), **at_most}
