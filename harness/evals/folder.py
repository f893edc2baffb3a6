"""The folder of an evaluation: created or resumed when it belongs to the same settings, refused otherwise.

run.json (settings, where from), items/<suite>.jsonl (what is asked and its gold), pins/<suite>.json (digests
of the rows), responses/<suite>.jsonl, lmms_eval/<suite>.json (its own numbers), decontamination.json where
asked for, results.json, results.md, items.scored.jsonl. `work/` and `data/` can be made again.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from harness.runs import folder as folders
from harness.runs.folder import FolderKind, OpenFolder

CONTENT = (
    "results.json",
    "results.md",
    "items.scored.jsonl",
    "decontamination.json",
    "extractions.jsonl",
    "against.json",
    "responses",
    "lmms_eval",
    "items",
    "pins",
    "data",
    "work",
)
EVALUATION = FolderKind("the folder of an evaluation", "an evaluation", "evaluation", CONTENT)
read = EVALUATION.read


def opened(folder: Path, settings: dict[str, Any], fresh: bool) -> AbstractContextManager[OpenFolder]:
    """Create or resume the evaluation in `folder` and hold its lock; see `harness.runs.folder.opened`."""
    return folders.opened(folder, EVALUATION, settings, fresh)
