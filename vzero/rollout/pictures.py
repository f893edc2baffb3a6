"""Pictures as a vision tower takes them, each processed once, ahead of need and off the calling thread.

A generation batch needs each of its pictures several times: drawn for, and in every micro-batch that holds a
completion about it. Resizing and cutting one of a megapixel takes about 50 ms of CPU and makes 24 MB.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor


@dataclass(frozen=True)
class Patches:
    """A picture: its patches (patches, pixels of one) float32 on the CPU, and its grid (3,) int64."""

    pixels: Tensor
    grid: Tensor


def together(patches: Sequence[Patches]) -> dict[str, Tensor]:
    """Pictures as one call of the processor returns them."""
    return {
        "pixel_values": torch.cat([one.pixels for one in patches]),
        "image_grid_thw": torch.stack([one.grid for one in patches]),
    }


class Pictures:
    """Processed pictures, held from when they are begun until they are forgotten. For processors that cut
    each picture by itself (`encoding.SHARED_IMAGE_MODELS`)."""

    def __init__(self, processor: Any, workers: int) -> None:
        """`processor` is the model's."""
        self._process = processor.image_processor
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="pictures")
        self._held: dict[int, tuple[Image.Image, Future[Patches]]] = {}  # the picture keeps its id its own

    def begin(self, images: Sequence[Image.Image]) -> None:
        """Start on those that were not begun yet."""
        for image in images:
            if id(image) not in self._held:
                self._held[id(image)] = image, self._pool.submit(self._patches, image)

    def __call__(self, image: Image.Image) -> Patches:
        """Patches of a picture, begun or not."""
        self.begin([image])
        return self._held[id(image)][1].result()

    def forget(self) -> None:
        """Hold nothing any more."""
        self._held.clear()

    def _patches(self, image: Image.Image) -> Patches:
        found = self._process(images=[image], return_tensors="pt")
        return Patches(found["pixel_values"], found["image_grid_thw"][0])
