"""The simulated industry at work: who starts when, and when it is over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from services.kit.clock import PlatformClock
from services.world.actors.blood import BloodLaboratory
from services.world.actors.charts import ChartRoom
from services.world.actors.desk import Desk
from services.world.actors.hospital import HospitalClerk
from services.world.actors.laboratory import Laboratory
from services.world.actors.line import Pace, PlantLine
from services.world.actors.notices import NoticeDesk
from services.world.actors.observer import Observer
from services.world.actors.patients import PostRoom
from services.world.actors.pharmacist import Pharmacist
from services.world.actors.pharmacy import PharmacyClerk
from services.world.actors.physician import Physician
from services.world.actors.quality import HeadOfQuality, QualityAssurance
from services.world.actors.supply import Supply
from services.world.development import Development
from services.world.first_lots import FirstLots
from services.world.platform_api import Platform, Say
from services.world.progress import Progress
from services.world.records import Hospital, World
from services.world.sizes import SIZES

#: So many pharmacies send their past at once.
_PHARMACIES_AT_ONCE = 4


@dataclass(frozen=True)
class Options:
    """What the command line asked for. `loops` 0 means all of them."""

    speed: float = 1.0
    manual: bool = False
    loops: int = 0
    limit_minutes: float = 0.0


class Simulation:
    def __init__(
        self,
        world: World,
        platform: Platform,
        clock: PlatformClock,
        progress: Progress,
        say: Say,
        options: Options,
    ) -> None:
        def desk(actor: str) -> Desk:
            return Desk(actor, world.seed, platform, clock, progress, say)

        self._platform, self._options, self._say = platform, options, say
        lots = {lot.lot for line in world.lines for lot in line.lots}
        self._supply = Supply(desk, world.materials, world.shipments)
        self._qa = QualityAssurance(desk("qa"), lots, manual=options.manual)
        self._head = HeadOfQuality(desk("head-of-quality"), lots)
        self._labs = [
            Laboratory(
                desk(f"{line.plant}/laboratory"), f"{line.plant}/lims", world.lot_tests, self._qa.hand_in
            )
            for line in world.lines
        ]
        self._lines = [
            PlantLine(desk(f"{line.plant}/historian"), line, lab.hand_in)
            for line, lab in zip(world.lines, self._labs, strict=True)
        ]
        self._pharmacies = [PharmacyClerk(desk(item.name), item) for item in world.pharmacies]
        expected = {late.dispense.dispense for item in world.pharmacies for late in item.found_out}
        self._pharmacist = Pharmacist(desk("pharmacist"), lots, expected)
        self._clerks: list[HospitalClerk] = []
        self._blood: list[BloodLaboratory] = []
        self._physician = Physician(desk("physician"), lots)
        self._people = [self._pharmacist.run]
        away = {notice.pseudonym for notice in world.notices if notice.read_after is None}
        for hospital in world.hospitals:
            self._staff(hospital, desk, lots, away)
        self._development = _development(world, desk, progress)
        if self._development:
            self._people += self._development.people()
        self._observer = Observer(desk("observer"), lots, self._still_to_send)
        #: Everything was played to its end.
        self.over = False
        self._busy: dict[str, None] = {"waiting for the services": None}
        self._begun = asyncio.Event()

    def _staff(self, hospital: Hospital, desk: Callable[[str], Desk], lots: set[str], away: set[str]) -> None:
        clerk = HospitalClerk(desk(f"{hospital.site}/clerk"), hospital)
        self._clerks.append(clerk)
        self._people.append(ChartRoom(desk(f"{hospital.site}/charts"), hospital, clerk, lots).run)
        self._people.append(NoticeDesk(desk(f"{hospital.site}/notices"), hospital.site, away, lots).run)
        blood = BloodLaboratory(desk(f"{hospital.site}/laboratory"), hospital.site, hospital.tubes)
        self._blood.append(blood)
        post = PostRoom(desk(f"{hospital.site}/patients"), hospital.site, hospital.bodies, blood.take)
        self._people += [blood.run, post.run]

    async def run(self) -> list[str]:
        """Play the world; answers what is missing when the time limit ended it, else what the platform let
        pass that it had to refuse: nothing, when all is well."""
        people = [self._qa.run, *(lab.run for lab in self._labs), *self._people]
        if not self._options.manual:
            people += [self._head.run, self._physician.run]
        limit = self._options.limit_minutes * 60 or None
        try:
            async with asyncio.timeout(limit):
                await self._platform.wait_until_serving()
                await _first_to_end(
                    self._observer.run_until_done(), self._play(), *(person() for person in people)
                )
        except TimeoutError:
            return self._observer.missing
        self.over = True
        return self._development.wrong() if self._development else []

    async def _play(self) -> None:
        """What the world sends; then nothing more, for ever.

        The live runs of a line begin when its model is trained, whatever the others do; what comes
        late is counted from the first of them.
        """
        self._busy.clear()
        async with asyncio.TaskGroup() as work:
            work.create_task(self._record_past())
            for line, lab in zip(self._lines, self._labs, strict=True):
                work.create_task(self._operate(line, lab))
            work.create_task(self._record_late())
            if self._development:
                work.create_task(self._development.work())
        await asyncio.Event().wait()

    async def _record_past(self) -> None:
        gate = asyncio.Semaphore(_PHARMACIES_AT_ONCE)

        async def send(pharmacy: PharmacyClerk) -> None:
            async with gate:
                await pharmacy.send_records()

        with self._doing("recording the past"):
            async with asyncio.TaskGroup() as past:
                past.create_task(self._supply.record_past())
                for clerk in self._clerks:
                    past.create_task(clerk.send_records())
                for pharmacy in self._pharmacies:
                    past.create_task(send(pharmacy))
            self._say("the past is recorded")

    async def _operate(self, line: PlantLine, lab: Laboratory) -> None:
        """A line's history, its model, its live runs."""
        with self._doing(f"recording the history of {line.name}"):
            await line.register()
            await line.record_history()
            await lab.record(line.history)
            await self._qa.release_now(line.history)
        with self._doing(f"training the model of {line.name}"):
            model = await line.train()
        with self._doing(f"replaying the live runs of {line.name}"):
            line.hand_in_again()
            self._begun.set()
            await line.replay(model, Pace(self._options.speed, self._enough))

    async def _record_late(self) -> None:
        with self._doing("waiting for what comes late"):
            await self._begun.wait()
            async with asyncio.TaskGroup() as present:
                present.create_task(self._supply.record_late())
                for clerk in self._clerks:
                    present.create_task(clerk.send_late())
                for pharmacy in self._pharmacies:
                    present.create_task(pharmacy.send_late())

    @contextmanager
    def _doing(self, what: str) -> Iterator[None]:
        self._busy[what] = None
        yield
        del self._busy[what]

    def _enough(self) -> bool:
        return 0 < self._options.loops <= self._observer.closed

    def _still_to_send(self) -> list[str]:
        if self._busy:
            return [f"the world is {what}" for what in self._busy]
        waiting = self._qa.waiting() + sum(lab.waiting() for lab in self._labs)
        if waiting:
            return [f"{waiting} lots wait for release"]
        samples = sum(blood.waiting() for blood in self._blood)
        if samples:
            return [f"{samples} blood samples wait to be read"]
        return self._development.missing() if self._development else []


def _development(world: World, desk: Callable[[str], Desk], progress: Progress) -> Development | None:
    """The developer, where the world has one."""
    size = SIZES[world.size].treatment if world.size in SIZES else None
    if world.treatment is None or size is None:
        return None
    return Development(
        desk, world.treatment, world.sites, size.transfers, world.series, FirstLots(progress.folder)
    )


async def _first_to_end(*work: Coroutine[Any, Any, None]) -> None:
    """Run all until the first ends, then stop the others; a failure of one is raised."""
    tasks = [asyncio.create_task(part) for part in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
