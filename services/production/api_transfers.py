"""The gRPC face of technology transfer: seals what is told, opens what a plant may see."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Any

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.production.v1 import service_pb2 as api
from services.kit.app import App
from services.kit.errors import Unknown
from services.kit.ids import check_product, parse_lot
from services.kit.refused import refusals
from services.kit.rpc.api import Api
from services.kit.rpc.states import stored
from services.production import answers
from services.production.domain.plant import check_detail, check_line
from services.production.domain.record import Lot
from services.production.domain.samples import Samples
from services.production.domain.transfer import Attempt
from services.production.payloads import Payloads
from services.production.twins.following import Basis, Followers
from services.production.views import (
    LINE_ROWS,
    LOTS,
    PLANTS,
    RUNS,
    TRANSFER_ROWS,
    TRANSFERS,
    run_id,
)

#: Follows a lot through its samples, beside the event loop.
Follow = Callable[[str, Samples, Basis], Awaitable[api.GetTwinResponse]]


def _in_threads() -> Follow:
    followers = Followers()

    async def follow(lot: str, samples: Samples, basis: Basis) -> api.GetTwinResponse:
        return await asyncio.to_thread(followers.follow, lot, samples, basis)

    return follow


class TransferApi(Api):
    """The RPCs of lines and transfers."""

    def __init__(self, app: App, payloads: Payloads, follow: Follow | None = None) -> None:
        """Without a `follow`, lots are followed in a thread."""
        super().__init__(app)
        self._payloads = payloads
        self._follow = follow or _in_threads()

    # -- lines -----------------------------------------------------------------

    async def RegisterLine(self, request: api.RegisterLineRequest, context: Any) -> api.RegisterLineResponse:
        with refusals():
            check_line(request.plant, request.line, request.equipment, list(request.products))
            check_detail(request.detail)
        for index, product in enumerate(request.products):
            check_product(product, f"products[{index}]")
        asked = await self._sealed(request)
        return await self.decide(
            "RegisterLine", asked, api.RegisterLineResponse, request_id=request.request_id
        )

    async def _sealed(self, request: api.RegisterLineRequest) -> api.SealedLine:
        """The line as it is kept. A vessel that did not change stays sealed as it is, so that nothing is
        told anew."""
        found = await self.app.store.get(PLANTS, request.plant)
        held = found.state.line(request.line) if found else None

        def seal() -> api.SealedLine:
            detail = held.message().detail if held else None
            if detail is None or self._payloads.kept(detail, events.LineDetail) != request.detail:
                detail = self._payloads.keep(request.detail, request.plant)
            line = events.LineRegistered(
                plant=request.plant,
                line=request.line,
                equipment=request.equipment,
                products=sorted(set(request.products)),
                detail=detail,
            )
            return api.SealedLine(line=line, key=self._payloads.public(request.plant))

        return await asyncio.to_thread(seal)  # it makes keys on disk

    async def ListLines(self, request: api.ListLinesRequest, context: Any) -> api.ListLinesResponse:
        await self.reach(request)
        page = await self.page(request, LINE_ROWS, {"plant": request.plant})
        lines = await asyncio.to_thread(lambda: [self._line(item.state.message()) for item in page.items])
        return api.ListLinesResponse(lines=lines, next_page_token=page.token)

    def _line(self, told: events.LineRegistered) -> api.Line:
        return api.Line(
            plant=told.plant,
            line=told.line,
            equipment=told.equipment,
            products=told.products,
            detail=self._payloads.kept(told.detail, events.LineDetail),
        )

    # -- transfers ---------------------------------------------------------------

    async def ListTransfers(
        self, request: api.ListTransfersRequest, context: Any
    ) -> api.ListTransfersResponse:
        await self.reach(request)
        filters = {"state": stored(answers.TRANSFER_STATES, request.state), "plant": request.plant}
        page = await self.page(request, TRANSFER_ROWS, filters, "at", descending=not request.oldest_first)
        rows = [answers.transfer(item.state) for item in page.items]
        return api.ListTransfersResponse(transfers=rows, next_page_token=page.token)

    async def GetTransfer(self, request: api.GetTransferRequest, context: Any) -> api.GetTransferResponse:
        await self.reach(request)
        found = await self.app.store.get(TRANSFER_ROWS, request.transfer)
        if found is None:
            said = "no such transfer in this plant's records; list them with ListTransfers"
            raise Unknown("UNKNOWN_TRANSFER", said, "transfer")
        newest = found.state.newest
        adapted = newest.adaptation().recipe if newest.adapted else None
        proposed = newest.proposal().recipe if newest.proposed else None
        standing = newest.recipe() if newest.decided else None
        opened = await asyncio.to_thread(
            lambda: [self._set_points(recipe) for recipe in (adapted, proposed, standing)]
        )
        return api.GetTransferResponse(
            transfer=answers.transfer(found.state),
            adapted=opened[0],
            proposed=opened[1],
            recipe=opened[2],
            history=map(answers.moment, found.state.history),
        )

    def _set_points(self, recipe: common.Sealed | None) -> list[events.SetPoint]:
        if recipe is None:
            return []
        return list(self._payloads.kept(recipe, events.RecipeDetail).set_points)

    async def DecideTransfer(
        self, request: api.DecideTransferRequest, context: Any
    ) -> api.DecideTransferResponse:
        opened = await self._opened(request)
        return await self.decide(
            "DecideTransfer", opened, api.DecideTransferResponse, request_id=request.request_id
        )

    async def _opened(self, request: api.DecideTransferRequest) -> api.OpenedDecision:
        """The decision with what it is judged by; with nothing where it names no proposal that there is."""
        opened = api.OpenedDecision(asked=request)
        found = await self.app.store.get(TRANSFERS, request.transfer)
        newest = found.state.newest if found else Attempt(0, "")
        if not newest.proposed or newest.proposal().proposal != request.proposal:
            return opened
        adapted = newest.adaptation()
        plant = await self.app.store.get(PLANTS, adapted.plant)
        line = plant.state.line(adapted.line) if plant else None
        if line is None:
            return opened
        recipe = newest.proposal().recipe if request.accepted else adapted.recipe
        detail = line.message().detail

        def unseal() -> None:
            opened.recipe.CopyFrom(self._payloads.kept(recipe, events.RecipeDetail))
            opened.detail.CopyFrom(self._payloads.kept(detail, events.LineDetail))
            opened.detail_hash = sha256(detail.ciphertext).digest()

        await asyncio.to_thread(unseal)
        return opened

    async def GetTwin(self, request: api.GetTwinRequest, context: Any) -> api.GetTwinResponse:
        """The twin follows a lot in the model and vessel of its transfer; another lot as published."""
        parse_lot(request.lot)
        await self.reach(request)
        found = await self.app.store.get(LOTS, request.lot)
        if found is None:
            raise Unknown("UNKNOWN_LOT", "no such lot in this plant's records; start it with StartLot", "lot")
        lot = found.state
        run = await self.app.store.get(RUNS, run_id(lot.lot, lot.equipment))
        if run is None or not len(run.state.samples):
            said = f"no readings of the lot on {lot.equipment or 'its equipment'} are recorded yet"
            raise Unknown("NO_RUN", said, "lot")
        basis = await self._basis(lot)
        with refusals():
            return await self._follow(lot.lot, run.state.samples, basis)

    async def _basis(self, lot: Lot) -> Basis:
        found = await self.app.store.get(TRANSFERS, lot.transfer) if lot.transfer else None
        attempt = found.state.version(lot.transfer_version) if found else None
        if attempt is None:
            return Basis()
        adapted = attempt.adaptation()
        plant = await self.app.store.get(PLANTS, adapted.plant)
        line = plant.state.line(adapted.line) if plant else None
        if line is None:
            return Basis()
        detail = self._payloads.kept(line.message().detail, events.LineDetail)
        return Basis(adapted.model.partition("/")[0], detail)

    async def RecordRecipeValidation(
        self, request: api.RecordRecipeValidationRequest, context: Any
    ) -> api.RecordRecipeValidationResponse:
        return await self.decide("RecordRecipeValidation", request, api.RecordRecipeValidationResponse)

    async def RecordRecipeFiling(
        self, request: api.RecordRecipeFilingRequest, context: Any
    ) -> api.RecordRecipeFilingResponse:
        return await self.decide("RecordRecipeFiling", request, api.RecordRecipeFilingResponse)
