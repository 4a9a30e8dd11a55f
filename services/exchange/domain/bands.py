"""When the answer of a process band may claim more than what was seen.

The lot is the unit: patients of one lot share whatever else its process did, so
a few lots tell of those lots, however many patients took them. With fewer than
ten lots inside the band, or outside, an answer is only described: the estimate
stands, without interval, error or p-value. So it is where the lots of the two
were not counted at all, or errors are by patient.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

FEWEST_LOTS = 10
TOO_FEW, NOT_COUNTED = "LOTS_TOO_FEW", "LOTS_NOT_COUNTED"


def described(exposed: int | None, others: int | None) -> str | None:
    """The flag for which an answer is only described; None where it may claim its interval.

    `exposed` and `others` are the lots inside and outside the band, None where not counted.
    """
    if exposed is None or others is None:
        return NOT_COUNTED
    return TOO_FEW if min(exposed, others) < FEWEST_LOTS else None


def lots(tables: Mapping[str, Any]) -> tuple[int, int] | tuple[None, None]:
    """The lots inside and outside the band, of a result's tables; None where they were not counted."""
    if "clusters" not in tables or "clusters_exposed" not in tables:
        return None, None
    exposed = int(tables["clusters_exposed"])
    return exposed, int(tables["clusters"]) - exposed
