"""How long a run still takes: what its stages have to do, counted from the preset, at the speed measured so
far.

What a stage costs is written in reference seconds: those of the pocket world on two quiet cores. Only their
ratios matter, since every forecast is scaled by what the stages took here. Answers of real models are longer
than the pocket's, all of them by about as much, so the same ratios serve them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from harness.runs.fork_server import can_fork
from harness.runs.progress import Position
from harness.runs.supervise import is_forked
from vzero.config import Preset
from vzero.grpo.settings import plan_batches
from vzero.runtime import artefacts
from vzero.selfplay import MEASUREMENTS, Stage

# What a stage takes around its work. One that is started anew imports first; of those that are forked
# (fork_server.py) the first alone waits for the imports.
START = {"images": 0.5, "select": 0.5, "recycle": 0.5, "evaluate": 12.0, "probe": 12.0}
START |= {"train-questioner": 13.0, "train-solver": 13.0}
FORKED = {**START, "evaluate": 5.0, "probe": 5.0, "train-questioner": 1.5, "train-solver": 1.5}
OTHER_START, OTHER_FORKED = 9.0, 1.0  # of a stage that loads one model
IMPORTS = 13.0
PICTURE, QUESTION, ANSWER, TRAINED = 0.0024, 0.004, 0.0013, 0.007  # of each; TRAINED: a completion
VALID, KEPT = 0.95, 0.5  # shares of the written questions, until they are known
BENCHMARK, FAMILIES = 1000, 6  # items of a benchmark and families of a pocket suite, until they are known
FADING = 0.5
TRUSTED = 0.5  # share of its steps after which a stage is forecast by their rate alone: they come in batches
Facts = Mapping[str, object]


@dataclass(frozen=True)
class Cost:
    """Reference seconds of a stage: until it works, and at work."""

    kind: str
    start: float
    work: float


@dataclass(frozen=True)
class Running:
    """The stage that runs: its seconds so far, and where it is, None while it starts."""

    key: str
    seconds: float
    position: Position | None = None


@dataclass
class Forecast:
    """Time left of the runs that were added. Stages that several runs share are counted once, as a grid does
    them.

    Attributes:
        at_once: how many stages of a run are alive together (see concurrency.py).
        workers: processes that do the runs which were added, this one included.
        forking: whether stages are forked here.
        imported: whether what they import was, or is being.
    """

    at_once: int = 1
    workers: int = 1
    forking: bool = field(default_factory=can_fork)
    imported: bool = False
    _runs: dict[str, tuple[Preset, Sequence[Stage], Mapping[str, str]]] = field(default_factory=dict)
    _taken: dict[str, float] = field(default_factory=dict)
    _facts: dict[str, Facts] = field(default_factory=dict)
    _counted: dict[str, Cost] | None = None
    _first: str | None = None  # the stage that waited for that

    def add(self, name: str, preset: Preset, stages: Sequence[Stage]) -> dict[str, str]:
        """The run `name` has to do `stages`, whatever was said of it before; the key of each by its name."""
        keys: dict[str, str] = {}
        for stage in stages:
            inputs = {role: keys.get(source, source) for role, source in stage.inputs.items()}
            keys[stage.name] = artefacts.digest([stage.kind, stage.iteration, stage.config, inputs])
        self._runs[name], self._counted = (preset, stages, keys), None
        return keys

    def drop(self, name: str) -> None:
        """Nothing more is done here for the run `name`: it failed, or is another process's."""
        self._runs.pop(name, None)
        self._counted = None

    def began(self, key: str) -> None:
        """This process begins a stage."""
        if self.forking and not self.imported and self._costs[key].kind != "images":
            self.imported, self._first, self._counted = True, key, None

    def finished(self, key: str, seconds: float, facts: Facts) -> None:
        """A stage took `seconds`; its facts say how much others have to do."""
        self._taken[key], self._facts[key], self._counted = seconds, facts, None

    @property
    def _costs(self) -> dict[str, Cost]:
        if self._counted is None:
            self._counted = {
                keys[stage.name]: self._cost(preset, stage, keys)
                for preset, stages, keys in self._runs.values()
                for stage in stages
            }
        return self._counted

    def _cost(self, preset: Preset, stage: Stage, keys: Mapping[str, str]) -> Cost:
        if self.forking and is_forked(preset, stage):
            start = FORKED.get(stage.kind, OTHER_FORKED)
            start += IMPORTS if keys[stage.name] == self._first else 0.0
        else:
            start = START.get(stage.kind, OTHER_START)
        return Cost(stage.kind, start, self._work(preset, stage, keys))

    def _work(self, preset: Preset, stage: Stage, keys: Mapping[str, str]) -> float:
        images, asked, solver = preset.images.count, preset.questioner, preset.solver
        written = images * asked.per_image
        if stage.kind == "images":
            return images * PICTURE
        if stage.kind in MEASUREMENTS:
            return ANSWER * self._answers(preset)
        if stage.kind == "train-questioner":
            batches = plan_batches(asked.grpo, images)
            each = TRAINED + (ANSWER * VALID * asked.votes.n if asked.reward_source is None else 0.0)
            return each * batches.prompts_used * batches.group_size
        if stage.kind == "write-questions":
            return QUESTION * written
        if stage.kind == "train-solver":
            kept = self._facts.get(keys.get(stage.inputs.get("labels", ""), ""), {}).get("kept")
            batches = plan_batches(solver.grpo, kept if isinstance(kept, int) else int(KEPT * written))
            return TRAINED * batches.prompts_used * batches.group_size
        asks = {"choose-images": images, "label": VALID * written, "check-options": KEPT * written}
        return ANSWER * solver.votes.n * asks.get(stage.kind, 0.0)

    def _answers(self, preset: Preset) -> float:
        """Of one evaluation: as many as another had, else as the preset lets expect."""
        for facts in self._facts.values():
            counted = facts.get("answers")
            if isinstance(counted, int) and counted:
                return counted
        wanted = preset.evaluation
        drawn = sum(suite.startswith("pocket_") for suite in wanted.suites)
        others = (len(wanted.suites) - drawn) * (wanted.limit or BENCHMARK)
        return (1 + wanted.sampled.n) * (drawn * FAMILIES * wanted.items_per_family + others)

    def left(self, run: str, *running: Running) -> tuple[float, float] | None:
        """Seconds until `run` is done, whose stages are `running`, and until all runs are; None until
        anything was measured."""
        general = self._ratio(None, running)
        if general is None:
            return None
        rest = dict.fromkeys(self._taken, 0.0) | {one.key: self._rest(one, general) for one in running}
        own = self._span(run, rest, general)
        if own and self.forking and not self.imported:
            own += general * IMPORTS
        others = sum(self._span(name, rest, general) for name in self._runs if name != run)
        return own, own + others / self.workers

    def _span(self, run: str, rest: dict[str, float], general: float) -> float:
        """Seconds from now to the end of a run; `rest`: of stages, where it is known. Its own join them as
        done: other runs have them then."""
        _, stages, keys = self._runs[run]
        ends: dict[str, float] = {}  # seconds from now to each stage's end
        for stage in stages:
            key, before = keys[stage.name], [ends.get(source, 0.0) for source in stage.inputs.values()]
            if self.at_once == 1:
                before = list(ends.values())[-1:]
            cost = self._costs[key]
            own = rest.setdefault(key, self._pace(cost.kind, general) * (cost.start + cost.work))
            ends[stage.name] = own + max(before, default=0.0)
        rest |= dict.fromkeys(keys.values(), 0.0)
        return max(ends.values(), default=0.0)

    def share(self, keys: Iterable[str], *running: Running) -> float:
        """How much of the stages with these keys is done, 0 to 1."""
        done, total, at = 0.0, 0.0, {one.key: one.position for one in running}
        for key in keys:
            cost, position = self._costs[key], at.get(key)
            whole, part = cost.start + cost.work, position.share if position else 0.0
            done += whole if key in self._taken else cost.start * (part > 0) + cost.work * part
            total += whole
        return done / total if total else 0.0

    def _ratio(self, kind: str | None, running: Sequence[Running]) -> float | None:
        """Seconds here over reference seconds: of the last stage of a kind, or of all that was done, of which
        a stage counts half as much as the one after it: other work on the machine comes and goes."""
        seconds = reference = 0.0
        for key, taken in self._taken.items():
            cost = self._costs.get(key)
            if cost is not None and (kind is None or _alike(kind, cost.kind)):
                fading = FADING if kind is None else 0.0
                seconds = fading * seconds + taken
                reference = fading * reference + cost.start + cost.work
        for now in running:
            cost, share = self._costs[now.key], now.position.share if now.position else 0.0
            begun = cost.start + share * cost.work
            # Before a stage ends its first step it may be anywhere in its start: then only slowness counts.
            if share or (reference and now.seconds > begun * seconds / reference):
                seconds, reference = seconds + now.seconds, reference + begun
        return seconds / reference if reference else None

    def _pace(self, kind: str, general: float) -> float:
        """Seconds over reference seconds that a stage will take: halfway between those of the last one of
        its kind, which know the kind, and those of late, which know the machine."""
        own = self._ratio(kind, ())
        return general if own is None else math.sqrt(own * general)

    def _rest(self, now: Running, general: float) -> float:
        """Of the stage that runs: what is left of a stage of its kind, and more and more what its own steps
        say."""
        cost, position = self._costs[now.key], now.position
        pace, share = self._pace(cost.kind, general), position.share if position else 0.0
        # How a stage's time divides into start and work is known worst of all.
        expected = max((1 - share) * pace * cost.work, pace * (cost.start + cost.work) - now.seconds)
        if position is None or position.whole is None:
            return expected
        trust = min(1.0, share / TRUSTED) ** 2
        return (1 - trust) * expected + trust * (1 - share) * position.whole


def _alike(kind: str, other: str) -> bool:
    """Whether two kinds of stage do the same work."""
    return kind == other or {kind, other} <= MEASUREMENTS
