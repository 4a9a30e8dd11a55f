"""What the parts of research's gRPC face do alike."""

from __future__ import annotations

from typing import Any, TypeVar

from google.protobuf.message import Message

from pharmaloop.common.v1 import types_pb2 as common
from services.kit.facts import vector
from services.kit.rpc.api import Api
from services.kit.rpc.context import caller

M = TypeVar("M", bound=Message)


class RndBase(Api):
    async def submit(self, request: Any, method: str, asked: Message, answer: type[M]) -> M:
        """Decide what was made of the request (sealed, computed) under the request's own id."""
        who = caller()
        decision = await self.app.decider.submit(
            method,
            asked,
            request_id=request.request_id,
            actor=who.actor,
            trace=who.trace,
            seconds=who.seconds_left(),
        )
        response: Any = answer.FromString(decision.message)
        response.receipt.CopyFrom(
            common.Receipt(
                request_id=request.request_id,
                positions=vector(decision.positions),
                pending=decision.pending,
                event_ids=decision.event_ids,
            )
        )
        result: M = response
        return result
