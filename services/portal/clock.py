"""The platform's clock as pages count on it: its time, and how many of its seconds pass in one of ours."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

from services.portal.backend import Backend, Missing, Refused

#: Two looks have to be so far apart before a pace is made of them, in seconds.
_APART = 2.0


async def platform_time(backend: Backend, process: str = "loops") -> datetime:
    """The platform clock as a process reads it."""
    status = await backend.common(process, "StatusService", "GetStatus")
    told: datetime = status.platform_time.ToDatetime(UTC)
    return told


#: A platform whose clock is further than this from the wall's, in seconds, is a simulated world.
_SIMULATED = 120.0
#: Who is asked what the platform's time is, the first that answers; and how often, in seconds.
_ASKED = ("loops", "traceability", "production", "alerting")
_AGAIN, _SOON = 30.0, 1.0


def apart(platform: datetime, wall: datetime) -> bool:
    """Is the platform's clock another one than the wall's?"""
    return abs((platform - wall).total_seconds()) > _SIMULATED


class World:
    """Whether this is a simulated world, as far as it is known; no page waits for it."""

    def __init__(self) -> None:
        self.simulated = False

    async def look(self, backend: Backend) -> bool:
        """Ask once; whether somebody answered. Nobody does: what was known stays."""
        for process in _ASKED:
            try:
                told = await platform_time(backend, process)
            except (Missing, Refused):
                continue
            self.simulated = apart(told, datetime.now(UTC))
            return True
        return False

    async def watch(self, backend: Backend) -> None:
        """Ask again and again, for as long as the portal runs."""
        while True:
            await asyncio.sleep(_AGAIN if await self.look(backend) else _SOON)


class PlatformClock:
    """Asks a process for the time; what it was told first tells the pace."""

    def __init__(self) -> None:
        self._first: tuple[float, datetime] | None = None
        self.pace = 1.0

    async def now(self, backend: Backend, process: str) -> datetime:
        told = await platform_time(backend, process)
        self.heard(told, time.monotonic())
        return told

    def heard(self, told: datetime, wall: float) -> None:
        """The pace since the first look; a clock that went back begins anew."""
        if self._first is None or told < self._first[1]:
            self._first = (wall, told)
        elif wall - self._first[0] >= _APART:
            self.pace = (told - self._first[1]).total_seconds() / (wall - self._first[0])
