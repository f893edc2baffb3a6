"""The stage that chooses a run's unlabeled images, out of the pocket world, a folder, or tables.

File names say nothing to the method, and metadata (EXIF, captions, ratings) is never read, so no label can
leak in. Every picture is decoded once here; one that is broken, truncated, too large or a copy of an earlier
one is skipped and named in `skipped.json`. Later stages open pictures by `records.open_image`, which refuses
bytes that are no longer the ones this stage saw.
"""

from __future__ import annotations

from typing import Any

from vzero.errors import InputError
from vzero.images import folder, tables
from vzero.images.decoding import shown
from vzero.images.records import seen_size
from vzero.images.usable import usable
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
    skipped: list[dict[str, str]] = []
    if config.source == "pocket":
        rows = write(context.folder, context.preset.seed, config.count)
        context.progress.update(len(rows), config.count, "images")
    elif tables.is_table(config.source):
        rows, skipped = usable(tables.pictures(config), config, context.progress, context.folder)
        hint = "name the column by images.column"
    else:
        rows, skipped = usable(folder.pictures(config), config, context.progress, None)
        hint = "give --images a folder with JPEG, PNG, WebP, BMP, GIF or TIFF files"
    if not rows:
        raise InputError(f"No usable picture in {shown(config.source)} ({len(skipped)} skipped); {hint}.")
    if config.shrink_megapixels is not None:
        rows = [_shrunk(row, config.shrink_megapixels * 1e6) for row in rows]
    artefacts.write_jsonl(context.folder / "images.jsonl", rows)
    artefacts.write_json(context.folder / "skipped.json", {"skipped": skipped})
    return {"images": len(rows), "skipped": len(skipped)}


def _shrunk(row: dict[str, Any], pixels: float) -> dict[str, Any]:
    """`row`, with the size to shrink its picture to where that has more than so many pixels."""
    size = seen_size(row["width"], row["height"], pixels)
    return row if size == (row["width"], row["height"]) else {**row, "seen": list(size)}
