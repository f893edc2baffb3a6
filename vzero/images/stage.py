"""The stage that chooses a run's unlabeled images, out of the pocket world, a folder, or tables.

File names say nothing to the method, and of metadata only EXIF's orientation is read (no captions, no
ratings), so no label can leak in. Every file is looked at once here; one that is no picture, broken, too
large, too narrow or a copy of an earlier one is skipped and named in `skipped.json`. Later
stages open pictures by `records.open_image`, which refuses bytes that are no longer the ones this stage saw.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vzero.errors import InputError
from vzero.images import folder, tables
from vzero.images.decoding import formats, shown
from vzero.images.records import seen_size
from vzero.images.usable import Chosen, summary, usable
from vzero.pocket.images import write
from vzero.runtime import artefacts
from vzero.runtime.stage import StageContext


def run(context: StageContext) -> dict[str, Any]:
    """Write `images.jsonl` and `skipped.json` (and, for the pocket world, the pictures and their ground
    truth).

    Raises:
        InputError: the source cannot be read, or holds no usable picture.
    """
    config, hint = context.preset.images, ""
    if config.source == "pocket":
        chosen = Chosen(write(context.folder, context.preset.seed, config.count))
        context.progress.update(len(chosen.rows), config.count, "images")
    elif tables.is_table(config.source):
        chosen = usable(tables.pictures(config), config, context.progress, context.folder)
        hint = "name the column by images.column"
    else:
        found = folder.pictures(Path(config.source), config.max_megapixels * 1e6)
        chosen = usable(found, config, context.progress, None)
        hint = f"give --images a folder with pictures ({', '.join(formats()).replace('HEIF', 'HEIC')})"
    rows, skipped = chosen.rows, chosen.skipped
    if not rows:
        why = f": {summary(skipped)}" if skipped else ""
        raise InputError(
            f"No usable picture in {shown(config.source)} ({len(skipped)} skipped){why}; {hint}."
        )
    if config.shrink_megapixels is not None:
        rows = [_shrunk(row, config.shrink_megapixels * 1e6) for row in rows]
    artefacts.write_jsonl(context.folder / "images.jsonl", rows)
    report = {"skipped": skipped, "notes": chosen.notes, "stopped_after": chosen.stopped_after}
    artefacts.write_json(context.folder / "skipped.json", report)
    facts: dict[str, Any] = {"images": len(rows), "skipped": len(skipped)}
    named = (("", skipped), ("used all the same: ", chosen.notes))
    if said := [what + summary(files) for what, files in named if files]:
        facts["note"] = "; ".join([*said, "all by name in skipped.json"])
    return facts


def _shrunk(row: dict[str, Any], pixels: float) -> dict[str, Any]:
    """`row`, with the size to shrink its picture to where that has more than so many pixels."""
    size = seen_size(row["width"], row["height"], pixels)
    return row if size == (row["width"], row["height"]) else {**row, "seen": list(size)}
