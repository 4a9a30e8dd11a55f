"""Waiting on the platform clock."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta

from services.kit.clock import PlatformClock

#: How often the simulated people look at what is published, in wall seconds.
LOOK_SECONDS = 1.0
#: Nobody rests longer: a look that took minutes did not read so long, it waited for a service that was away.
LONGEST_REST_SECONDS = 20.0


async def sleep_platform(clock: PlatformClock, length: timedelta) -> None:
    """Sleep for a length of platform time."""
    await asyncio.sleep(max(0.0, length.total_seconds() / clock.speed))


async def rest(began: float, seconds: float = LOOK_SECONDS) -> None:
    """Wait until the next look; `began` is when this one did (monotonic).

    Four times as long as the look took at least: people who read long lists
    without a pause would keep the platform from what they wait for.
    """
    await asyncio.sleep(max(seconds, min(4 * (time.monotonic() - began), LONGEST_REST_SECONDS)))
