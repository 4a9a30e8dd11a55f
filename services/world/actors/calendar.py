"""What somebody does later, each thing at its own time after the runs began."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta

from services.world.actors.desk import Desk


@dataclass(frozen=True)
class Due:
    """Something to do once; `step` is its name in the progress, `said` what people hear of it."""

    after: timedelta
    step: str
    act: Callable[[], Awaitable[None]]
    said: str


async def keep(desk: Desk, dues: Iterable[Due]) -> None:
    """Do all of it in time; what was done before a new start is not done again."""
    waited = timedelta()
    for due in sorted(dues, key=lambda due: (due.after, due.step)):
        if desk.progress.is_done(due.step):
            continue
        await desk.sleep(due.after - waited)
        waited = due.after
        await due.act()
        desk.progress.finish(due.step)
        desk.say(due.said)
