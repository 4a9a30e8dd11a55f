"""The platform's clock as pages count on it: its time, and how many of its seconds pass in one of ours."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from services.portal.backend import Backend

#: Two looks have to be so far apart before a pace is made of them, in seconds.
_APART = 2.0


async def platform_time(backend: Backend, process: str = "loops") -> datetime:
    """The platform clock as a process reads it."""
    status = await backend.common(process, "StatusService", "GetStatus")
    told: datetime = status.platform_time.ToDatetime(UTC)
    return told


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
