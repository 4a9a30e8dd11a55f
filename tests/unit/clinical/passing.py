"""The clock of a hospital in memory goes on, and its steps run."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from google.protobuf.message import Message

from services.clinical.steps import Steps
from services.kit.app import App
from services.kit.sealing import Sealer
from services.kit.store.memory import AsyncMemoryStore
from services.kit.work import STEPS, moment_text
from tests.unit.clinical.memory_site import SITE
from tests.unit.clinical.study_site import Keys
from tests.unit.clinical.teller import Teller


class Killed(Exception):
    """The process dies here."""


def pass_time(told: Teller, hours: float, *, dies_after: int | None = None) -> None:
    """The clock goes on, and the steps that are due by then run; the row of one that is done is gone,
    unless it was made due anew."""
    told.site.clock.advance(3600 * hours)
    commands = 0

    async def submit(method: str, request: Message, **_: Any) -> None:
        nonlocal commands
        if dies_after is not None and commands >= dies_after:
            raise Killed
        commands += 1
        told.site.command(method, request, told.site.clock.now())

    store, clock = AsyncMemoryStore(told.site.database), told.site.clock
    parts = {"site": SITE, "store": store, "sealer": Sealer(Keys()), "clock": clock}
    steps = Steps(cast(App, SimpleNamespace(**parts, decider=SimpleNamespace(submit=submit)))).all()
    for id, row in sorted(told.site.states(STEPS).items()):
        if row.due <= moment_text(told.site.clock.now()):
            asyncio.run(cast(Any, steps[row.step](row)))
            if told.site.states(STEPS)[id] == row:
                del told.site.database.docs[STEPS.name][id]
