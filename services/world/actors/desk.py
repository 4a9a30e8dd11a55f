"""What every actor stands on: the platform, the clock, the progress, a voice."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

from google.protobuf.message import Message

from services.kit.clock import PlatformClock
from services.world.ids import request_id
from services.world.platform_api import SECONDS, Platform, Say
from services.world.progress import Progress
from services.world.timing import sleep_platform

M = TypeVar("M", bound=Message)


@dataclass(frozen=True)
class Desk:
    """An actor's place of work. `actor` is the name that its calls carry."""

    actor: str
    seed: int
    platform: Platform
    clock: PlatformClock
    progress: Progress
    say: Say

    async def call(
        self, method: Callable[..., Awaitable[M]], request: Message, seconds: float = SECONDS
    ) -> M:
        return await self.platform.call(method, request, self.actor, seconds)

    def request(self, *what: str) -> str:
        """The id of a request, made from what it says."""
        return request_id(self.seed, self.actor, *what)

    async def sleep(self, length: timedelta) -> None:
        """Wait on the platform clock."""
        await sleep_platform(self.clock, length)
