"""Opening a run directory: a new one is created, one of the same config is resumed, anything else is
refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.runs import folder as folders
from harness.runs import ledger
from harness.runs.folder import RECORD, FolderKind, OpenFolder
from vzero.config import Preset
from vzero.presets import content_differences, current, differences
from vzero.prompts import questioner_messages, solver_messages
from vzero.runtime import artefacts
from vzero.runtime.checkpoints import plain_name

RESULTS = "results.json"
TRACKED = ("tracked.json", "tensorboard")  # what `harness.report.track` writes; wandb's folder is its own
CONTENT = (RESULTS, "report.md", "report.html", "stages", "logs", "ranks", ledger.NAME, *TRACKED)
SEALED = ("stages", "logs", "ranks", ledger.NAME)
RUN = FolderKind(
    "a run directory", "a run", "preset", CONTENT, SEALED, (ledger.NAME, "stages/*/manifest.json")
)


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
    with folders.opened(folder, RUN, wanted, fresh, content_differences) as found:
        record = RUN.read(folder)
        if found.created:
            record["prompts"] = _prompts(preset.prompt_format)
            record["model"] = plain_name(preset.model)  # a folder and one of the hub may be written alike
        # Where servers are, and the like, may have changed: stages read it here.
        if found.created or differences(current(record["preset"]), wanted):
            artefacts.write_json(folder / RECORD, {**record, "preset": wanted})
        ledger.append(
            folder, {"event": "run-started" if found.created else "run-resumed", "command": command}
        )
        yield found


def _prompts(prompt_format: str) -> dict[str, str]:
    """Digests of what both roles are asked, so that a change of the words shows between runs."""
    asked = {"questioner": questioner_messages(prompt_format), "solver": solver_messages(prompt_format, "")}
    return {
        role: artefacts.digest([[one.role, one.text] for one in messages]) for role, messages in asked.items()
    }
