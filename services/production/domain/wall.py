"""What a row of the quality wall calls for, and which deviations it names."""

from __future__ import annotations

from typing import Literal, TypeAlias

from services.production.domain.record import Deviation, Lot

WallState: TypeAlias = Literal["unknown", "normal", "watch", "abnormal"]
#: From this share of its limit on a tag is to be watched.
WATCHED = 0.8
_OVER = ("rejected", "closed")


def standing_deviations(lot: Lot) -> list[Deviation]:
    """Deviations that were neither rejected nor closed, oldest first."""
    return [found for found in lot.deviations if found.state not in _OVER]


def state(lot: Lot, ratio: float | None) -> WallState:
    """What the lot's row calls for; `ratio` is that of its worst tag now, None where nothing is judged."""
    if standing_deviations(lot) or (ratio is not None and ratio > 1):
        return "abnormal"
    if ratio is None:
        return "unknown"
    return "watch" if ratio >= WATCHED else "normal"
