"""What sites released of a run, and estimates over all of them.

A site tells sums over its strata. Because no stratum spans two sites, adding
them gives the estimates of the pooled rows themselves:

    risk ratio        RR = R / S,  variance of ln RR = P / (R S)
    rate difference   RD = D / W,  variance = Q / W^2,  in cases a day

Mantel and Haenszel, J Natl Cancer Inst 1959;22:719; Greenland and Robins,
Biometrics 1985;41:55.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.production.v1 import events_pb2 as events
from services.sayings import saying

#: The smallest group of patients of which a site tells anything.
SMALLEST = 10
_Z = 1.959963984540054  # 97.5 % of a standard normal distribution lie below


@dataclass(frozen=True)
class Row:
    """One arm at a site; `cases` is None where withheld, and `patients` 0 where that is withheld too."""

    patients: int = 0
    cases: int | None = None

    def message(self) -> events.CapaEvidenceRow:
        return events.CapaEvidenceRow(
            patients=self.patients, withheld=self.cases is None, cases=self.cases or 0
        )


@dataclass(frozen=True)
class Sums:
    """Named as above."""

    r: float = 0.0
    s: float = 0.0
    p: float = 0.0
    d: float = 0.0
    w: float = 0.0
    q: float = 0.0

    def __add__(self, other: Sums) -> Sums:
        mine, others = (vars(sums).values() for sums in (self, other))
        return Sums(*(x + y for x, y in zip(mine, others, strict=True)))


@dataclass(frozen=True)
class Release:
    """The newest release of a site; `final_plans` are the plans at its last one that was final, -1 before."""

    site: str
    number: int
    exposed: Row
    comparators: Row
    sums: Sums | None = None
    final_plans: int = -1


def release_of(event: clinical.EvidenceReleased, before: Release | None) -> Release:
    """The release of a site after one more; an older one changes nothing."""
    if before is not None and before.number >= event.number:
        return before
    at = event.sums
    return Release(
        site=event.site,
        number=event.number,
        exposed=_row(event.exposed),
        comparators=_row(event.comparators),
        sums=Sums(at.r, at.s, at.p, at.d, at.w, at.q) if event.HasField("sums") else None,
        final_plans=event.plans if event.final else (before.final_plans if before else -1),
    )


def _row(row: clinical.ReleasedRow) -> Row:
    return Row(row.patients, None if row.withheld else row.cases)


def totals(releases: Iterable[Release]) -> tuple[int, int]:
    """Exposed patients who answered, and those with a complaint, at the sites that told both."""
    told = [one.exposed for one in releases if one.exposed.cases is not None]
    return sum(row.patients for row in told), sum(row.cases or 0 for row in told)


def evidence(releases: Iterable[Release]) -> events.CapaEvidence:
    """As it is attached to a corrective action. Where no site told its sums because it withholds numbers,
    the estimates say so, and not that there were no cases."""
    found = events.CapaEvidence()
    total = Sums()
    releases = tuple(releases)
    for one in sorted(releases, key=lambda release: release.site):
        found.sites.add(
            site=one.site,
            exposed=one.exposed.message(),
            comparators=one.comparators.message(),
            pooled=one.sums is not None,
        )
        total += one.sums or Sums()
    withheld = any(None in (one.exposed.cases, one.comparators.cases) for one in releases)
    if withheld and not any(one.sums for one in releases):
        found.risk_ratio.reason = found.rate_difference.reason = "WITHHELD"
        return found
    found.risk_ratio.CopyFrom(risk_ratio(total))
    found.rate_difference.CopyFrom(rate_difference(total))
    return found


def risk_ratio(total: Sums) -> common.Estimate:
    """With its interval on the log scale; nothing is added to empty cells."""
    if total.s == 0:
        return common.Estimate(reason="NO_COMPARATOR_CASES" if total.r else "NO_CASES")
    if total.r == 0:
        return common.Estimate(value=0.0, reason="NO_EXPOSED_CASES")
    ratio, error = total.r / total.s, math.sqrt(total.p / (total.r * total.s))
    return common.Estimate(
        value=ratio, lower=ratio * math.exp(-_Z * error), upper=ratio * math.exp(_Z * error)
    )


def rate_difference(total: Sums) -> common.Estimate:
    if total.w == 0:
        return common.Estimate(reason="NO_PERSON_TIME")
    difference, error = total.d / total.w, math.sqrt(total.q) / total.w
    if error == 0:
        return common.Estimate(value=difference, reason="NO_CASES")
    return common.Estimate(value=difference, lower=difference - _Z * error, upper=difference + _Z * error)


def followed(releases: Iterable[Release]) -> list[Release]:
    """Those of sites that followed anybody up."""
    return [one for one in releases if one.final_plans]


def said(releases: Iterable[Release]) -> str:
    """The evidence as a sentence of the reason for a corrective action."""
    all_of = followed(releases)
    if not all_of:
        return "nobody was followed up"
    told = [one for one in all_of if one.exposed.cases is not None]
    if not told:
        return f"numbers of patients are withheld (a group is smaller than {SMALLEST})"
    answered, affected = totals(told)
    partly = f" at {len(told)} of {len(all_of)} sites, the others withhold theirs"
    where = partly if len(told) < len(all_of) else ""
    return f"{answered} patients answered, {affected} of them with a complaint{where}{_compared(told)}"


def sayings(tag: str, releases: Iterable[Release]) -> list[common.Saying]:
    """The same in parts; `tag` left its golden run before."""
    all_of = followed(releases)
    if not all_of:
        return [saying("NOBODY_FOLLOWED", tag=tag)]
    told = [one for one in all_of if one.exposed.cases is not None]
    if not told:
        return [saying("NUMBERS_WITHHELD", tag=tag, smallest=SMALLEST)]
    answered, affected = totals(told)
    if len(told) < len(all_of):
        first = saying(
            "ANSWERED_AT_SOME",
            tag=tag,
            answered=answered,
            affected=affected,
            told=len(told),
            sites=len(all_of),
        )
    else:
        first = saying("ANSWERED", tag=tag, answered=answered, affected=affected)
    ratio = _ratio(told)
    if ratio is None:
        return [first]
    value, low, high = (round(one, 2) for one in (ratio.value, ratio.lower, ratio.upper))
    return [first, saying("RISK_COMPARED", value=value, low=low, high=high)]


def _compared(told: Iterable[Release]) -> str:
    at = _ratio(told)
    if at is None:
        return ""
    return (
        f"; their risk is {at.value:.2f} times ({at.lower:.2f} to {at.upper:.2f}) that of patients "
        "who received sibling lots"
    )


def _ratio(told: Iterable[Release]) -> common.Estimate | None:
    """Said only where every site that tells its exposed tells their comparators too: a site does so when many
    of these have a complaint, so that a risk ratio of some sites alone is likely to be too small."""
    sites = list(told)
    at = evidence(sites).risk_ratio
    if not at.HasField("lower") or any(site.sums is None for site in sites):
        return None
    return at
