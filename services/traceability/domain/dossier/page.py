"""The dossier of a lot, put together from what is held: pure, bounded, and in one order.

Exact counts of people come in, and leave only as they may be published.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.traceability.v1 import dossier_pb2 as page
from services.traceability.domain import balance
from services.traceability.domain.balance import Balance
from services.traceability.domain.dossier.lots import Deviation, LotRecord
from services.traceability.domain.dossier.newest import Decided, in_order
from services.traceability.domain.dossier.published import People, Published, published
from services.traceability.domain.dossier.runs import (
    CapaRecord,
    HazardRecord,
    JournalRecord,
    RunRecord,
    SiteRecord,
    TakenRecord,
)
from services.traceability.domain.exposure import Exposure
from services.traceability.domain.graph import Node
from services.traceability.domain.moments import stamp
from services.traceability.domain.run import Run

T = TypeVar("T")
#: At most so many of each are shown; what is left out is counted.
LOTS, PLACES, SITES, RUNS, DECISIONS = 100, 50, 50, 10, 100


class OfRun(NamedTuple):
    """What is held of one run that lists the lot."""

    run: Run
    told: RunRecord
    head: Exposure
    journal: JournalRecord
    hazard: HazardRecord | None
    capa: CapaRecord
    taken: TakenRecord | None
    sites: Sequence[SiteRecord]

    @property
    def order(self) -> tuple[str, str]:
        return self.told.opened, self.run.run

    def people(self) -> dict[str, People]:
        """Exact counts by site; a site that has said nothing counts nobody but the journal's dispenses."""
        dispenses = {site.site: site.n for site in self.head.sites}
        said = {site.site: site for site in self.sites}
        return {
            name: _people(dispenses.get(name, 0), said.get(name) or SiteRecord(self.run.run, name))
            for name in sorted({*dispenses, *said})
        }


class Held(NamedTuple):
    """Everything that is held of a lot."""

    node: Node
    record: LotRecord
    balance: Balance
    dispensed: bool
    runs: Sequence[OfRun]


def dossier(held: Held, runs_left_out: int, key: common.LotKey) -> page.LotDossier:
    """The page of a lot. `held.runs` are its newest runs; `runs_left_out` says how many are older."""
    runs = sorted(held.runs, key=lambda run: run.order)
    shown = [published(run.people()) for run in runs]
    pairs = list(zip(runs, shown, strict=True))
    return page.LotDossier(
        lot=held.node.lot,
        key=key,
        process=_process(held.record),
        deviations=_deviations(held.record),
        material=_material(held.node, held.balance),
        distribution=_distribution(held.balance, held.dispensed),
        exposed=page.ExposedSection(
            runs=[_exposed(held.node.lot, run, counts) for run, counts in pairs], left_out=runs_left_out
        ),
        evidence=page.EvidenceSection(
            runs=[_evidence(run, counts) for run, counts in pairs], left_out=runs_left_out
        ),
        decisions=_decisions(held.record, runs),
    )


def newest(runs: Iterable[RunRecord]) -> tuple[list[str], int]:
    """The runs that are shown, and how many older ones are left out."""
    ordered = sorted(runs, key=lambda run: (run.opened, run.run))
    left_out = max(0, len(ordered) - RUNS)
    return [run.run for run in ordered[left_out:]], left_out


def _first(items: Sequence[T], most: int) -> tuple[Sequence[T], int]:
    return items[:most], max(0, len(items) - most)


# -- the lot ----------------------------------------------------------------


def _process(record: LotRecord) -> page.ProcessSection:
    run = [Decided(record.started, "", "STARTED"), Decided(record.completed, "", "COMPLETED")]
    steps = in_order(*(one for one in run if one.at), *record.changed.items)
    return page.ProcessSection(
        state=record.state,
        product=record.product,
        equipment=record.equipment,
        started=stamp(record.started),
        completed=stamp(record.completed),
        steps=[page.ProcessStep(at=stamp(s.at), what=s.what, who=s.who, why=s.why) for s in steps],
        left_out=record.changed.left_out,
    )


def _deviations(record: LotRecord) -> page.DeviationSection:
    ordered = sorted(record.deviations, key=lambda one: (one.detected, one.deviation))
    shown = [_deviation(one) for one in ordered]
    return page.DeviationSection(deviations=shown, left_out=record.deviations_left_out)


def _deviation(one: Deviation) -> page.LotDeviation:
    return page.LotDeviation(
        deviation=one.deviation,
        tag=one.tag,
        unit=one.unit,
        phase=one.phase,
        first_out=stamp(one.first_out),
        detected=stamp(one.detected),
        magnitude=one.magnitude,
        limit=one.limit,
        rule=one.rule,
        model_version=one.model_version,
        state=one.state,
        who=one.who,
        why=one.why,
    )


def _material(node: Node, held: Balance) -> page.MaterialSection:
    inputs, inputs_left_out = _first(node.inputs, LOTS)
    outputs, outputs_left_out = _first(node.outputs, LOTS)
    suspect = [node.suspect] * bool(node.suspect)
    suspect += [] if balance.adds_up(held) else [balance.MASS_IMBALANCE]
    return page.MaterialSection(
        known=node.known,
        made=stamp(node.made),
        inputs=inputs,
        inputs_left_out=inputs_left_out,
        outputs=outputs,
        outputs_left_out=outputs_left_out,
        amount_made=_amounts(balance.by_unit(held.made.values())),
        amount_used=_amounts(balance.by_unit(held.used.values())),
        suspect=suspect,
    )


def _amounts(by_unit: Mapping[str, float]) -> list[common.Quantity]:
    return [common.Quantity(value=value, unit=unit) for unit, value in sorted(by_unit.items())]


def _distribution(held: Balance, dispensed: bool) -> page.DistributionSection:
    places, left_out = _first(balance.places(held), PLACES)
    shown = [
        page.LotPlace(place=place, received=received, sent=sent, unit=unit)
        for place, received, sent, unit in places
    ]
    return page.DistributionSection(places=shown, left_out=left_out, dispensed=dispensed)


# -- its runs ---------------------------------------------------------------


def _people(dispenses: int, said: SiteRecord) -> People:
    return People(dispenses, said.patients, said.plans, said.notified, said.answered, said.affected)


def _count(people: People, name: str, shown: Iterable[str]) -> page.PublishedCount:
    if name in shown:
        return page.PublishedCount(value=getattr(people, name))
    return page.PublishedCount(withheld=True)


def _concerned(people: People, shown: Iterable[str]) -> page.ExposedCounts:
    names = ("dispenses", "patients", "notified")
    return page.ExposedCounts(**{name: _count(people, name, shown) for name in names})


def _answers(people: People, shown: Iterable[str]) -> page.AnswerCounts:
    names = ("plans", "answered", "affected")
    return page.AnswerCounts(**{name: _count(people, name, shown) for name in names})


def _exposed(lot: str, of: OfRun, counts: Published) -> page.ExposedRun:
    lots = sorted(of.run.lots.items(), key=lambda item: (item[1], item[0]))
    listed, lots_left_out = _first([name for name, _ in lots], LOTS)
    said = {site.site for site in of.sites}
    sites, sites_left_out = _first(list(of.people().items()), SITES)
    return page.ExposedRun(
        run=of.run.run,
        root=of.run.root,
        depth=of.run.lots.get(lot, 0),
        deviation=of.told.deviation,
        follows=of.run.follows,
        successor=of.journal.successor,
        opened=stamp(of.told.opened),
        sealed=stamp(of.journal.sealed),
        ended=stamp(of.told.ended),
        outcome=of.told.outcome,
        stages=[page.RunStage(name=stage.name, seconds=stage.seconds) for stage in of.told.stages],
        waiting_for=of.told.waiting_for,
        lots=listed,
        lots_left_out=lots_left_out,
        unattributed=of.head.unattributed,
        explained=of.head.explained,
        people=_concerned(counts.total, counts.in_all),
        sites=[
            page.ExposedAtSite(site=name, told=name in said, people=_concerned(people, counts.by_site))
            for name, people in sites
        ],
        sites_left_out=sites_left_out,
    )


def _evidence(of: OfRun, counts: Published) -> page.RunEvidence:
    people = of.people()
    sites, sites_left_out = _first(list(people.items()), SITES)
    complete = {site.site for site in of.sites if site.complete}
    return page.RunEvidence(
        run=of.run.run,
        complete=bool(people) and complete >= people.keys(),
        people=_answers(counts.total, counts.in_all),
        sites=[page.AnswersAtSite(site=name, people=_answers(p, counts.by_site)) for name, p in sites],
        sites_left_out=sites_left_out,
        capa=_capa(of.capa),
        insight=_insight(of),
    )


def _capa(record: CapaRecord) -> page.RunCapa | None:
    if not record.capa:
        return None
    return page.RunCapa(
        capa=record.capa,
        product=record.product,
        tag=record.tag,
        limit_before=record.limit_before,
        limit_after=record.limit_after,
        approved=record.approved is not None,
    )


def _insight(of: OfRun) -> page.RunInsight | None:
    if not of.capa.insight:
        return None
    return page.RunInsight(
        insight=of.capa.insight, statement=of.capa.statement, recorded=of.taken is not None
    )


# -- decisions --------------------------------------------------------------


def _decisions(record: LotRecord, runs: Iterable[OfRun]) -> page.DecisionSection:
    taken = [*record.changed.items, *record.judged.items]
    left_out = record.changed.left_out + record.judged.left_out
    for of in runs:
        taken += of.journal.explained.items
        left_out += of.journal.explained.left_out
        by_one = (of.hazard.evaluated if of.hazard else None, of.capa.approved, of.told.by_hand)
        taken += [one for one in by_one if one is not None]
    ordered = in_order(*taken)
    left_out += max(0, len(ordered) - DECISIONS)
    shown = [_decision(one) for one in ordered[-DECISIONS:]]
    return page.DecisionSection(decisions=shown, left_out=left_out)


def _decision(one: Decided) -> page.Decision:
    at: Timestamp | None = stamp(one.at)
    return page.Decision(
        at=at,
        what=one.what,
        who=one.who,
        why=one.why,
        meaning=one.meaning,
        run=one.run,
        subject=one.subject,
    )
