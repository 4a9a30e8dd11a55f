"""Waiting on the platform clock."""

from __future__ import annotations

import asyncio
from datetime import timedelta

from services.kit.clock import PlatformClock

#: How often the simulated people look at what is published, in wall seconds.
LOOK_SECONDS = 0.5


async def sleep_platform(clock: PlatformClock, length: timedelta) -> None:
    """Sleep for a length of platform time."""
    await asyncio.sleep(max(0.0, length.total_seconds() / clock.speed))
