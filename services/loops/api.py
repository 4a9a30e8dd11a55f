"""The gRPC face of loops."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from datetime import datetime
from typing import Any

from pharmaloop.loops.v1 import events_pb2 as events
from pharmaloop.loops.v1 import service_pb2 as api
from pharmaloop.loops.v1 import service_pb2_grpc as api_grpc
from services.kit.contracts import event_type
from services.kit.errors import Invalid, Unknown
from services.kit.ids import check_product
from services.kit.rpc.api import Api
from services.kit.rpc.changes import as_they_stand, of_types
from services.kit.rpc.context import caller
from services.kit.rpc.status import timestamp
from services.loops.domain.cases import LIMITS, stages_after
from services.loops.domain.runs import CLOSED, OPEN, STALLED, RunView, opened_of
from services.loops.handlers import PROJECTION
from services.loops.views import RUNS

_STATES = {api.RUN_STATE_OPEN: OPEN, api.RUN_STATE_STALLED: STALLED, api.RUN_STATE_CLOSED: CLOSED}
_NUMBERS = {name: number for number, name in _STATES.items()}
#: Where each loop's opening stands in a Run.
_OPENED_FIELDS: dict[str, Callable[[api.Run], Any]] = {
    "safety": lambda run: run.opened,
    "transfer": lambda run: run.opened_transfer,
    "evidence": lambda run: run.opened_evidence,
}
_RUN_EVENTS = [event_type(event) for event in PROJECTION]
_SNAPSHOT_PAGE = 200
#: By which field runs are ordered, and whether from the largest.
_ORDERS: dict[int, tuple[str, bool]] = {
    api.RUN_ORDER_UNSPECIFIED: ("began", True),
    api.RUN_ORDER_NEWEST: ("began", True),
    api.RUN_ORDER_STUCK_FIRST: ("rank", False),
}


class LoopsApi(Api, api_grpc.LoopsServiceServicer):
    async def ListRuns(self, request: api.ListRunsRequest, context: Any) -> api.ListRunsResponse:
        if request.order not in _ORDERS:
            raise Invalid("UNKNOWN_ORDER", "ask for the newest first, or for those that are stuck", "order")
        filters = {
            "state": _STATES.get(request.state, ""),
            "lot": request.lot,
            "loop": request.loop,
            "case": request.case,
            **_about(request),
        }
        await self.reach(request)
        order, descending = _ORDERS[request.order]
        page = await self.page(request, RUNS, filters, order, descending=descending)
        return api.ListRunsResponse(
            runs=[shown(item.state) for item in page.items], next_page_token=page.token
        )

    async def CountRuns(self, request: api.CountRunsRequest, context: Any) -> api.CountRunsResponse:
        about = {name: value for name, value in _about(request).items() if value}
        await self.reach(request)
        places = [(loop, state) for loop in LIMITS for state in _STATES.values()]
        found = await asyncio.gather(
            *(self.app.store.count(RUNS, {"loop": loop, "state": state, **about}) for loop, state in places)
        )
        counts = [
            api.RunCount(loop=loop, state=_NUMBERS[state], count=count)
            for (loop, state), count in zip(places, found, strict=True)
        ]
        return api.CountRunsResponse(counts=counts)

    async def GetRun(self, request: api.GetRunRequest, context: Any) -> api.GetRunResponse:
        await self.reach(request)
        stored = await self.app.store.get(RUNS, request.run)
        if stored is None:
            raise Unknown("UNKNOWN_RUN", f"there is no run {request.run!r}; ListRuns shows the runs", "run")
        return api.GetRunResponse(run=shown(stored.state))

    async def CancelRun(self, request: api.CancelRunRequest, context: Any) -> api.CancelRunResponse:
        return await self.decide("CancelRun", request, api.CancelRunResponse)

    async def WatchRuns(
        self, request: api.WatchRunsRequest, context: Any
    ) -> AsyncIterator[api.WatchRunsResponse]:
        watching = self.app.watching
        topics = watching.topics(_RUN_EVENTS)
        following = watching.follow(topics, request.after, of_types(_RUN_EVENTS), actor=caller().actor)
        first = None if request.after.positions else self._open
        async with aclosing(as_they_stand(following, first, self._run)) as standing:
            async for run, position, lag in standing:
                yield api.WatchRunsResponse(run=run, position=position, lag=lag)

    async def _open(self) -> AsyncIterator[api.Run]:
        """The open runs as they stand, late ones among them, the oldest first."""
        for state in (OPEN, STALLED):
            token = ""
            while True:
                page = await self.app.store.page(
                    RUNS, {"state": state}, "began", False, token, _SNAPSHOT_PAGE
                )
                for item in page.items:
                    yield shown(item.state)
                if not (token := page.token):
                    break

    async def _run(self, run: str) -> api.Run | None:
        stored = await self.app.store.get(RUNS, run)
        return shown(stored.state) if stored else None


def _about(request: api.ListRunsRequest | api.CountRunsRequest) -> dict[str, str]:
    """What the runs that are asked for are about."""
    if request.product:
        check_product(request.product)
    return {"product": request.product, "plant": request.plant, "sites": request.site}


def shown(view: RunView) -> api.Run:
    """A run as the contract says it."""
    stages = [
        api.Stage(
            name=stage.name,
            seconds=stage.seconds,
            ended=timestamp(datetime.fromisoformat(stage.ended)),
            slo_seconds=stage.slo,
            platform_seconds=stage.platform,
        )
        for stage in view.stages
    ]
    opened = opened_of(view)
    follows = bool(getattr(opened, "follows", ""))
    run = api.Run(
        run=view.run,
        loop=view.loop,
        case=view.case or view.lot,
        state=_NUMBERS[view.state],
        stages=stages,
        stage=view.stage,
        waiting_for=view.waiting_for,
        began=timestamp(datetime.fromisoformat(view.began)),
        seconds=view.seconds,
        stage_slo_seconds=view.slo,
        next_stages=[
            api.Stage(name=name, slo_seconds=LIMITS[view.loop][name])
            for name in stages_after(view.loop, view.stage, follows)
        ],
        product=view.product,
        plant=view.plant,
        sites=view.sites,
    )
    if view.since:
        run.stage_since.CopyFrom(timestamp(datetime.fromisoformat(view.since)))
    if view.due:
        run.stage_due.CopyFrom(timestamp(datetime.fromisoformat(view.due)))
    _OPENED_FIELDS[view.loop](run).CopyFrom(opened)
    if view.closed:
        run.closed.CopyFrom(events.LoopClosed.FromString(view.closed))
    return run
