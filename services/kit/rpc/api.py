"""What the servicers of all services do alike: decide, wait for positions, page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from google.protobuf.message import Message

from pharmaloop.common.v1 import types_pb2 as common
from services.kit.errors import Invalid
from services.kit.facts import vector
from services.kit.rpc.context import caller
from services.kit.store.kinds import Kind
from services.kit.store.protocol import Page

if TYPE_CHECKING:
    from services.kit.app import App

M = TypeVar("M", bound=Message)
_DEFAULT_PAGE = 100
_LARGEST_PAGE = 1000


class Api:
    """Base of a service's servicer."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def decide(self, method: str, request: Any, answer: type[M], *, request_id: str = "") -> M:
        """Submit the request as a command; the answer carries a receipt.

        `request_id` is that of the caller, where what is submitted was made of the caller's request.
        """
        who, request_id = caller(), request_id or request.request_id
        decision = await self.app.decider.submit(
            method,
            request,
            request_id=request_id,
            actor=who.actor,
            trace=who.trace,
            seconds=who.seconds_left(),
        )
        response: Any = answer.FromString(decision.message)
        response.receipt.CopyFrom(
            common.Receipt(
                request_id=request_id,
                positions=vector(decision.positions),
                pending=decision.pending,
                event_ids=decision.event_ids,
            )
        )
        result: M = response
        return result

    async def reach(self, request: Any) -> None:
        """Wait until the places that the query names are folded."""
        if request.HasField("min_position"):
            await self.app.positions.reached(request.min_position)

    async def page(
        self,
        request: Any,
        kind: Kind[Any],
        filters: Mapping[str, Any],
        order: str = "_id",
        descending: bool = False,
    ) -> Page:
        """One page of states; filters with an empty value are left out."""
        size = request.page_size or _DEFAULT_PAGE
        if not 0 < size <= _LARGEST_PAGE:
            raise Invalid("OUT_OF_RANGE", f"ask for 1 to {_LARGEST_PAGE} items", "page_size")
        given = {name: value for name, value in filters.items() if value not in ("", None)}
        return await self.app.store.page(kind, given, order, descending, request.page_token, size)
