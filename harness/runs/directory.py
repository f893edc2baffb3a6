"""Opening a run directory: a new one is created, one of the same config is resumed, anything else is
refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pydantic import ValidationError

from harness.runs import folder as folders
from harness.runs import ledger
from harness.runs.folder import RECORD, FolderKind, OpenFolder, Settings
from vzero.config import Preset
from vzero.presets import content_differences, differences
from vzero.runtime import artefacts

RESULTS = "results.json"
CONTENT = (RESULTS, "report.md", "report.html", "stages", "logs", "nodes", ledger.NAME)
RUN = FolderKind("a run directory", "a run", "preset", CONTENT)


@contextmanager
def opened(folder: Path, preset: Preset, command: str, fresh: bool = False) -> Iterator[OpenFolder]:
    """Create or resume the run in `folder` and hold its lock.

    Args:
        command: recorded in the ledger.
        fresh: delete what an earlier run left in `folder` first; whatever a run does not write is left alone.

    Raises:
        InputError: not a run directory, another config, another run working in it, or not writable.
    """
    wanted = preset.model_dump(mode="json")
    with folders.opened(folder, RUN, wanted, fresh, _changed) as found:
        record = RUN.read(folder)
        if differences(
            _current(record["preset"]), wanted
        ):  # where servers are, and the like: stages read it here
            artefacts.write_json(folder / RECORD, {**record, "preset": wanted})
        ledger.append(
            folder, {"event": "run-started" if found.created else "run-resumed", "command": command}
        )
        yield found


def _changed(stored: Settings, wanted: Settings) -> list[str]:
    return content_differences(_current(stored), wanted)


def _current(stored: Settings) -> Settings:
    """A stored preset with the settings that came into the program since, at their defaults."""
    with suppress(ValidationError):
        return Preset.model_validate(stored).model_dump(mode="json")
    return stored
