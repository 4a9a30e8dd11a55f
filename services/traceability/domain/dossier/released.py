"""What may be known of complaints: what sites released, and production's estimates of all of it.

A site releases counts in groups of ten and more only, by its own rules: they
are kept and shown as released. Estimates are production's, as it attached them
to the corrective action; a site may have released more since.
"""

from __future__ import annotations

from dataclasses import dataclass

from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.production.v1 import events_pb2 as production


@dataclass(frozen=True)
class Arm:
    """Patients of one arm who answered; `cases` is None where withheld, `patients` 0 where that is too."""

    patients: int = 0
    cases: int | None = None


@dataclass(frozen=True)
class Release:
    """The newest release of a site; exposed is who received anything made from the run's root lot."""

    number: int
    exposed: Arm
    comparators: Arm
    final: bool = False


@dataclass(frozen=True)
class Estimate:
    """An estimate with its interval; `reason` says why something of it is None."""

    value: float | None = None
    lower: float | None = None
    upper: float | None = None
    reason: str = ""


@dataclass(frozen=True)
class Pooled:
    """Estimates over the `pooled` of `sites` sites that told their sums. The difference is in cases a day."""

    risk_ratio: Estimate
    rate_difference: Estimate
    pooled: int
    sites: int


def release_after(before: Release | None, event: clinical.EvidenceReleased) -> Release | None:
    """The newest release of answers to plans; what hospitals find by themselves is another kind."""
    if event.kind != clinical.OUTCOME_KIND_PROMPTED:
        return before
    if before is not None and before.number >= event.number:
        return before
    return Release(event.number, _arm(event.exposed), _arm(event.comparators), event.final)


def pooled(event: production.CapaProposed) -> Pooled | None:
    """The estimates of a corrective action; None where they rest on no site."""
    sites = event.evidence.sites
    told = sum(site.pooled for site in sites)
    if not told:
        return None
    ratio, difference = event.evidence.risk_ratio, event.evidence.rate_difference
    return Pooled(_estimate(ratio), _estimate(difference), told, len(sites))


def _arm(row: clinical.ReleasedRow) -> Arm:
    return Arm(row.patients, None if row.withheld else row.cases)


def _estimate(told: common.Estimate) -> Estimate:
    value, lower, upper = (
        getattr(told, name) if told.HasField(name) else None for name in ("value", "lower", "upper")
    )
    return Estimate(value, lower, upper, told.reason)
