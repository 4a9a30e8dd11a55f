"""What the people of a run answered, as its lots' dossiers show it, and what followed from it.

How far the follow-up is comes from the sites' counts, as they may be published.
What is said of complaints is what sites released, and of runs from before they
did, what may be published of their counts.
"""

from __future__ import annotations

from collections.abc import Iterable

from google.protobuf.timestamp_pb2 import Timestamp

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.traceability.v1 import dossier_pb2 as page
from services.traceability.domain.dossier.bounds import SITES, first
from services.traceability.domain.dossier.capas import CapaRecord
from services.traceability.domain.dossier.newest import Decided
from services.traceability.domain.dossier.page_runs import OfRun, count
from services.traceability.domain.dossier.published import People, Published
from services.traceability.domain.dossier.released import Arm, Estimate, Pooled, Release
from services.traceability.domain.moments import stamp


def evidence(of: OfRun, counts: Published) -> page.RunEvidence:
    people = of.people()
    said = {site.site: site for site in of.sites}
    sites, sites_left_out = first(list(people.items()), SITES)
    complete = {site.site for site in of.sites if site.complete}
    return page.RunEvidence(
        run=of.run.run,
        complete=bool(people) and complete >= people.keys(),
        people=answers(counts.total, counts.in_all, of.is_open),
        sites=[
            page.AnswersAtSite(
                site=name,
                people=answers(people, counts.by_site, of.is_open),
                released=_released(said[name].released if name in said else None),
            )
            for name, people in sites
        ],
        sites_left_out=sites_left_out,
        capa=_capa(of.capa),
        insight=_insight(of),
        pooled=_pooled(of.capa.pooled),
    )


def answers(people: People, shown: Iterable[str], is_open: bool) -> page.AnswerCounts:
    names = ("plans", "answered", "affected") if is_open else ("plans", "answered")
    return page.AnswerCounts(**{name: count(people, name, shown) for name in names})


def _released(release: Release | None) -> page.ReleasedEvidence | None:
    if release is None:
        return None
    return page.ReleasedEvidence(
        number=release.number,
        final=release.final,
        exposed=_arm(release.exposed),
        comparators=_arm(release.comparators),
    )


def _arm(arm: Arm) -> page.ReleasedArm:
    return page.ReleasedArm(patients=arm.patients, withheld=arm.cases is None, cases=arm.cases or 0)


def _pooled(pooled: Pooled | None) -> page.PooledEvidence | None:
    if pooled is None:
        return None
    return page.PooledEvidence(
        risk_ratio=_estimate(pooled.risk_ratio),
        rate_difference=_estimate(pooled.rate_difference),
        sites_pooled=pooled.pooled,
        sites=pooled.sites,
    )


def _estimate(at: Estimate) -> common.Estimate:
    return common.Estimate(value=at.value, lower=at.lower, upper=at.upper, reason=at.reason)


def _capa(record: CapaRecord) -> page.RunCapa | None:
    if not record.capa:
        return None
    return page.RunCapa(
        capa=record.capa,
        deviation=record.deviation,
        product=record.product,
        tag=record.tag,
        limit_before=record.limit_before,
        limit_after=record.limit_after,
        state=record.state,
        proposed=stamp(record.proposed),
        approved=_at(record.approved),
        validated=_at(record.validated),
        validation_record=record.validation_record,
        filing_assessed=_at(record.filing),
        filing_category=record.filing_category,
        filing_reference=record.filing_reference,
        effective=stamp(record.effective),
        limits_version=record.limits_version,
        checked=_at(record.checked),
        refused=_at(record.refused),
        effectiveness=record.effectiveness,
        limit_kept=record.limit_kept,
        approved_by=_who(record.approved),
        approval_meaning=_meaning(record.approved),
        validated_by=_who(record.validated),
        validation_meaning=_meaning(record.validated),
        filing_assessed_by=_who(record.filing),
        filing_meaning=_meaning(record.filing),
        checked_by=_who(record.checked),
        check_meaning=_meaning(record.checked),
    )


def _who(decided: Decided | None) -> str:
    return decided.who if decided else ""


def _meaning(decided: Decided | None) -> str:
    return decided.meaning if decided else ""


def _at(decided: Decided | None) -> Timestamp | None:
    return stamp(decided.at) if decided else None


def _insight(of: OfRun) -> page.RunInsight | None:
    if not of.capa.insight:
        return None
    return page.RunInsight(
        insight=of.capa.insight,
        statement=of.capa.statement,
        recorded=of.taken is not None,
        statement_sayings=[common.Saying.FromString(one) for one in of.capa.sayings],
    )
