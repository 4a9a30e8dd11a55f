"""The gRPC face of traceability."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.traceability.v1 import events_pb2 as events
from pharmaloop.traceability.v1 import service_pb2 as api
from pharmaloop.traceability.v1 import service_pb2_grpc as api_grpc
from services.kit.bus.protocol import Position
from services.kit.errors import Invalid, Unknown
from services.kit.facts import Fact, vector
from services.kit.ids import in_kit, parse_lot
from services.kit.rpc.api import Api
from services.kit.rpc.context import caller
from services.kit.store.kinds import Get
from services.kit.units import size
from services.traceability import dossiers, finder, intake, lineages, neighbours, traced, views
from services.traceability.domain import balance
from services.traceability.domain.dispense import CONFLICT, Dispense
from services.traceability.domain.dossier import page_evidence, page_runs
from services.traceability.domain.dossier.published import published
from services.traceability.domain.entries import Entry
from services.traceability.domain.exposure import Exposure, site_exposure
from services.traceability.domain.graph import Node
from services.traceability.domain.moments import earliest, stamp
from services.traceability.protocol import FOLD


class TraceabilityApi(Api, api_grpc.TraceabilityServiceServicer):
    async def RecordMaterial(
        self, request: api.RecordMaterialRequest, context: Any
    ) -> api.RecordMaterialResponse:
        judge = self._with_fallback(request, "material", intake.material_fact)
        return api.RecordMaterialResponse(receipt=await self._record(request, "materials", judge))

    async def RecordShipments(
        self, request: api.RecordShipmentsRequest, context: Any
    ) -> api.RecordShipmentsResponse:
        judge = self._with_fallback(request, "shipment", intake.shipment_fact)
        return api.RecordShipmentsResponse(receipt=await self._record(request, "shipments", judge))

    async def RecordDispense(
        self, request: api.RecordDispenseRequest, context: Any
    ) -> api.RecordDispenseResponse:
        actor, sites = caller().actor, await views.sites(self.app.store)

        def judge(index: int, record: events.DispenseRecorded) -> Fact:
            return intake.dispense_fact(record, actor, sites)

        return api.RecordDispenseResponse(receipt=await self._record(request, "dispenses", judge))

    async def RecordReturns(
        self, request: api.RecordReturnsRequest, context: Any
    ) -> api.RecordReturnsResponse:
        judge = self._with_fallback(request, "return", intake.return_fact)
        return api.RecordReturnsResponse(receipt=await self._record(request, "returns", judge))

    async def RecordCorrections(
        self, request: api.RecordCorrectionsRequest, context: Any
    ) -> api.RecordCorrectionsResponse:
        judge = self._with_fallback(request, "correction", intake.correction_fact)
        return api.RecordCorrectionsResponse(receipt=await self._record(request, "corrections", judge))

    async def _record(
        self, request: Any, field: str, judge: Callable[[int, Any], Fact]
    ) -> common.FactReceipt:
        return await self.app.facts.record(
            getattr(request, field),
            judge,
            all_or_nothing=request.all_or_nothing,
            actor=caller().actor,
            field=field,
        )

    def _with_fallback(
        self, request: Any, kind: str, to_fact: Callable[[Any, str, str], Fact]
    ) -> Callable[[int, Any], Fact]:
        """Judge records that may have no id at their source: the request and their place make one."""
        actor = caller().actor

        def judge(index: int, record: Any) -> Fact:
            return to_fact(record, actor, intake.fallback_id(kind, actor, request.request_id, index))

        return judge

    async def TraceLot(
        self, request: api.TraceLotRequest, context: Any
    ) -> AsyncIterator[api.TraceLotResponse]:
        await self.reach(request)
        root = await self._node(request.lot)
        # Read before the walk: whatever the walk sees, it has seen at least this much.
        end = api.TraceEnd(positions=await self._folded())
        async for level in views.trace(self.app.store, root):
            for part in traced.parts(level):
                yield part
                end.lots += len(part.lots)
                end.dispenses += len(part.dispenses)
        yield api.TraceLotResponse(end=end)

    async def GetLineage(self, request: api.GetLineageRequest, context: Any) -> api.GetLineageResponse:
        await self.reach(request)
        return await lineages.read(self.app.store, request.id, request.kind, request.most)

    async def FindThings(self, request: api.FindThingsRequest, context: Any) -> api.FindThingsResponse:
        await self.reach(request)
        return await finder.find(self.app.store, request.text, request.most)

    async def ListNeighbours(
        self, request: api.ListNeighboursRequest, context: Any
    ) -> api.ListNeighboursResponse:
        await self.reach(request)
        return await neighbours.listed(self.app.store, await self._node(request.lot), request)

    async def FindInGenealogy(
        self, request: api.FindInGenealogyRequest, context: Any
    ) -> api.FindInGenealogyResponse:
        await self.reach(request)
        return await neighbours.searched(self.app.store, await self._node(request.lot), request)

    async def GetLotNode(self, request: api.GetLotNodeRequest, context: Any) -> api.GetLotNodeResponse:
        await self.reach(request)
        node = await self._node(request.lot)
        parts = parse_lot(node.lot)
        kept = await self.app.store.get(views.BALANCES, node.lot)
        held = balance.in_common_units(kept.state, size) if kept else balance.Balance(node.lot)
        went = [_place(*place) for place in balance.places(held)]
        suspects = [node.suspect] * bool(node.suspect)
        suspects += [] if balance.adds_up(held) else [balance.MASS_IMBALANCE]
        return api.GetLotNodeResponse(
            lot=node.lot,
            key=common.LotKey(owner=parts.owner, scheme=parts.scheme, item=parts.item, lot=parts.lot),
            known=node.known,
            made=stamp(node.made),
            inputs=traced.shown_inputs(node),
            outputs=node.outputs,
            dispenses=await self.app.store.count(views.DISPENSES, {"lots": node.lot}),
            runs=node.watches,
            suspect=",".join(suspects),
            places=went,
            inputs_withheld=in_kit(node.lot),
        )

    async def GetLotDossier(
        self, request: api.GetLotDossierRequest, context: Any
    ) -> api.GetLotDossierResponse:
        await self.reach(request)
        return api.GetLotDossierResponse(dossier=await dossiers.read(self.app.store, request.lot))

    async def GetExposure(self, request: api.GetExposureRequest, context: Any) -> api.GetExposureResponse:
        await self.reach(request)
        found = await self.app.store.get(views.RUNS, request.run)
        if found is None:
            raise Unknown("UNKNOWN_RUN", f"no exposure run {request.run!r} is known here", "run")
        run = found.state
        (of,) = await dossiers.of_runs(self.app.store, [run.run])
        counts = published(of.people())
        return api.GetExposureResponse(
            announced=_announced(of.head),
            phase=run.phase,
            not_firm=run.not_firm,
            people=page_runs.concerned(counts.total, counts.in_all),
            sites=page_runs.at_sites(of, counts)[0],
            answers=page_evidence.answers(counts.total, counts.in_all, of.is_open),
        )

    async def GetDispense(self, request: api.GetDispenseRequest, context: Any) -> api.GetDispenseResponse:
        await self.reach(request)
        found = await self.app.store.get(views.DISPENSES, request.dispense)
        if found is None:
            said = f"no record tells of a dispense {request.dispense!r}"
            raise Unknown("UNKNOWN_DISPENSE", said, "dispense")
        return traced.unnamed(found.state)

    async def ListUnattributed(
        self, request: api.ListUnattributedRequest, context: Any
    ) -> api.ListUnattributedResponse:
        if not request.run:
            raise Invalid("REQUIRED", "name the run whose dispenses you ask for", "run")
        await self.reach(request)
        filters: dict[str, Any] = {"open_in": request.run}
        if request.only_open:
            filters["explained"] = False
        page = await self.page(request, views.ENTRIES, filters)
        asked = [Get(views.DISPENSES, item.state.dispense) for item in page.items]
        told = await views.read(self.app.store, asked)
        rows = [
            _unattributed(entry.state, found.state)
            for entry, get in zip(page.items, asked, strict=True)
            for found in told[get]
        ]
        return api.ListUnattributedResponse(dispenses=rows, next_page_token=page.token)

    async def ExplainUnattributed(
        self, request: api.ExplainUnattributedRequest, context: Any
    ) -> api.ExplainUnattributedResponse:
        return await self.decide("ExplainUnattributed", request, api.ExplainUnattributedResponse)

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


def _place(place: str, received: float, sent: float, unit: str) -> api.PlaceAmount:
    return api.PlaceAmount(place=place, received=received, sent=sent, unit=unit)


def _unattributed(entry: Entry, dispense: Dispense) -> api.Unattributed:
    why = CONFLICT if dispense.disputed else "UNKNOWN_SITE" if dispense.waiting else "NO_PATIENT"
    return api.Unattributed(
        dispense=entry.dispense,
        lot=entry.lot,
        site=earliest(*(claim.site for claim in dispense.claims)),
        sources=dispense.sources,
        at=stamp(dispense.at),
        why=why,
        explained=entry.explained,
    )


def _announced(head: Exposure) -> events.ExposureAnnounced:
    return events.ExposureAnnounced(
        run=head.run,
        version=head.version,
        root=head.root,
        lots=head.lots,
        unattributed=head.unattributed,
        explained=head.explained,
        sites={site.site: site_exposure(site) for site in head.sites},
    )


def _suspect(suspect: views.Suspect) -> api.Suspect:
    return api.Suspect(
        reason=suspect.reason,
        lot=suspect.lot,
        dispense=suspect.dispense,
        description=suspect.description,
    )
