"""What differs between two evaluations or two runs, and whether it changes what was asked or trained.

The one comparison of settings: `evaluate --against` refuses by it, `vzero-harness diff` prints it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from functools import reduce
from pathlib import Path

from pydantic import JsonValue

from harness.analysis.sides import EvaluationSide, Made, RunSide, Side
from harness.evals.results import AskedRows, Protocol, Settings
from harness.stats import Frozen
from vzero.errors import InputError
from vzero.presets import content_differences, current, differences
from vzero.runtime import artefacts

COMPARED = frozenset({"model", "checkpoint_sha256"})  # of evaluations: what is compared, not how
ROWS = frozenset({"limit", "items_per_family", "split"})  # choose rows, which are compared themselves
HARDWARE = frozenset({"machine", "device"})
LABELS = frozenset({"name", "arm"})  # of presets
PLACES = {"model": "base checkpoint", "images.source": "images"}  # of presets: what lies there is compared
PINNED = "evaluation.data_sha256"  # of a run that has not begun to measure: not yet there
_WHY = {
    # of evaluations
    "suites": "other suites",
    "profile": "other prompts and budgets",
    "engine": "the engine computes otherwise",
    "greedy": "other sampling or budget",
    "sampled": "other samples",
    "pixels": "other pictures",
    "images": "other pictures",
    "prefills": "answers begin otherwise",
    "prompt_format": "other prompts",
    "seed": "other draws",
    "cap": "other budgets",
    "thought_tokens": "other budgets",
    # of the protocol
    "dtype": "another arithmetic",
    "context": "another budget of tokens",
    "stop_tokens": "answers end elsewhere; give both the same generation_config.json",
    "never_drawn": "other tokens can be drawn",
    "chat_template": "the same words become another prompt",
    "tokens": "the same prompt becomes other tokens",
    "image_processor": "the model sees pictures otherwise",
    # of presets
    "evaluation": "other measurement",
    "rollouts": "the engine draws otherwise",
    "launch": "sums in another order",
}


class Difference(Frozen):
    """One thing that is not the same. `matters`: it changes what was asked or trained; `why` or why not, in
    words."""

    what: str
    a: JsonValue
    b: JsonValue
    matters: bool
    why: str

    def sentence(self, a: str, b: str) -> str:
        """The same in words, without a full stop."""
        return f"{self.what} is {shown(self.a)} in {a} and {shown(self.b)} in {b} ({self.why})"


def shown(value: JsonValue) -> str:
    """A value for people: a digest by its beginning."""
    if isinstance(value, str):
        return value[:8] if len(value) == 64 and value.isalnum() else value
    if isinstance(value, dict):
        return ", ".join(f"{key} {shown(one)}" for key, one in value.items())
    if isinstance(value, list):
        return ", ".join(map(shown, value))
    return "none" if value is None else str(value).lower()


def compare(a: Side, b: Side) -> list[Difference]:
    """All differences, those that matter first.

    Raises:
        InputError: a run and an evaluation that is of none of its checkpoints.
    """
    if isinstance(a, RunSide) and isinstance(b, RunSide):
        found = _of_runs(a, b)
    else:
        found = _of_evaluations(_evaluation(a, b), _evaluation(b, a))
    return sorted(found, key=lambda one: not one.matters)


def _evaluation(side: Side, other: Side) -> EvaluationSide:
    """`side` itself, or that evaluation of a run that is of the other's checkpoint."""
    if isinstance(side, EvaluationSide):
        return side
    assert isinstance(other, EvaluationSide)
    sha256, evaluated = other.settings.checkpoint_sha256, side.evaluated
    for one in evaluated.values():
        if one.settings.checkpoint_sha256 == sha256:
            return one
    if len(evaluated) == 1:
        return next(iter(evaluated.values()))
    if not evaluated:
        raise InputError(f"{side.path} is a run without a finished evaluation; finish it, or give another.")
    stages = ", ".join(str(Path("stages") / name) for name in evaluated)
    raise InputError(
        f"{side.path} is a run and the other an evaluation of none of its checkpoints; name the one in it "
        f"that is meant: {stages}."
    )


def _of_evaluations(a: EvaluationSide, b: EvaluationSide) -> Iterator[Difference]:
    known = all(set(side.settings.suites) <= side.rows.keys() for side in (a, b))
    for key, one, other in _pairs(a.settings.model_dump(mode="json"), b.settings.model_dump(mode="json")):
        matters, why = _setting(key, (a.settings, b.settings), known)
        yield Difference(what=key, a=one, b=other, matters=matters, why=why)
    yield from _of_asking(a, b)
    yield from _of_makers(a.made, b.made)


def _setting(key: str, both: tuple[Settings, Settings], rows_known: bool) -> tuple[bool, str]:
    """Whether a setting of an evaluation matters, and why."""
    stock = any(one.profile == "stock" for one in both)
    if key in COMPARED:
        return False, "this is what is compared"
    if key in ROWS:
        return not rows_known, "the rows that were asked decide" if rows_known else "other rows are asked"
    if key == "seed" and not stock and all(one.sampled is None for one in both):
        return False, "greedy answers draw nothing"
    if key in ("cap", "thought_tokens") and not stock:
        return False, "for lmms-eval's own tasks alone"
    return True, _why(key)


def _why(key: str) -> str:
    return _WHY.get(key.partition(".")[0], "other training")


def _of_asking(a: EvaluationSide, b: EvaluationSide) -> Iterator[Difference]:
    """What checkpoint and machine added, and what was really asked."""
    yield from _of_protocols(a.protocol, b.protocol, {a.settings.engine, b.settings.engine})
    kinds = {"rows": "other rows", "prompts": "other prompts", "pictures": "other pictures"}
    if "stock" in (a.settings.profile, b.settings.profile):
        kinds["sampling"] = "other sampling or budgets"
    suites = [one for one in a.settings.suites if one in b.settings.suites]
    for kind, why in kinds.items():
        other: dict[str, tuple[str, str]] = {}
        unknown = []
        for suite in suites:
            ours, theirs = (_digest(side.rows.get(suite), kind) for side in (a, b))
            if ours is None or theirs is None:
                unknown.append(suite)
            elif ours != theirs:
                other[suite] = (ours, theirs)
        if other:
            one, two = (artefacts.digest(digests) for digests in zip(*other.values(), strict=True))
            yield Difference(what=f"{kind} of {_few(other)}", a=one, b=two, matters=True, why=why)
            suites = [suite for suite in suites if suite not in other]  # all else follows from it
        if unknown:
            recorded = (all(_digest(side.rows.get(suite), kind) for suite in unknown) for side in (a, b))
            yield _unknown(f"{kind} of {_few(unknown)}", *recorded)


def _digest(rows: AskedRows | None, kind: str) -> str | None:
    return None if rows is None else getattr(rows, kind)


def _few(suites: Collection[str]) -> str:
    return ", ".join(suites) if len(suites) < 4 else f"{len(suites)} suites"


def _unknown(what: str, a: object, b: object) -> Difference:
    """Of something that is not recorded on both sides."""
    recorded = {True: "recorded", False: "not recorded"}
    why = "whether they agree is not known"
    return Difference(what=what, a=recorded[bool(a)], b=recorded[bool(b)], matters=False, why=why)


def _of_protocols(a: Protocol | None, b: Protocol | None, engines: set[str]) -> Iterator[Difference]:
    if a is None or b is None:
        yield _unknown("protocol", a, b)  # dtype, stop tokens, chat template, image processor
        return
    # The remark on the stop tokens, and what follows from them.
    follows = {"repaired", *(["never_drawn"] if a.stop_tokens != b.stop_tokens else [])}
    ours, theirs = (each.model_dump(mode="json", exclude=follows) for each in (a, b))
    for key, one, other in _pairs(ours, theirs):
        if key in ("dtype", "context") and None in (one, other):  # of servers elsewhere, or not stated
            yield _unknown(key, one, other)
            continue
        unused = key == "context" and engines == {"transformers"}
        why = "hardware" if key in HARDWARE else "only vLLM keeps to it" if unused else _why(key)
        matters = key not in HARDWARE and not unused
        yield Difference(what=key, a=one, b=other, matters=matters, why=why)


def _of_runs(a: RunSide, b: RunSide) -> Iterator[Difference]:
    ours, theirs = current(a.preset), current(b.preset)
    content = set(content_differences(ours, theirs))
    for key, one, other in _pairs(ours, theirs):
        place = PLACES.get(key, "")
        if key == PINNED and None in (one, other):
            yield _unknown(key, one, other)
            continue
        if key in LABELS:
            matters, why = False, "a name"
        elif key not in content:
            matters, why = False, "where and how, not what"
        elif place in a.content and a.content[place] == b.content.get(place):
            matters, why = False, "what lies there is the same"
        else:
            matters, why = True, _why(key)
        yield Difference(what=key, a=one, b=other, matters=matters, why=why)
    for what in sorted({*a.content, *b.content}):
        mine, its = a.content.get(what), b.content.get(what)
        if mine is None or its is None:
            yield _unknown(what, mine, its)
        elif mine != its:
            yield Difference(what=what, a=mine, b=its, matters=True, why="another content")
    for stage in [stage for stage in a.evaluated if stage in b.evaluated][:1]:  # the others are asked alike
        for found in _of_asking(a.evaluated[stage], b.evaluated[stage]):
            yield found.model_copy(update={"what": f"evaluation: {found.what}"})
    yield from _of_makers(a.made, b.made)


def _of_makers(a: Made, b: Made) -> Iterator[Difference]:
    """What made them: versions and the machine."""
    if not (a and b):
        yield _unknown("versions", a, b)
        return
    for name in dict.fromkeys((*a, *b)):
        if a.get(name) != b.get(name):
            why = "hardware" if name in HARDWARE else "a version"
            yield Difference(what=name, a=a.get(name), b=b.get(name), matters=False, why=why)


def _pairs(
    a: Mapping[str, JsonValue], b: Mapping[str, JsonValue]
) -> Iterator[tuple[str, JsonValue, JsonValue]]:
    """(dotted key, value there, value here) of settings that differ."""
    for key in differences(a, b):
        yield key, _at(a, key), _at(b, key)


def _at(tree: Mapping[str, JsonValue], dotted: str) -> JsonValue:
    found: JsonValue = dict(tree)
    return reduce(lambda at, part: at.get(part) if isinstance(at, dict) else None, dotted.split("."), found)
