"""A run's evidence as the site itself sees it, with every number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.clinical.v1 import service_pb2 as api
from pharmaloop.common.v1 import types_pb2 as common
from services.clinical.domain import releases
from services.clinical.domain.evidence import mantel_haenszel, prompted, routine, sequential
from services.clinical.domain.evidence.labs import Compared
from services.clinical.domain.evidence.mantel_haenszel import Estimate
from services.clinical.domain.evidence.prompted import Group
from services.clinical.domain.evidence.routine import Recipients
from services.clinical.domain.evidence.sequential import Look
from services.clinical.domain.evidence.study import sums
from services.clinical.domain.evidence.tables import PROMPTED, ROUTINE, Cells, K, Kind, Stratum, Table
from services.clinical.domain.holdings import Holding
from services.clinical.domain.releases import Releases
from services.clinical.evidence import Seen
from services.kit.ids import in_kit

_KINDS = {Kind.PROMPTED: clinical.OUTCOME_KIND_PROMPTED, Kind.ROUTINE: clinical.OUTCOME_KIND_ROUTINE}


def evidence_of(
    site: str, holding: Holding, seen: Seen | None, decided: Releases | None, labs: Sequence[Compared] = ()
) -> api.GetEvidenceResponse:
    """Every lot of the run by each kind of outcome, laboratory results, what was decided, and when the next
    look is due."""
    decided = decided or Releases()
    shown = api.GetEvidenceResponse(comparators=holding.cohort.open)
    root = seen.root if seen else ""
    if seen is not None:
        lots = [seen.study.root, *(lot for lot in seen.lots if lot != seen.study.root and not in_kit(lot))]
        shown.lots.extend(_prompted(seen, lot) for lot in lots)
        if seen.recipients is not None:
            shown.lots.extend(_routine(seen, seen.recipients, lot) for lot in lots)
        shown.person_days.update(prompted.person_days(seen.study, seen.responders))
    shown.labs.extend(_lab(one) for one in labs)
    shown.looks.extend(_look(site, holding.run, root, look) for look in decided.looks)
    shown.next_look = sequential.next_due(releases.design(), decided.looks) or 0.0
    if decided.latest:
        shown.released.CopyFrom(clinical.EvidenceReleased.FromString(decided.latest))
        shown.released.lot = root
    return shown


def _prompted(seen: Seen, lot: str) -> api.LotEvidence:
    return _lot(PROMPTED, seen, lot, prompted.tables(seen.study, seen.responders, lot))


def _routine(seen: Seen, recipients: Recipients, lot: str) -> api.LotEvidence:
    """All of a product were followed in one way; no template is named."""
    by_product = routine.tables(seen.study, recipients, lot)
    return _lot(ROUTINE, seen, lot, {Group(name, "", 0): table for name, table in by_product.items()})


def _lot(kind: K, seen: Seen, lot: str, tables: Mapping[Group, Table[K]]) -> api.LotEvidence:
    total, whole = sums(kind, tables), lot == seen.study.root
    return api.LotEvidence(
        lot=seen.root if whole else lot,
        whole=whole,
        kind=_KINDS[kind],
        strata=[
            _stratum(group, stratum, cells)
            for group, table in tables.items()
            for stratum, cells in sorted(table.strata.items())
        ],
        risk_ratio=_estimate(mantel_haenszel.risk_ratio(total)),
        rate_difference=_estimate(mantel_haenszel.rate_difference(total)),
        chi_square=mantel_haenszel.chi_square(total),
    )


def _stratum(group: Group, stratum: Stratum, cells: Cells) -> api.EvidenceStratum:
    return api.EvidenceStratum(
        product=group.product,
        age_from=stratum.age_from,
        sex=stratum.sex,
        exposed_cases=cells.a,
        exposed=cells.n1,
        comparator_cases=cells.b,
        comparators=cells.n0,
        exposed_days=cells.t1,
        comparator_days=cells.t0,
        template=group.template,
        version=group.version,
    )


def _lab(one: Compared) -> api.LabEvidence:
    return api.LabEvidence(
        code=one.code,
        unit=one.unit,
        exposed=one.exposed,
        comparators=one.comparators,
        exposed_mean=one.exposed_mean,
        comparator_mean=one.comparator_mean,
        ratio=_estimate(one.ratio),
    )


def _estimate(estimate: Estimate) -> common.Estimate:
    return common.Estimate(
        value=estimate.value, lower=estimate.lower, upper=estimate.upper, reason=estimate.reason
    )


def _look(site: str, run: str, root: str, look: Look) -> clinical.LookTaken:
    return clinical.LookTaken(
        run=run,
        site=site,
        lot=root,
        information=look.information,
        z=look.z,
        boundary=look.boundary,
        signal=look.signal,
    )
