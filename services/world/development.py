"""The developer of a medicine at work: its plant, its scientists, its analyst, and the hospitals that answer.

It runs beside the industry of the safety loop and shares nothing with it but
the platform and the hospitals.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

from services.kit.ids import lot_key, parse_lot
from services.world.actors.analyst import Analyst, Owner, Question
from services.world.actors.campaign import Campaign
from services.world.actors.desk import Desk
from services.world.actors.plant_manager import PlantManager
from services.world.actors.registry import Registry
from services.world.actors.scientists import Programme, Scientists
from services.world.first_lots import FirstLots
from services.world.names import WEAK_PLANT
from services.world.plans import set_name
from services.world.recipes import plant_vessel, weak_vessel
from services.world.treatment import Treatment


class Development:
    """Who does what for the medicine; `transfers` versions of its process go to the plant."""

    def __init__(
        self,
        desk: Callable[[str], Desk],
        treatment: Treatment,
        sites: tuple[str, ...],
        transfers: int,
        series: str,
        first_lots: FirstLots,
    ) -> None:
        plant, product = treatment.plant, treatment.product
        first = treatment.lots[0]
        self._campaign = Campaign(desk(f"{plant}/historian"), plant, product, treatment.lots)
        self._registries = [Registry(desk(f"{site}/registry"), site, treatment.at(site)) for site in sites]
        parts = parse_lot(first.lot)
        self._manager = PlantManager(
            desk(f"{plant}/manager"),
            desk(f"{plant}/regulatory-affairs"),
            product,
            first.equipment,
            {(plant, "fermentation-1"): plant_vessel(), (WEAK_PLANT, "fermentation-1"): weak_vessel()},
            lot_key(parts.owner, parts.scheme, parts.item, f"{series}T" if series else "T"),
            first_lots,
        )
        programme = Programme(product, set_name(series), plant, WEAK_PLANT, transfers)
        people = desk("scientist"), desk("reviewer"), desk("head-of-development")
        self._scientists = Scientists(*people, programme)
        begun = [taker.begun for taker in treatment.takers]
        day = timedelta(days=1)
        lots = [lot.lot for lot in treatment.lots]
        question = Question(product, lots, sites, min(begun) - day, max(begun) + day)
        self._analyst = Analyst(desk("analyst"), question)
        self._owners = [Owner(desk(f"{site}/owner"), site) for site in sites]

    async def work(self) -> None:
        """The past first; then transfers and studies beside each other."""
        async with asyncio.TaskGroup() as past:
            past.create_task(self._campaign.record())
            for registry in self._registries:
                past.create_task(registry.record())
        await self._manager.register()
        async with asyncio.TaskGroup() as present:
            present.create_task(self._scientists.work())
            present.create_task(self._analyst.work())

    def people(self) -> list[Callable[[], Coroutine[Any, Any, None]]]:
        """Those who look at what waits for them, as long as the world is played."""
        return [self._manager.run, *(owner.run for owner in self._owners)]

    def missing(self) -> list[str]:
        """What is still to be done."""
        found = [] if self._scientists.done else ["transfers of the developer's process go on"]
        return found + ([] if self._analyst.done else ["studies of the developer's medicine go on"])

    def wrong(self) -> list[str]:
        """What the platform let pass that it had to refuse."""
        return [*self._scientists.wrong, *self._analyst.wrong]
