"""Run folders -> their results. An evaluation alone and an unfinished run say less and are read as well."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from harness.analysis.items import Answers, Values, decode
from harness.analysis.results import FILE, Results, parse_results, read_json
from vzero.errors import InputError


@dataclass(frozen=True)
class Loaded:
    """One run's results.

    Attributes:
        name: of its folder, for people.
        arm: which method trained it.
        folder: where its stages would be.
    """

    name: str
    arm: str
    results: Results
    folder: Path

    @property
    def seed(self) -> int:
        """Of the training."""
        return self.results.seed

    @cached_property
    def items(self) -> dict[str, dict[str, Answers]]:
        """What each checkpoint made of every item, by suite."""
        return decode(self.results.items)

    def values(self, suite: str, checkpoint: str, metric: str) -> Values:
        """What one checkpoint made of each item; empty where it was not measured."""
        found = self.items.get(suite, {}).get(checkpoint)
        return found.values(metric, self.results.samples) if found else Values((), (), ())

    @property
    def key(self) -> tuple[str, str, str, str]:
        """(preset, arm, model, split): what runs of one arm share; they differ in their seed only."""
        return (self.results.preset, self.arm, self.results.model, self.results.split)


def load(paths: Sequence[Path]) -> list[Loaded]:
    """The runs in `paths`, each a run folder, a results.json, or a folder with runs somewhere below it.

    Raises:
        InputError: nothing to read, a file that is no results object of this version, or the same arm and
            seed twice.
    """
    files = dict.fromkeys(one.resolve() for path in paths for one in _files(path))
    collecting = gc.isenabled()
    gc.disable()  # these are trees: the search for cycles in them takes as long as reading them
    try:
        found = [_read(path) for path in files]
        gc.freeze()  # nor do later searches look at them
    finally:
        (gc.enable if collecting else gc.disable)()
    known: dict[tuple[object, ...], Loaded] = {}
    for run in found:
        same = known.setdefault((*run.key, run.seed), run)
        if same is not run:
            raise InputError(
                f"{run.folder} and {same.folder} are the same arm ({run.arm}) with the same seed {run.seed}; "
                "give each once."
            )
    return found


def _files(path: Path) -> Iterable[Path]:
    if path.is_file():
        return [path]
    if (path / FILE).is_file():
        return [path / FILE]
    below = sorted(one for one in path.rglob(FILE) if "stages" not in one.relative_to(path).parts)
    if not below:
        raise InputError(
            f"{path} has no {FILE}, and no folder below it has one; give finished runs (vzero-harness "
            "reproduce)."
        )
    return below


def _read(path: Path) -> Loaded:
    found = read_json(path)
    if isinstance(found, dict) and isinstance(found.get("evaluation"), dict):
        from harness.analysis import evaluations

        results = evaluations.as_results(path)
    else:
        results = parse_results(found, str(path))
    run = Loaded(path.parent.name or str(path.parent), results.arm, results, path.parent)
    try:
        _ = run.items  # columns of different lengths are found here, not in the middle of a table
    except ValueError:
        raise InputError(
            f"{path} has columns of different lengths in its items; evaluate that run anew."
        ) from None
    return run
