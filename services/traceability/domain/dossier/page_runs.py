"""The runs of the safety loop that list a lot, as its dossier shows them: how they went, whom they concern.

Exact counts of people come in, and leave only as they may be published.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from pharmaloop.traceability.v1 import dossier_pb2 as page
from services.traceability.domain.dossier.bounds import LOTS, SITES, first
from services.traceability.domain.dossier.capas import CapaRecord
from services.traceability.domain.dossier.published import People, Published
from services.traceability.domain.dossier.runs import (
    HazardRecord,
    JournalRecord,
    RunRecord,
    SiteRecord,
    TakenRecord,
)
from services.traceability.domain.exposure import Exposure
from services.traceability.domain.moments import stamp
from services.traceability.domain.run import Run


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

    @property
    def is_open(self) -> bool:
        """Did every site tell how many had a complaint, as sites once did?"""
        told = {site.site for site in self.sites if site.affected is not None}
        return bool(told) and told >= self.people().keys()

    def people(self) -> dict[str, People]:
        """Exact counts by site; a site that has said nothing counts nobody but the journal's dispenses."""
        dispenses = {site.site: site.n for site in self.head.sites}
        said = {site.site: site for site in self.sites}
        return {
            name: _people(dispenses.get(name, 0), said.get(name) or SiteRecord(self.run.run, name))
            for name in sorted({*dispenses, *said})
        }


def _people(dispenses: int, said: SiteRecord) -> People:
    return People(
        dispenses,
        said.patients,
        said.plans,
        said.notified,
        said.answered,
        said.affected or 0,
        said.released.exposed.patients if said.released else 0,
    )


def count(people: People, name: str, shown: Iterable[str]) -> page.PublishedCount:
    if name in shown:
        return page.PublishedCount(value=getattr(people, name))
    return page.PublishedCount(withheld=True)


def concerned(people: People, shown: Iterable[str]) -> page.ExposedCounts:
    names = ("dispenses", "patients", "notified")
    return page.ExposedCounts(**{name: count(people, name, shown) for name in names})


def at_sites(of: OfRun, counts: Published) -> tuple[list[page.ExposedAtSite], int]:
    """Whom the run concerns by site, and how many sites are left out."""
    said = {site.site for site in of.sites}
    sites, left_out = first(list(of.people().items()), SITES)
    return [
        page.ExposedAtSite(site=name, told=name in said, people=concerned(people, counts.by_site))
        for name, people in sites
    ], left_out


def exposed(lot: str, of: OfRun, counts: Published) -> page.ExposedRun:
    lots = sorted(of.run.lots.items(), key=lambda item: (item[1], item[0]))
    listed, lots_left_out = first([name for name, _ in lots], LOTS)
    sites, sites_left_out = at_sites(of, counts)
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
        people=concerned(counts.total, counts.in_all),
        sites=sites,
        sites_left_out=sites_left_out,
    )
