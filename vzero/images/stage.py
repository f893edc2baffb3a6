"""Unlabeled images: the stage that chooses and checks them, and the one way every later stage opens them.

`images.source` is "pocket" (scenes are drawn), a folder of pictures, searched recursively in the order of its
paths, or a table with an image column (`vzero.images.tables`). File names say
nothing to the method, and embedded metadata (EXIF, captions, ratings) is never read, so no label can leak in.
Every picture is decoded once here; one that is broken, truncated, too large or a copy of an earlier one is
skipped and named in `skipped.json`. Later stages open pictures by `open_image`, which refuses bytes that are
no longer the ones this stage saw.
"""

from __future__ import annotations

from typing import Any

from vzero.images import folder, tables
from vzero.images.records import seen_size
from vzero.runtime import artefacts
from vzero.runtime.stage import StageContext


def run(context: StageContext) -> dict[str, Any]:
    """The images stage: writes `images.jsonl` and `skipped.json` (and, for the pocket world, the pictures and
    their shadow).

    Raises:
        InputError: the folder cannot be read, or holds no usable picture.
    """
    config = context.preset.images
    if config.source == "pocket":
        from vzero.pocket.images import write

        rows, skipped = write(context.folder, context.preset.seed, config.count), []
        context.progress.update(len(rows), config.count, "images")
    elif tables.is_table(config.source):
        rows, skipped = tables.collect(context, config)
    else:
        rows, skipped = folder.collect(context, config)
    if config.shrink_megapixels is not None:
        rows = [_shrunk(row, config.shrink_megapixels * 1e6) for row in rows]
    artefacts.write_jsonl(context.folder / "images.jsonl", rows)
    artefacts.write_json(context.folder / "skipped.json", {"skipped": skipped})
    return {"images": len(rows), "skipped": len(skipped)}


def _shrunk(row: dict[str, Any], pixels: float) -> dict[str, Any]:
    """`row`, with the size to shrink its picture to where that has more than so many pixels."""
    width, height = seen_size(row["width"], row["height"], pixels)
    return row if (width, height) == (row["width"], row["height"]) else {**row, "seen": [width, height]}
