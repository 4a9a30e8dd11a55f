"""What the platform answered to an incident, beside what it should have answered.

Asked at the end, by whoever made the incident and knows its truth; none of the
simulated people does.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from pharmaloop.clinical.v1 import events_pb2 as clinical_events
from pharmaloop.clinical.v1 import service_pb2 as clinical
from pharmaloop.loops.v1 import service_pb2 as loops
from pharmaloop.production.v1 import service_pb2 as production
from services.world.entities import ProcessLot
from services.world.exposure import CORRECTED, exposures
from services.world.ids import short
from services.world.platform_api import Platform
from services.world.records import World

_ACTOR = "incident"
#: When who has not answered is reminded, in hours after they were asked.
_REMINDERS = (24, 72)
#: What was said to a deviation, by its state; a confirmed one goes on to its action and its close.
_STATES = {
    production.DEVIATION_STATE_OPEN: "open",
    production.DEVIATION_STATE_UNDER_INVESTIGATION: "open",
    production.DEVIATION_STATE_CONFIRMED: "confirmed",
    production.DEVIATION_STATE_CAPA_REQUIRED: "confirmed",
    production.DEVIATION_STATE_CLOSED: "confirmed",
    production.DEVIATION_STATE_REJECTED: "rejected",
}


@dataclass(frozen=True)
class Answer:
    """One question, what is right, what the platform said."""

    question: str
    expected: str
    answered: str
    right: bool

    def document(self) -> dict[str, Any]:
        return asdict(self)


class Examiner:
    """Asks about one world; `lot` is the one that something happened to."""

    def __init__(self, world: World, platform: Platform) -> None:
        self._world, self._platform = world, platform
        self._line = world.lines[0]
        self._lot: ProcessLot = next(lot for lot in self._line.lots if lot.fault)

    async def ask(self, *, harmless: bool) -> list[Answer]:
        runs = await self._runs()
        found = [await self._detected(), await self._judged(harmless=harmless), self._opened(runs, harmless)]
        if not harmless:
            found += [await self._exposed(site, runs) for site in self._world.sites]
            found.append(await self._answered(runs))
            found += [await self._reminded(hours, runs) for hours in _REMINDERS if hours < self._lasts()]
        return found

    async def _deviations(self) -> list[production.Deviation]:
        request = production.ListDeviationsRequest(lot=self._lot.lot)
        pages = self._platform.pages(self._platform.production.ListDeviations, request, _ACTOR)
        return [item async for page in pages for item in page.deviations]

    async def _runs(self) -> list[loops.Run]:
        request = loops.ListRunsRequest(lot=self._lot.lot)
        pages = self._platform.pages(self._platform.loops.ListRuns, request, _ACTOR)
        return [run async for page in pages for run in page.runs]

    async def _detected(self) -> Answer:
        assert self._lot.fault
        tags = self._lot.fault.tags or (self._lot.fault.tag,)
        seen = sorted({item.detected.tag for item in await self._deviations()})
        return Answer(
            f"which tags of {short(self._lot.lot)} left their limits",
            " or ".join(tags),
            ", ".join(seen) or "none",
            not set(tags).isdisjoint(seen),
        )

    async def _judged(self, *, harmless: bool) -> Answer:
        states = {_STATES.get(item.state, "?") for item in await self._deviations()}
        right = states == {"rejected"} if harmless else "confirmed" in states
        told = ", ".join(sorted(states)) or "none"
        wanted = "rejected" if harmless else "confirmed"
        return Answer("what quality assurance said to the deviation", wanted, told, right)

    def _opened(self, runs: list[loops.Run], harmless: bool) -> Answer:
        closed = [run for run in runs if run.state == loops.RUN_STATE_CLOSED]
        told = f"{len(runs)} opened, {len(closed)} closed"
        right = not runs if harmless else bool(runs) and len(runs) == len(closed)
        wanted = "none" if harmless else "every one closed"
        return Answer(f"which runs of the safety loop {short(self._lot.lot)} has", wanted, told, right)

    async def _exposed(self, site: str, runs: list[loops.Run]) -> Answer:
        """The members that the site names in all runs together, against the oracle's."""
        mine = [item for item in exposures(self._world) if (item.lot, item.site) == (self._lot.lot, site)]
        must = {item.dispense for item in mine if item.disposition != CORRECTED}
        taken_back = {item.dispense for item in mine if item.disposition == CORRECTED}
        named: dict[str, str] = {}
        for run in runs:
            request = clinical.ListExposuresRequest(site=site, run=run.run)
            method = self._platform.clinical_at(site).ListExposures
            async for page in self._platform.pages(method, request, _ACTOR):
                for item in page.exposures:
                    named[item.dispense] = item.disposition or named.get(item.dispense, "")
        corrected = {name for name in taken_back & named.keys() if named[name] == CORRECTED}
        missed, wrong = must - named.keys(), named.keys() - must - corrected
        told = f"{len(must & named.keys())} found, {len(missed)} missed, {len(wrong)} wrong"
        if taken_back:
            told += f", {len(corrected)} of {len(taken_back)} wrong records shown as corrected"
        wanted = f"{len(must)} found, none missed, none wrong"
        return Answer(f"which dispenses {site} names", wanted, told, not missed and not wrong)

    async def _answered(self, runs: list[loops.Run]) -> Answer:
        """How many answered, as the loop says; how many with a complaint, as each site says for itself."""
        closed = [run.closed for run in runs if run.state == loops.RUN_STATE_CLOSED]
        patients = {
            (item.site, item.pseudonym)
            for item in exposures(self._world)
            if item.lot == self._lot.lot and item.disposition != CORRECTED
        }
        answered = sum(item.answered for item in closed)
        affected = sum([await self._affected(site, run.run) for run in runs for site in self._world.sites])
        told = f"{answered} answered, {affected} of them with a complaint"
        wanted = f"{len(patients)} patients, about {self._complaints(patients)} with a complaint"
        return Answer("what the patients said", wanted, told, answered > 0)

    def _lasts(self) -> int:
        """How many hours the patients are followed up."""
        return max(asked.hours for hospital in self._world.hospitals for asked in hospital.follow_ups)

    async def _reminded(self, hours: int, runs: list[loops.Run]) -> Answer:
        """Of the exposed who were asked, who was reminded; and who had not answered by then."""
        number = _REMINDERS.index(hours)
        waits = {
            (hospital.site, body.pseudonym)
            for hospital in self._world.hospitals
            for body in hospital.bodies
            if not body.answers or body.reminders > number
        }
        asked, reminded = set(), set()
        for view in [view for run in runs for view in await self._plans(run.run)]:
            who = (view[0], view[1].plan.pseudonym)
            asked.add(who)
            if len(view[1].reminded) > number:
                reminded.add(who)
        wanted = waits & asked
        return Answer(
            f"who was reminded after {hours} hours",
            f"{len(wanted)} patients who had not answered",
            f"{len(wanted & reminded)} of them, and {len(reminded - wanted)} others",
            wanted == reminded,
        )

    async def _plans(self, run: str) -> list[tuple[str, clinical.PlanView]]:
        """The exposed patients' plans, with their site."""
        found = []
        for site in self._world.sites:
            method = self._platform.clinical_at(site).ListPlans
            request = clinical.ListPlansRequest(site=site, run=run)
            async for page in self._platform.pages(method, request, _ACTOR):
                found += [
                    (site, view)
                    for view in page.plans
                    if view.plan.role != clinical_events.PLAN_ROLE_COMPARATOR
                ]
        return found

    async def _affected(self, site: str, run: str) -> int:
        request = clinical.GetEvidenceRequest(site=site, run=run)
        found = await self._platform.call(self._platform.clinical_at(site).GetEvidence, request, _ACTOR)
        prompted = clinical_events.OUTCOME_KIND_PROMPTED
        asked = (lot for lot in found.lots if lot.whole and lot.kind == prompted)
        return sum(stratum.exposed_cases for lot in asked for stratum in lot.strata)

    def _complaints(self, patients: set[tuple[str, str]]) -> int:
        return sum(
            body.complaint
            for hospital in self._world.hospitals
            for body in hospital.bodies
            if (hospital.site, body.pseudonym) in patients
        )
