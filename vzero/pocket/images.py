"""The pocket world as a folder of pictures, with its truth in a file beside them that no training stage
opens."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from vzero.pocket.world import SIDE, draw, scene_to_json
from vzero.runtime import artefacts


def write(folder: Path, seed: int, count: int) -> list[dict[str, Any]]:
    """Draw `count` training images into `folder`/images as PNG and their scenes into
    `folder`/ground_truth.jsonl.

    Returns:
        Rows of `images.jsonl`: image_id, path (relative to `folder`), sha256, width, height.
    """
    rows, shadow = [], []
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for index in range(count):
        image_id = f"pocket-{seed}-{index:05d}"
        path = folder / "images" / f"{image_id}.png"
        image, scene = draw(seed, index)
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        path.write_bytes(
            buffer.getvalue()
        )  # not synced one by one: a stage that was killed draws them all again before it is sealed
        rows.append(
            {
                "image_id": image_id,
                "path": f"images/{path.name}",
                "sha256": artefacts.sha256_file(path),
                "width": SIDE,
                "height": SIDE,
            }
        )
        shadow.append({"image_id": image_id, "scene": scene_to_json(scene)})
    artefacts.write_jsonl(folder / "ground_truth.jsonl", shadow)
    return rows
