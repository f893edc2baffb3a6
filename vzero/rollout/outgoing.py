"""Requests on their way to a server: looked through first, each picture made a PNG once."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from typing import Any

from PIL import Image

from vzero.rollout import encoding
from vzero.rollout.chat import data_url
from vzero.rollout.protocol import Request

_KEPT = 64, 256 << 20  # pictures and their bytes; their other questions follow soon or not at all


@dataclass(frozen=True)
class Prepared:
    """A request that may be sent.

    Attributes:
        picture: in RGB.
        digest: of the picture's size and pixels, of the prompt where there is no picture.
    """

    request: Request
    picture: Image.Image | None
    digest: bytes

    @classmethod
    def of(cls, processor: Any, request: Request) -> Prepared:
        """`request`, looked through.

        Raises:
            RolloutError: see `encoding.collect`.
        """
        work = encoding.collect(processor, [request])
        if not work.images:
            return cls(request, None, hashlib.sha256(work.prompts[0].text.encode()).digest())
        picture = work.images[0]
        return cls(request, picture, hashlib.sha256(f"{picture.size}".encode() + picture.tobytes()).digest())


class Pictures:
    """Pictures as data URLs, the last few kept: made in threads, while replies are read."""

    def __init__(self) -> None:
        self._made: dict[bytes, tuple[int, asyncio.Task[str]]] = {}

    async def url(self, request: Prepared) -> str:
        """See `chat.data_url`."""
        assert request.picture is not None
        if request.digest not in self._made:
            made = asyncio.create_task(asyncio.to_thread(data_url, request.picture))
            self._made[request.digest] = request.request.picture_bytes, made
            while len(self._made) > 1 and self._too_many():
                del self._made[next(iter(self._made))]
        return await self._made[request.digest][1]

    def _too_many(self) -> bool:
        return len(self._made) > _KEPT[0] or sum(size for size, _ in self._made.values()) > _KEPT[1]
