"""The pocket world as a folder of pictures, the ground truth in a file that no training stage opens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vzero.pocket.world import SIDE, draw, scene_to_json
from vzero.runtime import artefacts


def write(folder: Path, seed: int, count: int) -> list[dict[str, Any]]:
    """Draw `count` training images as PNG into `folder`/images, their scenes into ground_truth.jsonl.

    Returns:
        Rows of `images.jsonl`: image_id, path (relative to `folder`), sha256, width, height.
    """
    rows, scenes = [], []
    (folder / "images").mkdir(parents=True, exist_ok=True)
    for index in range(count):
        image_id = f"pocket-{seed}-{index:05d}"
        path = f"images/{image_id}.png"
        image, scene = draw(seed, index)
        # Not synced one by one: a stage that was killed draws them all again before it is sealed.
        image.save(folder / path)
        digest = artefacts.sha256_file(folder / path)
        rows.append({"image_id": image_id, "path": path, "sha256": digest, "width": SIDE, "height": SIDE})
        scenes.append({"image_id": image_id, "scene": scene_to_json(scene)})
    artefacts.write_jsonl(folder / "ground_truth.jsonl", scenes)
    return rows
