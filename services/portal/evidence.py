"""What sites released of a run's evidence, pooled: the risk ratio of Mantel and Haenszel.

Sites release sums over their strata (Greenland and Robins, Biometrics 1985); those of several sites are
added, and the estimate is made of the total. Nothing is added to empty cells.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

_Z = 1.959963984540054


@dataclass(frozen=True)
class Ratio:
    """A risk ratio with its 95 % interval; None where it cannot be told, and `reason` says why."""

    value: float | None = None
    lower: float | None = None
    upper: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class SiteEvidence:
    """What one site released last; `released` is the contract's EvidenceReleased, None before the first."""

    site: str
    released: Any
    ratio: Ratio


def of_sites(released: Iterable[tuple[str, Any]]) -> tuple[list[SiteEvidence], Ratio]:
    """Each site's own ratio by the site's name, and the ratio over all of them."""
    rows: list[SiteEvidence] = []
    r = s = p = 0.0
    told_sums = False
    for site, told in sorted(released, key=lambda one: one[0]):
        if told is None:
            rows.append(SiteEvidence(site, None, Ratio(reason="NOT_RELEASED")))
        elif not told.HasField("sums"):
            rows.append(SiteEvidence(site, told, Ratio(reason="WITHHELD")))
        else:
            sums = told.sums
            rows.append(SiteEvidence(site, told, ratio(sums.r, sums.s, sums.p)))
            r, s, p = r + sums.r, s + sums.s, p + sums.p
            told_sums = True
    if not told_sums:
        return rows, Ratio(reason="WITHHELD" if any(one.released for one in rows) else "NOT_RELEASED")
    return rows, ratio(r, s, p)


def ratio(r: float, s: float, p: float) -> Ratio:
    """R / S, with the interval on the log scale: its variance is P / (R S)."""
    if s <= 0:
        return Ratio(reason="NO_COMPARATOR_CASES" if r else "NO_CASES")
    if r <= 0:
        return Ratio(0.0, reason="NO_EXPOSED_CASES")
    value, error = r / s, math.sqrt(p / (r * s))
    return Ratio(value, value * math.exp(-_Z * error), value * math.exp(_Z * error))
