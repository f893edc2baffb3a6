"""Run folders -> their results, read tolerantly: an evaluation alone, an older format or an unfinished run
says less and is still read. A newer format, and what has another shape than was written, is refused."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.analysis import evaluations
from harness.analysis.outcomes import Outcomes, decode
from vzero.errors import InputError
from vzero.runtime import artefacts

RESULTS = "results.json"
FORMAT = 1  # of harness.analysis.results, which is not imported here: it would load what makes results
DEFAULT_ARM = "v-zero"


@dataclass(frozen=True)
class Loaded:
    """One run's results.

    Attributes:
        name: of its folder, for people.
        arm: which method trained it.
        items: outcomes of every item; empty where the results hold sums only.
        folder: where its stages would be.
    """

    name: str
    arm: str
    seed: int
    results: Mapping[str, Any]
    items: Outcomes
    folder: Path

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What runs of one arm share: they may differ in their seed only."""
        return (
            str(self.results.get("preset", "")),
            self.arm,
            str(self.results.get("model", "")),
            str(self.results.get("split", "")),
        )


def load(paths: Sequence[Path]) -> list[Loaded]:
    """The runs in `paths`, each a run folder, a results.json, or a folder with runs somewhere below it.

    Raises:
        InputError: nothing to read, a file that is no results object or of a newer format, or the same arm
            and seed twice.
    """
    found = [_read(path) for path in dict.fromkeys(one.resolve() for path in paths for one in _files(path))]
    known: dict[tuple[Any, ...], Loaded] = {}
    for run in found:
        same = known.setdefault((*run.key, run.seed), run)
        if same is not run:
            raise InputError(
                f"{run.folder} and {same.folder} are the same arm ({run.arm}) with the same seed {run.seed}; give each once."
            )
    return found


def _files(path: Path) -> Iterable[Path]:
    if path.is_file():
        return [path]
    if (path / RESULTS).is_file():
        return [path / RESULTS]
    below = (
        sorted(one for one in path.rglob(RESULTS) if "stages" not in one.relative_to(path).parts)
        if path.is_dir()
        else []
    )
    if not below:
        raise InputError(
            f"{path} has no {RESULTS}, and no folder below it has one; give finished runs (vzero-harness reproduce)."
        )
    return below


def _check(results: Mapping[str, Any]) -> None:
    """Raise TypeError unless the parts that a comparison goes into are what `harness.analysis.results.build`
    makes of them."""
    shapes = [(results["suites"], dict), (results["models"], list), (results["metrics"], list)]
    shapes += [
        (results.get(key) or {}, dict)
        for key in ("gains", "images", "training", "average", "expected", "missing", "items")
    ]
    shapes += [(results.get("warnings") or [], list)]
    shapes += [
        (one, dict) for key in ("suites", "training", "gains") for one in (results.get(key) or {}).values()
    ]
    shapes += [(name, str) for name in (*results["models"], *results["metrics"])]
    if not all(isinstance(value, shape) for value, shape in shapes):
        raise TypeError


def _read(path: Path) -> Loaded:
    try:
        results, items = artefacts.read_json(path), None
        if evaluations.is_evaluation(results):
            results = evaluations.as_results(results, path.parent.name)
            items = evaluations.items(path.parent, results["suites"])
        if results.get("format", FORMAT) > FORMAT:
            raise InputError(
                f"{path} is of format {results['format']}, newer than this version reads ({FORMAT}); install a newer one."
            )
        _check(results)
        items = decode(results.get("items") or {}) if items is None else items
        arm, seed = results.get("arm") or DEFAULT_ARM, results.get("seed", 0)
        name = arm if isinstance(arm, str) else str(arm["name"])
        if not isinstance(seed, int):
            raise TypeError
    except (KeyError, TypeError, ValueError, AttributeError):
        raise InputError(
            f"{path} is not the results of a run or of an evaluation; evaluate that checkpoint anew."
        ) from None
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.") from None
    return Loaded(path.parent.name or str(path.parent), name, seed, results, items, path.parent)
