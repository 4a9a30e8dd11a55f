"""The gRPC face of traceability."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.traceability.v1 import events_pb2 as events
from pharmaloop.traceability.v1 import service_pb2 as api
from pharmaloop.traceability.v1 import service_pb2_grpc as api_grpc
from services.kit.bus.protocol import Position
from services.kit.errors import Unknown
from services.kit.facts import Fact, vector
from services.kit.ids import parse_lot
from services.kit.rpc.api import Api
from services.kit.rpc.context import caller
from services.traceability import intake, views
from services.traceability.domain.dispense import Dispense
from services.traceability.domain.exposure import Exposure, site_exposure
from services.traceability.domain.graph import Node
from services.traceability.domain.moments import stamp
from services.traceability.protocol import FOLD


class TraceabilityApi(Api, api_grpc.TraceabilityServiceServicer):
    async def RecordMaterial(
        self, request: api.RecordMaterialRequest, context: Any
    ) -> api.RecordMaterialResponse:
        actor = caller().actor

        def fact(index: int, record: events.MaterialRecorded) -> Fact:
            fallback = intake.material_fallback(actor, request.request_id, index)
            return intake.material_fact(record, actor, fallback)

        receipt = await self.app.facts.record(
            request.materials, fact, all_or_nothing=request.all_or_nothing, actor=actor, field="materials"
        )
        return api.RecordMaterialResponse(receipt=receipt)

    async def RecordDispense(
        self, request: api.RecordDispenseRequest, context: Any
    ) -> api.RecordDispenseResponse:
        actor, sites = caller().actor, await views.sites(self.app.store)

        def fact(index: int, record: events.DispenseRecorded) -> Fact:
            return intake.dispense_fact(record, actor, sites)

        receipt = await self.app.facts.record(
            request.dispenses, fact, all_or_nothing=request.all_or_nothing, actor=actor, field="dispenses"
        )
        return api.RecordDispenseResponse(receipt=receipt)

    async def TraceLot(
        self, request: api.TraceLotRequest, context: Any
    ) -> AsyncIterator[api.TraceLotResponse]:
        await self.reach(request)
        root = await self._node(request.lot)
        # Read before the walk: whatever the walk sees, it has seen at least this much.
        end = api.TraceEnd(positions=await self._folded())
        async for level in views.trace(self.app.store, root):
            for node in level.nodes:
                yield api.TraceLotResponse(lot=_traced_lot(node, level.depth))
            for dispense in level.dispenses:
                yield api.TraceLotResponse(dispense=_traced_dispense(dispense))
            end.lots += len(level.nodes)
            end.dispenses += len(level.dispenses)
        yield api.TraceLotResponse(end=end)

    async def GetLotNode(self, request: api.GetLotNodeRequest, context: Any) -> api.GetLotNodeResponse:
        await self.reach(request)
        node = await self._node(request.lot)
        parts = parse_lot(node.lot)
        return api.GetLotNodeResponse(
            lot=node.lot,
            key=common.LotKey(owner=parts.owner, scheme=parts.scheme, item=parts.item, lot=parts.lot),
            known=node.known,
            made=stamp(node.made),
            inputs=node.inputs,
            outputs=node.outputs,
            dispenses=await self.app.store.count(views.DISPENSES, {"lots": node.lot}),
            runs=node.watches,
            suspect=node.suspect,
        )

    async def GetExposure(self, request: api.GetExposureRequest, context: Any) -> api.GetExposureResponse:
        await self.reach(request)
        found = await self.app.store.get(views.RUNS, request.run)
        if found is None:
            raise Unknown("UNKNOWN_RUN", f"no exposure run {request.run!r} is known here", "run")
        run = found.state
        head = await self.app.store.get(views.EXPOSURES, run.run)
        announced = _announced(head.state if head else Exposure(run.run, run.root))
        return api.GetExposureResponse(announced=announced, phase=run.phase, not_firm=run.not_firm)

    async def ListSuspects(self, request: api.ListSuspectsRequest, context: Any) -> api.ListSuspectsResponse:
        await self.reach(request)
        page = await self.page(request, views.SUSPECTS, {})
        return api.ListSuspectsResponse(
            suspects=[_suspect(item.state) for item in page.items], next_page_token=page.token
        )

    async def _node(self, lot: str) -> Node:
        parse_lot(lot)
        found = await self.app.store.get(views.NODES, lot)
        if found is None:
            raise Unknown("UNKNOWN_LOT", f"no record names the lot {lot!r}", "lot")
        return found.state

    async def _folded(self) -> common.PositionVector:
        at = await self.app.positions.of(FOLD)
        return vector(Position(p.topic, p.number, end - 1) for p, end in at.items() if end)


def _traced_lot(node: Node, depth: int) -> api.TracedLot:
    return api.TracedLot(
        lot=node.lot, depth=depth, inputs=node.inputs, known=node.known, suspect=node.suspect
    )


def _traced_dispense(dispense: Dispense) -> api.TracedDispense:
    return api.TracedDispense(
        dispense=dispense.dispense,
        lot=dispense.lots[0],
        site=dispense.site,
        pseudonym=dispense.pseudonym,
        at=stamp(dispense.at),
        suspect=",".join(dispense.suspects),
    )


def _announced(head: Exposure) -> events.ExposureAnnounced:
    return events.ExposureAnnounced(
        run=head.run,
        version=head.version,
        root=head.root,
        lots=head.lots,
        unattributed=head.unattributed,
        sites={site.site: site_exposure(site) for site in head.sites},
    )


def _suspect(suspect: views.Suspect) -> api.Suspect:
    return api.Suspect(
        reason=suspect.reason,
        lot=suspect.lot,
        dispense=suspect.dispense,
        description=suspect.description,
    )
