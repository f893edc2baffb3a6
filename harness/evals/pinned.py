"""The data of a preset's benchmarks, pinned: its place made absolute, its content written down."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.evals.catalogue import Suite, asked
from vzero.config import Preset
from vzero.errors import InputError
from vzero.presets import changed
from vzero.runtime import artefacts


def pinned(preset: Preset, scratch: Path) -> Preset:
    """`preset` with the place of its benchmark data made absolute, and the digest of its rows and pictures.

    Args:
        scratch: for a local copy in its authors' layout, which is converted to be read.

    Raises:
        InputError: the data is not there, faulty, or not what the preset states.
    """
    place, stated = Path(preset.evaluation.data).expanduser().absolute(), preset.evaluation.data_sha256
    found = digest(asked(preset.evaluation), place, scratch)
    if found is None:
        return preset
    if stated not in (None, found):
        raise InputError(
            f"The rows in {place} are not those of evaluation.data_sha256; restore the data, or leave that "
            "setting out."
        )
    return changed(preset, {"evaluation.data": str(place), "evaluation.data_sha256": found})


def digest(suites: Sequence[Suite], place: Path, scratch: Path) -> str | None:
    """Hex SHA-256 over every row of the benchmarks among `suites`, pictures included, and over what is set
    aside, by suite and id; None where there are none."""
    benchmarks = [suite for suite in suites if not suite.drawn]
    if not benchmarks:
        return None
    from harness.evals import rows  # scipy and more, of which a run of drawn suites needs nothing so early

    return artefacts.digest(
        {suite.name: rows.pins_of(rows.open_parts(suite, place, scratch)).content for suite in benchmarks}
    )
