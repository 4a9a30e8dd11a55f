"""The evaluator that is connected, and the valuations that are open: asks and sealed vectors pass through.

The coordinator sees which sites are asked for which coalition, and rounded
values. What they are asked is sealed to them, what they answer to the evaluator.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from pharmaloop.exchange.v1 import service_pb2 as api
from services.exchange.coordinator.hub import Hub
from services.exchange.coordinator.room import ACCEPTED, JOB_OVER, Room, Sealing
from services.exchange.domain.contribution.shapley import Coalition
from services.exchange.valuing import TICKET
from services.kit import hpke
from services.refusals import Refusal

_TICKET_BYTES = 32


@dataclass(frozen=True)
class Values:
    """What the evaluator told of a job: values of its coalitions, or why there are none."""

    values: dict[Coalition, float] = field(default_factory=dict)
    not_valued: str = ""


@dataclass
class _Open:
    """One valuation."""

    room: Room
    sites: tuple[str, ...]
    ticket: bytes
    task: api.WatchValuationsResponse
    done: asyncio.Future[Values]
    asking: asyncio.Lock = field(default_factory=asyncio.Lock)


class Desk:
    """Gives jobs to the evaluator, and its asks to the sites. Its newest watcher is the one that counts."""

    def __init__(self, hub: Hub, round_seconds: float) -> None:
        self._hub, self.round_seconds = hub, round_seconds
        self._open: dict[str, _Open] = {}
        self._watch: asyncio.Queue[api.WatchValuationsResponse | None] | None = None
        self._name = ""
        self._came = asyncio.Event()

    async def watch(self, name: str) -> AsyncIterator[api.WatchValuationsResponse]:
        """The valuations that are open, and those to come."""
        mine: asyncio.Queue[api.WatchValuationsResponse | None] = asyncio.Queue()
        before, self._watch, self._name = self._watch, mine, name
        if before is not None:
            before.put_nowait(None)
        self._came.set()
        try:
            asked = [one.task for one in self._open.values()]
            yield api.WatchValuationsResponse()
            for task in asked:
                yield task
            while (next_task := await mine.get()) is not None:
                yield next_task
        finally:
            if self._watch is mine:
                self._watch = None
                self._came.clear()

    async def value(
        self, room: Room, sites: tuple[str, ...], evaluator: tuple[str, bytes], join: float, seconds: float
    ) -> Values:
        """The evaluator's values of a job; `evaluator` is its name and key, `join` and `seconds` are waited
        for it to be connected, and to be done."""
        name, key = evaluator
        if not await self._there(name, join):
            return Values(not_valued="EVALUATOR_AWAY")
        ticket = secrets.token_bytes(_TICKET_BYTES)
        task = api.WatchValuationsResponse(
            job=room.job,
            study=room.study,
            sites=sites,
            ticket=hpke.seal(key, ticket, TICKET, room.job.encode()),
        )
        done: asyncio.Future[Values] = asyncio.get_running_loop().create_future()
        self._open[room.job] = _Open(room, sites, ticket, task, done)
        try:
            if self._watch is not None:
                self._watch.put_nowait(task)
            async with asyncio.timeout(seconds):
                return await done
        except TimeoutError:
            return Values(not_valued="EVALUATOR_TOO_SLOW")
        finally:
            del self._open[room.job]

    async def _there(self, name: str, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._came.wait()
        except TimeoutError:
            return False
        return self._name == name

    async def ask(self, said: api.AskCoalitionRequest) -> list[api.SealedVector]:
        """What the sites sealed in one round of a coalition's fit; Refusal where one does not answer."""
        found = self._of(said.job, said.ticket)
        if found is None:
            raise Refusal(JOB_OVER, "no valuation of this job is open", "job")
        coalition, asks = frozenset(said.coalition), {one.site: one.sealed for one in said.asks}
        if not coalition or not coalition <= set(found.sites):
            raise Refusal("NOT_AN_OWNER", "a coalition is of sites that answered the job", "coalition")
        if set(asks) not in (set(coalition), set(found.sites)):
            raise Refusal("WRONG_SITES", "the coalition is asked, or every site of the job", "asks")
        sites, room = tuple(sorted(asks)), found.room
        async with found.asking:
            sealing = room.sealing = Sealing(coalition, said.round, sites)
            for site in sites:
                task = api.EvaluateTask(
                    job=said.job, coalition=sorted(coalition), round=said.round, sealed=asks[site]
                )
                self._hub.send(site, api.WorkResponse(evaluate=task))
            await room.until(lambda: room.ends(sites) or not sealing.missing(), self.round_seconds)
            room.sealing = None
        if sealing.missing():
            reason = next((room.declined[one].reason for one in sites if one in room.declined), "")
            said_ = f"{', '.join(sealing.missing())} did not answer the evaluator"
            raise Refusal(reason or "SITE_DROPPED", said_, "coalition")
        return [sealing.received[site] for site in sites]

    def take(self, said: api.SubmitValuesRequest) -> str:
        """The values of a job."""
        found = self._of(said.job, said.ticket)
        if found is None or found.done.done():
            return JOB_OVER
        values = {frozenset(one.coalition): one.value for one in said.values}
        found.done.set_result(Values(values, said.not_valued))
        return ACCEPTED

    def _of(self, job: str, ticket: bytes) -> _Open | None:
        """The valuation, if who asks has opened its ticket."""
        found = self._open.get(job)
        if found is not None and not hmac.compare_digest(found.ticket, ticket):
            raise Refusal("NOT_THE_EVALUATOR", "the ticket of this job is another one", "ticket")
        return found
