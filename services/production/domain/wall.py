"""What a row of the quality wall calls for, and which deviations it names."""

from __future__ import annotations

from typing import Literal, TypeAlias

import numpy as np

from services.production.domain.record import Deviation, Lot
from services.production.domain.samples import Samples

WallState: TypeAlias = Literal["unknown", "normal", "watch", "abnormal", "silent"]
#: From this share of its limit on a tag is to be watched.
WATCHED = 0.8
_OVER = ("rejected", "closed")
#: Historians send their readings in batches of some minutes: so many seconds without a new one are no batch.
SILENT_SECONDS = 600.0
#: A run that is measured rarely may be longer without: so many times the usual time between its readings.
_SILENT_GAPS = 3.0
#: Records take wall time however fast the platform's clock runs: nothing is silent for less of it.
_LEAST_WALL_SECONDS = 10.0
#: The usual time between readings is that of so many of the latest.
_LATEST = 200


def standing_deviations(lot: Lot) -> list[Deviation]:
    """Deviations that were neither rejected nor closed, oldest first."""
    return [found for found in lot.deviations if found.state not in _OVER]


def silent_after(held: Samples, speed: float) -> float:
    """Seconds of platform time without a new reading after which a run is silent; `speed` is platform
    seconds in one of the wall's."""
    gaps = np.diff(held.axis()[-_LATEST:]) / 1_000_000
    usual = float(np.median(gaps)) if len(gaps) else 0.0
    return max(SILENT_SECONDS, _SILENT_GAPS * usual, _LEAST_WALL_SECONDS * speed)


def state(lot: Lot, ratio: float | None, silent: bool = False) -> WallState:
    """What the lot's row calls for; `ratio` is that of its worst tag now, None where nothing is judged.

    Of a silent run nobody knows how it stands now: it is never shown as normal.
    """
    if standing_deviations(lot) or (ratio is not None and ratio > 1):
        return "abnormal"
    if silent:
        return "silent"
    if ratio is None:
        return "unknown"
    return "watch" if ratio >= WATCHED else "normal"
