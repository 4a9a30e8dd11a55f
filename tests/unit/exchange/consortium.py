"""The exchange and its sites in memory: the real handlers, steps, coordinator and agents, without engines.

Everything that a site sends and everything that the coordinator says passes a
`Line`, which a test may bend: drop it, hold it back, send it twice, alter it.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, TypeVar, cast

from google.protobuf.message import Message
from grpc import StatusCode, aio

from pharmaloop.exchange.v1 import events_pb2 as events
from pharmaloop.exchange.v1 import service_pb2 as api
from pharmaloop.loops.v1 import events_pb2 as loops
from services.exchange.coordinator.conductor import Limits
from services.exchange.coordinator.desk import Desk
from services.exchange.coordinator.hub import Hub
from services.exchange.coordinator.room import Room
from services.exchange.domain.disclosure.budget import Grant
from services.exchange.domain.disclosure.limits import Profile
from services.exchange.domain.studies import Study
from services.exchange.evaluator.agent import Evaluator
from services.exchange.evaluator_api import EvaluatorApi
from services.exchange.handlers import COMMANDS, EVENTS
from services.exchange.site.agent import Agent
from services.exchange.site.seen import SeenDataset, SeenStudy
from services.exchange.site.session import Site
from services.exchange.site.stored import Cohorts, SiteKeys
from services.exchange.site_api import SiteApi
from services.exchange.steps import Jobs, Patience
from services.exchange.valuations import Valuations
from services.exchange.views import DATASETS, RUNS, STUDIES
from services.kit.errors import Rejected
from services.kit.ids import study_case
from services.kit.rpc.errors import status_of
from services.kit.runners.decider import Decision
from services.kit.runners.reactor import Reactor
from services.kit.runners.step import Again
from services.kit.store.kinds import Kind, Stored
from services.kit.store.memory import AsyncMemoryStore, MemoryDatabase
from services.kit.work import Step
from tests.unit.exchange.hospitals import Hospital, request
from tests.unit.memory_service import MemoryService, Said

S = TypeVar("S")
NOW = datetime(2026, 3, 1, tzinfo=UTC)
#: What each owner grants one analyst.
GRANT = Grant(queries=100)
#: Bends a message on its way: what it answers is sent; None drops it.
Bend = Callable[[str, Any], Any]


def _keys(site: str) -> SiteKeys:
    return SiteKeys(*((f"{site}-{name}".encode() + bytes(32))[:32] for name in ("identity", "sealed", "c")))


class Line:
    """What one agent calls: the coordinator's own servicers, with a bend in between."""

    def __init__(self, consortium: Consortium, site: str) -> None:
        self._consortium, self._site = consortium, site
        self.bend_said: Bend = lambda _, said: said
        self.bend_task: Bend = lambda _, task: task
        self.cut = asyncio.Event()

    def __getattr__(self, method: str) -> Callable[..., Any]:
        async def call(said: Any, **_: Any) -> Any:
            bent = self.bend_said(method, said)
            if bent is None:
                raise asyncio.CancelledError
            return await self._consortium.receive(method, self._site, bent)

        return call

    def _bent(self, task: api.WorkResponse) -> api.WorkResponse | None:
        """A task on its way to the site; a connection that breaks breaks for every call."""
        try:
            bent: api.WorkResponse | None = self.bend_task(task.WhichOneof("task") or "", task)
        except aio.AioRpcError:
            self.cut.set()
            raise
        if bent is not None:
            self._consortium.traffic.append((f"to {self._site}", bent))
        return bent

    async def RegisterDataset(self, asked: api.RegisterDatasetRequest, **_: Any) -> Any:
        self._consortium.command("RegisterDataset", asked, f"agent/{self._site}")

    async def Work(self, said: AsyncIterator[api.WorkRequest], **_: Any) -> AsyncIterator[api.WorkResponse]:
        call = aiter(self._consortium.call(self._said(said)))
        self.cut.clear()
        broken = asyncio.ensure_future(self.cut.wait())
        coming: asyncio.Future[api.WorkResponse] = broken  # type: ignore[assignment]
        try:
            while True:
                coming = asyncio.ensure_future(anext(call))
                await asyncio.wait({coming, broken}, return_when=asyncio.FIRST_COMPLETED)
                if not coming.done():
                    raise aio.AioRpcError(StatusCode.UNAVAILABLE, aio.Metadata(), aio.Metadata())
                bent = self._bent(coming.result())
                if bent is not None:
                    yield bent
        finally:
            broken.cancel()
            coming.cancel()
            await asyncio.gather(coming, return_exceptions=True)
            await call.aclose()  # type: ignore[attr-defined]

    async def _said(self, said: AsyncIterator[api.WorkRequest]) -> AsyncIterator[api.WorkRequest]:
        """What the site says of rounds, on its way to the exchange."""
        async for one in said:
            name = one.WhichOneof("said") or ""
            bent = self.bend_said(name, getattr(one, name))
            if bent is not None:
                self._consortium.traffic.append((f"from {self._site}", bent))
                yield api.WorkRequest(**{name: bent})


class EvaluatorLine:
    """What the evaluator calls."""

    def __init__(self, consortium: Consortium) -> None:
        self._consortium = consortium

    def __getattr__(self, method: str) -> Callable[..., Any]:
        async def call(said: Any, **_: Any) -> Any:
            return await self._consortium.served(self._consortium.evaluator_api, method, "evaluator", said)

        return call

    async def RegisterEvaluator(self, asked: api.RegisterEvaluatorRequest, **_: Any) -> Any:
        self._consortium.command("RegisterEvaluator", asked, "evaluator")

    async def WatchValuations(
        self, asked: api.WatchValuationsRequest, **_: Any
    ) -> AsyncIterator[api.WatchValuationsResponse]:
        async for task in self._consortium.desk.watch(asked.evaluator):
            self._consortium.traffic.append(("to evaluator", task))
            yield task


@dataclass
class Consortium:
    """The coordinator with its agents."""

    sites: tuple[str, ...]
    hospitals: dict[str, Hospital]
    hub: Hub = field(default_factory=lambda: Hub(grace_seconds=0.05))
    traffic: list[tuple[str, Message]] = field(default_factory=list)
    now: datetime = NOW
    grant: Grant = GRANT

    def __post_init__(self) -> None:
        self.service = MemoryService("exchange", Reactor("runs", EVENTS), COMMANDS)
        self.lines = {site: Line(self, site) for site in self.sites}
        self.kept = {site: Cohorts(AsyncMemoryStore(MemoryDatabase())) for site in self.sites}
        self.agents: dict[str, asyncio.Task[None]] = {}
        self._see: Callable[[str], Awaitable[SeenStudy]] = self.seen
        app: Any = SimpleNamespace(store=self, decider=self, relay=None)
        self.app = app
        self.api = SiteApi(app, self.hub)
        self.desk = Desk(self.hub, 0.5)
        self.evaluator_api = EvaluatorApi(app, self.desk)
        self.valuations = Valuations(app, self.desk, 0.1, 5.0)
        self.jobs = Jobs(app, self.hub, Limits(2.0, 0.5), Patience(0.2, 0.01), self.valuations)

    # -- what the steps need of a service ---------------------------------------

    async def get(self, kind: Kind[S], id: str) -> Stored[S] | None:
        held = self.service.states(kind).get(id)
        return Stored(id, 1, held) if held is not None else None

    async def among(self, kind: Kind[S], field: str, values: Iterable[Any]) -> list[Stored[S]]:
        wanted = set(values)
        found = self.service.states(kind).items()
        named = ((id, one, id if field == "_id" else getattr(one, field)) for id, one in found)
        return [Stored(id, 1, one) for id, one, name in named if name in wanted]

    async def where(self, kind: Kind[S], field: str, value: Any) -> list[Stored[S]]:
        return await self.among(kind, field, [value])

    async def submit(self, method: str, asked: Message, *, request_id: str, actor: str) -> Decision:
        answer = self.command(method, asked, actor)
        return Decision(answer.SerializeToString(), (), (), False)

    def command(self, method: str, asked: Message, actor: str) -> Message:
        return self.service.command(method, asked, self.now, actor)

    # -- agents -------------------------------------------------------------------

    async def receive(self, method: str, site: str, said: Message) -> Any:
        return await self.served(self.api, method, site, said)

    def call(self, said: AsyncIterator[api.WorkRequest]) -> AsyncIterator[api.WorkResponse]:
        """A site's standing call."""
        return self.api.Work(said, None)

    def said_again(self, room: Room, said: api.ConfirmCohortRequest) -> str:
        """What becomes of a confirmation that was said before."""
        return room.confirm(said.site, said.compute_seconds, said.nonce, said.signature)

    async def served(self, servicer: Any, method: str, who: str, said: Message) -> Any:
        """A call of a servicer, noted with its answer."""
        self.traffic.append((f"from {who}", said))
        try:
            answer = await getattr(servicer, method)(said, None)
            if who == "evaluator":
                self.traffic.append(("to evaluator", answer))
            return answer
        except Rejected as refusal:
            # As a call over gRPC fails.
            told = status_of(refusal)
            trailing = aio.Metadata(*told.trailing_metadata)
            raise aio.AioRpcError(told.code, aio.Metadata(), trailing, told.details) from None

    def site(self, site: str, profile: Profile = Profile.PROTECTED) -> Site:
        """What an agent of the site brings to its jobs."""
        return Site(
            name=site,
            keys=_keys(site),
            profile=profile,
            source=self.hospitals[site],
            kept=self.kept[site],
            study=self._looked,
            identities=self._identities,
            now=lambda: self.now,
            dataset=f"{site}/routine",
            grant=self.grant,
        )

    def start(self, site: str, profile: Profile = Profile.PROTECTED) -> None:
        """Start the agent of a site, with nothing in its memory."""
        line = cast(Any, self.lines[site])
        agent = Agent(self.site(site, profile), line, line, site)
        self.agents[site] = asyncio.ensure_future(agent.run())

    def start_evaluator(self, private_key: bytes) -> None:
        """Start the evaluator of contributions."""
        line = cast(Any, EvaluatorLine(self))
        made = Evaluator("evaluator", private_key, line, self.seen, self._keys)
        self.agents["evaluator"] = asyncio.ensure_future(made.run())

    async def value(self, study: str = "s1") -> None:
        """What the step runner does after the answer."""
        await self.jobs.all()["valuation"](Step("valuation", study, ""))

    async def connected(self) -> None:
        """Wait until every site's agent watches."""
        async with asyncio.timeout(5):
            while self.hub.connected(self.sites) < set(self.sites):
                await asyncio.sleep(0.001)

    async def kill(self, site: str) -> None:
        """End an agent as a crash does: its connection breaks, and its memory is gone."""
        task = self.agents.pop(site)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.sleep(0)

    def agents_see(self, see: Callable[[str], Awaitable[SeenStudy]]) -> None:
        """What the agents' own views of a study tell from now on."""
        self._see = see

    async def _looked(self, study: str) -> SeenStudy:
        return await self._see(study)

    async def seen(self, study: str) -> SeenStudy:
        """What the topic tells of a study."""
        held = self.service.states(STUDIES).get(study)
        if held is None:
            return SeenStudy(study)
        over = held.ended if held.at_rest else ""
        valuing = tuple(site for site, said in held.approved_by.items() if said.valuation)
        return SeenStudy(study, held.requested, tuple(held.approved_by), over, valuing)

    async def _identities(self) -> dict[str, bytes]:
        held = self.service.states(DATASETS).values()
        return {one.site: one.message().signing_key for one in held}

    async def _keys(self) -> dict[str, SeenDataset]:
        held = [one.message() for one in self.service.states(DATASETS).values()]
        return {one.site: SeenDataset(one.site, one.signing_key, one.mask_key) for one in held}

    # -- people ---------------------------------------------------------------------

    def request(
        self, study: str = "s1", sites: tuple[str, ...] = (), actor: str = "analyst", **changes: Any
    ) -> None:
        asked = request(study, self.now, sites or self.sites)
        for name, value in changes.items():
            setattr(asked, name, value)
        self.command("RequestStudy", asked, actor)
        self.run_opened(study)

    def run_opened(self, study: str) -> None:
        opened = loops.EvidenceRunOpened(run=f"run-{study}", case=study_case(study), study=study)
        self.service.deliver(Said(opened, f"/svc/loops/{study}", 1, str(uuid.uuid4()), self.now))

    def approve(
        self, study: str = "s1", sites: tuple[str, ...] = (), valuation: tuple[str, ...] = ()
    ) -> None:
        """The owners approve; those of `valuation` agree to it, too."""
        for site in sites or self.sites:
            asked = api.ApproveStudyRequest(study=study, site=site, meaning="our data may be asked")
            asked.valuation = site in valuation
            self.command("ApproveStudy", asked, f"owner of {site}")

    async def step(self, study: str = "s1") -> Again | None:
        """Let the study go on, as the step runner does when it is due."""
        return await self.jobs.all()["job"](Step("job", study, ""))

    def study(self, study: str = "s1") -> Study:
        return self.service.states(STUDIES)[study]

    def run_of(self, study: str = "s1") -> str:
        return self.service.states(RUNS)[study].run

    def insights(self) -> list[events.InsightPublished]:
        return self.service.all(events.InsightPublished)

    def ended(self) -> list[events.JobEnded]:
        return self.service.all(events.JobEnded)


@asynccontextmanager
async def consortium(
    sites: tuple[str, ...], hospitals: dict[str, Hospital] | None = None
) -> AsyncIterator[Consortium]:
    """A consortium whose agents are connected."""
    made = Consortium(sites, hospitals or {site: Hospital(site) for site in sites})
    for site in sites:
        made.start(site)
    await made.connected()
    try:
        yield made
    finally:
        for site in list(made.agents):
            await made.kill(site)


def later(days: int) -> datetime:
    return NOW + timedelta(days=days)
