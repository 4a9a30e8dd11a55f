"""The gRPC face of rnd: insights and the catalogue; parameter sets have a module of their own."""

from __future__ import annotations

import asyncio
from typing import Any

from pharmaloop.rnd.v1 import events_pb2 as events
from pharmaloop.rnd.v1 import service_pb2 as api
from pharmaloop.rnd.v1 import service_pb2_grpc as api_grpc
from services.kit.errors import Unknown
from services.kit.refused import refusals
from services.kit.rpc.context import caller
from services.rnd import answers
from services.rnd.api_learning import LearningApi
from services.rnd.api_parameter_sets import ParameterSetsApi
from services.rnd.domain import catalogue
from services.rnd.views import INSIGHTS, MOLECULES, PRODUCTS, TARGETS


class RndApi(ParameterSetsApi, LearningApi, api_grpc.RndServiceServicer):
    async def ListInsights(self, request: api.ListInsightsRequest, context: Any) -> api.ListInsightsResponse:
        await self.reach(request)
        filters = {"product": request.product, "parameter": request.parameter}
        page = await self.page(request, INSIGHTS, filters, "at", descending=True)
        insights = [answers.insight(item.state) for item in page.items]
        return api.ListInsightsResponse(insights=insights, next_page_token=page.token)

    # -- catalogue -----------------------------------------------------------------

    async def RegisterTarget(
        self, request: api.RegisterTargetRequest, context: Any
    ) -> api.RegisterTargetResponse:
        return await self.decide("RegisterTarget", request, api.RegisterTargetResponse)

    async def RegisterMolecule(
        self, request: api.RegisterMoleculeRequest, context: Any
    ) -> api.RegisterMoleculeResponse:
        with refusals():
            structure_hash = catalogue.structure_hash(request.smiles)
        structure = events.MoleculeStructure(smiles=request.smiles)
        key = f"rnd/molecule/{request.molecule}"
        asked = events.MoleculeRegistered(
            molecule=request.molecule,
            name=request.name,
            structure=await asyncio.to_thread(self.app.sealer.seal, structure, key),
            structure_hash=structure_hash,
            provenance=request.provenance,
            actor=caller().actor,
            target=request.target,
        )
        return await self.submit(request, "RegisterMolecule", asked, api.RegisterMoleculeResponse)

    async def RegisterProduct(
        self, request: api.RegisterProductRequest, context: Any
    ) -> api.RegisterProductResponse:
        return await self.decide("RegisterProduct", request, api.RegisterProductResponse)

    async def ListTargets(self, request: api.ListTargetsRequest, context: Any) -> api.ListTargetsResponse:
        await self.reach(request)
        page = await self.page(request, TARGETS, {})
        found = [item.state.message() for item in page.items]
        return api.ListTargetsResponse(targets=found, next_page_token=page.token)

    async def ListMolecules(
        self, request: api.ListMoleculesRequest, context: Any
    ) -> api.ListMoleculesResponse:
        await self.reach(request)
        page = await self.page(request, MOLECULES, {"target": request.target})
        found = [answers.molecule(item.state) for item in page.items]
        return api.ListMoleculesResponse(molecules=found, next_page_token=page.token)

    async def GetMolecule(self, request: api.GetMoleculeRequest, context: Any) -> api.GetMoleculeResponse:
        await self.reach(request)
        found = await self.app.store.get(MOLECULES, request.molecule)
        if found is None:
            said = f"no molecule {request.molecule!r} is registered; ListMolecules shows those that are"
            raise Unknown("UNKNOWN_MOLECULE", said, "molecule")
        sealed = found.state.message().structure
        structure = await asyncio.to_thread(self.app.sealer.open, sealed, events.MoleculeStructure)
        return api.GetMoleculeResponse(molecule=answers.molecule(found.state), structure=structure)

    async def ListProducts(self, request: api.ListProductsRequest, context: Any) -> api.ListProductsResponse:
        await self.reach(request)
        page = await self.page(request, PRODUCTS, {"indication": request.indication})
        found = [item.state.message() for item in page.items]
        return api.ListProductsResponse(products=found, next_page_token=page.token)
