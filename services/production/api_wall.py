"""The gRPC face of the quality wall: rows of equipment, charts of tags, lots to look up.

All of it is worked out from what the detector keeps when somebody asks; nothing is
written for it. Looking at runs takes the processor, so it is done beside the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from statistics import median
from typing import Any, NamedTuple

from pharmaloop.production.v1 import service_pb2 as api
from services.kit.app import App
from services.kit.errors import Invalid, Unknown
from services.kit.ids import check_product, parse_lot
from services.kit.rpc.api import Api
from services.kit.rpc.states import stored
from services.kit.store.kinds import Prefix, Stored
from services.production import answers, answers_wall
from services.production.domain.equipment import Equipment
from services.production.domain.golden import GoldenModel
from services.production.domain.record import Lot
from services.production.domain.watch import Watch
from services.production.handlers.detector import parameters_id
from services.production.handlers.models import opened
from services.production.looking import Looking
from services.production.views import (
    DECISION_ROWS,
    EQUIPMENT,
    LINE_ROWS,
    LOTS,
    PARAMETERS,
    RUNS,
    WATCHES,
    line_id,
    run_id,
)

_POINTS, _FEWEST_POINTS, _MOST_POINTS = 500, 20, 5000
#: So many of a model's runs tell how long a run takes; so many models' are remembered.
_TIMED_RUNS, _TIMED_MODELS = 20, 256


class _Found(NamedTuple):
    """A piece of equipment with its latest lot, and what the detector keeps of that run."""

    equipment: Equipment
    lot: Lot | None
    watch: Watch | None


class WallApi(Api):
    """ListWall, GetChart and ListLots."""

    def __init__(self, app: App) -> None:
        super().__init__(app)
        self._looking = Looking()
        self._durations: dict[str, float] = {}

    # -- the wall ----------------------------------------------------------

    async def ListWall(self, request: api.ListWallRequest, context: Any) -> api.ListWallResponse:
        await self.reach(request)
        filters = {"plant": request.plant, "_id": await self._equipment_of(request)}
        page = await self.page(request, EQUIPMENT, filters)
        equipment: list[Equipment] = [item.state for item in page.items]
        lots = await asyncio.gather(*(self._latest(one.equipment) for one in equipment))
        watches = await self._watches(lot for lot in lots if lot is not None)
        found = [
            _Found(one, lot, watches.get(run_id(lot.lot, one.equipment)) if lot else None)
            for one, lot in zip(equipment, lots, strict=True)
        ]
        models = await self._models(watches.values())
        for model in models.values():
            await self._time(model)
        lines = await self._lines({one.plant for one in equipment})
        now = answers_wall.Now(self.app.clock.wall(), self.app.clock.speed)
        rows = await asyncio.to_thread(lambda: [self._row(one, models, lines, now) for one in found])
        return api.ListWallResponse(rows=rows, next_page_token=page.token)

    async def _equipment_of(self, request: api.ListWallRequest) -> str:
        """The equipment that is asked for, by itself or by its line; empty for all."""
        if not request.line:
            return request.equipment
        if not request.plant:
            raise Invalid("REQUIRED", "name the plant of the line; each plant names its own lines", "plant")
        found = await self.app.store.get(LINE_ROWS, line_id(request.plant, request.line))
        if found is None:
            said = "the plant has no such line; list its lines with ListLines"
            raise Unknown("UNKNOWN_LINE", said, "line")
        own = found.state.message().equipment
        if request.equipment not in ("", own):
            said = f"the line is registered for {own!r}; give that, or leave one of both out"
            raise Invalid("OTHER_EQUIPMENT", said, "equipment")
        return own

    async def _latest(self, equipment: str) -> Lot | None:
        """The lot whose run began last on the equipment."""
        page = await self.app.store.page(LOTS, {"equipment": equipment}, "started", True, "", 1)
        return page.items[0].state if page.items else None

    async def _watches(self, lots: Iterable[Lot]) -> dict[str, Watch]:
        ids = [run_id(lot.lot, lot.equipment) for lot in lots]
        found: list[Stored[Watch]] = await self.app.store.among(WATCHES, "_id", ids) if ids else []
        return {item.id: item.state for item in found}

    async def _models(self, watches: Iterable[Watch]) -> dict[str, GoldenModel]:
        """The models that judge the runs, by their id."""
        ids = {id for watch in watches if (id := _model_of(watch))}
        found = await self.app.store.among(PARAMETERS, "_id", sorted(ids)) if ids else []
        return {item.id: opened(item.state.model) for item in found}

    async def _lines(self, plants: set[str]) -> dict[str, list[str]]:
        """Names of the lines by equipment."""
        found = await self.app.store.among(LINE_ROWS, "plant", sorted(plants)) if plants else []
        lines: dict[str, list[str]] = {}
        for told in (item.state.message() for item in found):
            lines.setdefault(told.equipment, []).append(told.line)
        return {equipment: sorted(names) for equipment, names in lines.items()}

    async def _time(self, model: GoldenModel) -> None:
        """Note how long the runs of a model took: it is not part of the model, and does not change."""
        if model.version in self._durations:
            return
        runs = await self.app.store.among(RUNS, "lot", model.calibration_lots[:_TIMED_RUNS])
        longest: dict[str, float] = {}
        for run in (item.state for item in runs):
            if len(run.samples):
                took = float(run.samples.seconds()[-1])
                longest[run.lot] = max(took, longest.get(run.lot, 0.0))
        if len(self._durations) >= _TIMED_MODELS:
            self._durations.clear()
        self._durations[model.version] = median(longest.values()) if longest else 0.0

    def _row(
        self,
        found: _Found,
        models: dict[str, GoldenModel],
        lines: dict[str, list[str]],
        now: answers_wall.Now,
    ) -> api.WallRow:
        equipment, lot, watch = found
        if lot is None:
            return answers_wall.idle(equipment, lines.get(equipment.equipment, []))
        model = models.get(_model_of(watch)) if watch else None
        course = None
        if watch is not None and model is not None and watch.lot not in model.calibration_lots:
            course = self._looking.course(run_id(lot.lot, lot.equipment), watch.samples, model)
        duration = self._durations.get(model.version, 0.0) if model else 0.0
        run = answers_wall.Seen(lot, watch, model, course)
        return answers_wall.row(equipment, lines.get(equipment.equipment, []), run, duration, now)

    # -- charts ------------------------------------------------------------

    async def GetChart(self, request: api.GetChartRequest, context: Any) -> api.GetChartResponse:
        parse_lot(request.lot)
        most = request.most_points or _POINTS
        if not _FEWEST_POINTS <= most <= _MOST_POINTS:
            said = f"ask for {_FEWEST_POINTS} to {_MOST_POINTS} points"
            raise Invalid("OUT_OF_RANGE", said, "most_points")
        await self.reach(request)
        held = await self.app.store.get(LOTS, request.lot)
        if held is None:
            said = "no such lot in this plant's records; look it up with ListLots"
            raise Unknown("UNKNOWN_LOT", said, "lot")
        lot = held.state
        if not lot.equipment:
            raise Unknown("NO_RUN", "the lot has no process run in this plant, so there is no chart", "lot")
        equipment = await self.app.store.get(EQUIPMENT, lot.equipment)
        watch = (await self._watches([lot])).get(run_id(lot.lot, lot.equipment))
        models = await self._models([watch] if watch else [])
        known = _tags(watch, equipment.state if equipment else None)
        if request.tag and request.tag not in known:
            said = f"the lot's run has no tag {request.tag!r}; it has {', '.join(known)}"
            raise Unknown("UNKNOWN_TAG", said, "tag")
        model = models.get(_model_of(watch)) if watch else None

        def draw() -> api.GetChartResponse:
            course = None
            if watch is not None and model is not None and watch.lot not in model.calibration_lots:
                course = self._looking.course(run_id(lot.lot, lot.equipment), watch.samples, model)
            run = answers_wall.Seen(lot, watch, model, course)
            return answers_wall.chart(run, equipment.state if equipment else None, request.tag, most)

        return await asyncio.to_thread(draw)

    # -- lots --------------------------------------------------------------

    async def ListLots(self, request: api.ListLotsRequest, context: Any) -> api.ListLotsResponse:
        filters: dict[str, Any] = {"state": stored(answers.LOT_STATES, request.state)}
        if request.product:
            check_product(request.product)
            filters["_id"] = Prefix(f"{request.product}/")
        if "/" in request.prefix:
            filters["_id"] = Prefix(_both(filters.get("_id"), request.prefix))
        elif request.prefix:
            filters["number"] = Prefix(request.prefix)
        await self.reach(request)
        page = await self.page(request, LOTS, filters, "started", descending=not request.oldest_first)
        lots = [answers.lot(item.state, parse_lot(item.id)) for item in page.items]
        decided = {one.lot: one for one in lots if one.state in answers.DECIDED_STATES}
        for row in await self.app.store.among(DECISION_ROWS, "_id", list(decided)) if decided else ():
            answers.since(decided[row.id], row.state)
        return api.ListLotsResponse(lots=lots, next_page_token=page.token)


def _both(of_product: Prefix | None, prefix: str) -> str:
    """The longer of two beginnings of a key; Invalid where nothing begins with both."""
    if of_product is None or prefix.startswith(of_product.text):
        return prefix
    if of_product.text.startswith(prefix):
        return of_product.text
    said = "no lot of the product has a key that begins so; leave the product or the prefix out"
    raise Invalid("WRONG_PRODUCT", said, "prefix")


def _model_of(watch: Watch) -> str:
    """Id of the model that judges the run; empty where none does."""
    return parameters_id(watch.product, watch.basis.version) if watch.basis else ""


def _tags(watch: Watch | None, equipment: Equipment | None) -> list[str]:
    """The tags that a run may be asked for: those it has readings of, and those of its equipment."""
    recorded = watch.samples.units() if watch else {}
    return sorted({*recorded, *(tag.name for tag in equipment.tags)} if equipment else recorded)
