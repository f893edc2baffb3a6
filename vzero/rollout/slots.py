"""How much a server is given at a time: requests by their number, and by bytes of their pictures."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from vzero.rollout.endpoints import Server
from vzero.rollout.protocol import PICTURE_BYTES, Request


@dataclass
class Slot:
    """One server during one `stream` of the client.

    Attributes:
        most: requests it is handed at a time; halved when one waits too long behind the others.
        lost: it did not reply the last time: it is handed one at a time until it answers.
        open, answered: how many it has, and has answered; `pictures` bytes of those it has.
        recoveries: how often it was recovered.
    """

    server: Server
    gate: asyncio.Semaphore
    most: int
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    lost: bool = False
    open: int = 0
    pictures: int = 0
    answered: int = 0
    recoveries: int = 0

    @property
    def full(self) -> bool:
        """Whether no other request is to be opened at it."""
        return self.open >= (1 if self.lost else self.most) or self.pictures >= PICTURE_BYTES

    def count(self, request: Request, by: int) -> None:
        """One more, or one less."""
        self.open += by
        self.pictures += by * request.picture_bytes

    async def recover(self, seen: int) -> None:
        """Once for all requests that failed on it together: `seen` recoveries when they were sent."""
        async with self.lock:
            if self.recoveries == seen:
                await asyncio.to_thread(self.server.recover)
                self.recoveries += 1
