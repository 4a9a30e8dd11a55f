"""The simulated industry at work: who starts when, and when it is over."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from services.kit.clock import PlatformClock
from services.world.actors.desk import Desk
from services.world.actors.dryers import Dryers, Pace
from services.world.actors.hospital import HospitalClerk
from services.world.actors.observer import Observer
from services.world.actors.patients import PostRoom
from services.world.actors.pharmacy import Pharmacy
from services.world.actors.quality import HeadOfQuality, QualityAssurance
from services.world.actors.supply import record_materials
from services.world.dryer_runs import TAGS
from services.world.entities import World
from services.world.platform_api import Platform, Say
from services.world.progress import Progress
from services.world.worldgen.names import MAKER, PLANT


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

        self._world, self._platform, self._options, self._say = world, platform, options, say
        self._mes = desk(f"{MAKER}/mes")
        self._pharmacy = Pharmacy(desk("pharmacy-1"), world.site, world.pharmacy)
        self._hospital = HospitalClerk(
            desk(f"{world.site}/clerk"), world.site, world.subjects, world.hospital
        )
        self._qa = QualityAssurance(desk("qa"), manual=options.manual)
        self._head = HeadOfQuality(desk("head-of-quality"))
        self._post = PostRoom(desk(f"{world.site}/patients"), world.site, world.bodies)
        self._dryers = Dryers(desk(f"{PLANT}/historian"), world.dryer_lots, TAGS, self._qa.hand_in)
        self._observer = Observer(desk("observer"), self._still_to_send)
        self._phase = "waiting for the services"

    async def run(self) -> list[str]:
        """Play the world; answers what is missing when the time limit ended it, else nothing."""
        people = [self._qa.run(), self._post.run(), self._hospital.look_up_differences()]
        if not self._options.manual:
            people.append(self._head.run())
        limit = self._options.limit_minutes * 60 or None
        try:
            async with asyncio.timeout(limit):
                await self._platform.wait_until_serving()
                await _first_to_end(self._observer.run_until_done(), self._play(), *people)
        except TimeoutError:
            return self._observer.missing
        return []

    async def _play(self) -> None:
        """What the world sends, in order; then nothing more, for ever."""
        self._phase = "recording the past"
        await self._dryers.register()
        async with asyncio.TaskGroup() as past:
            past.create_task(record_materials(self._mes, self._world.materials))
            past.create_task(self._hospital.send_records())
            past.create_task(self._pharmacy.send_records())
            past.create_task(self._dryers.record_history())
        await self._qa.release_now(self._dryers.history)
        self._phase = "training the model"
        model = await self._dryers.train()
        self._phase = "replaying the live runs"
        self._dryers.hand_in_again()
        async with asyncio.TaskGroup() as present:
            present.create_task(self._dryers.replay(model, Pace(self._options.speed, self._enough)))
            present.create_task(self._pharmacy.send_late())
            present.create_task(self._hospital.send_late())
        self._phase = ""
        await asyncio.Event().wait()

    def _enough(self) -> bool:
        return 0 < self._options.loops <= self._observer.closed

    def _still_to_send(self) -> list[str]:
        if self._phase:
            return [f"the world is {self._phase}"]
        waiting = self._qa.waiting()
        return [f"{waiting} lots wait for release"] if waiting else []


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
