"""The agents that are connected now, and the rooms of the jobs that are computed now."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field

from pharmaloop.exchange.v1 import service_pb2 as api
from services.exchange.coordinator.room import Room

_Task = api.WorkResponse


@dataclass
class _Link:
    """The standing call of an agent; None in its queue ends it."""

    tasks: asyncio.Queue[_Task | None] = field(default_factory=asyncio.Queue)


class Hub:
    """Gives tasks to agents. A site's newest call is the one that counts."""

    def __init__(self, grace_seconds: float = 1.0) -> None:
        """A site whose call has ended has so long to make another before it counts as gone."""
        self._grace = grace_seconds
        self._links: dict[str, _Link] = {}
        self.rooms: dict[str, Room] = {}

    def connected(self, sites: Iterable[str]) -> set[str]:
        """Those of the sites whose agents are connected."""
        return {site for site in sites if site in self._links}

    def send(self, site: str, task: _Task) -> None:
        """Give a task to a site; one that is not connected is asked the last one when it comes back."""
        room = self.rooms.get(_job_of(task))
        if room is not None:
            room.ask(site, task)
        self._tell(site, task)

    def refuse(self, site: str, job: str, reason: str, statement: str) -> None:
        """Tell a site that what it said was refused; it is told once."""
        told = api.TaskRefusal(reason=reason, statement=statement)
        self._tell(site, _Task(refused=api.Refused(job=job, refusal=told)))

    def _tell(self, site: str, task: _Task) -> None:
        link = self._links.get(site)
        if link is not None:
            link.tasks.put_nowait(task)

    async def watch(self, site: str) -> AsyncIterator[_Task]:
        """The tasks of a site, from now on."""
        link, before = _Link(), self._links.get(site)
        self._links[site] = link
        if before is not None:
            before.tasks.put_nowait(None)
        try:
            now = [room for room in self.rooms.values() if site in room.participants]
            asked = [task for room in now for task in room.back(site)]
            yield _Task(welcome=api.Welcome(site=site, jobs=[room.job for room in now]))
            for task in asked:
                yield task
            while (next_task := await link.tasks.get()) is not None:
                yield next_task
        finally:
            if self._links.get(site) is link:
                del self._links[site]
                asyncio.get_running_loop().call_later(self._grace, self._gone, site)

    def _gone(self, site: str) -> None:
        if site not in self._links:
            for room in self.rooms.values():
                room.left(site)

    def stop(self, study: str, why: str) -> None:
        """End what is computed for a study."""
        for room in self.rooms.values():
            if room.study == study:
                room.stop(why)


def _job_of(task: _Task) -> str:
    name = task.WhichOneof("task")
    return getattr(getattr(task, name), "job", "") if name else ""
