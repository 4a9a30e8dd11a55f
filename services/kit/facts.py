"""Facts go to the log first: validated for form, produced, answered with positions.

A fact happened; no rule of the domain may refuse it. Only the malformed is
refused, record by record, with the field and the rule. Its id comes from its
source, so sending it twice has one effect.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import NamedTuple, TypeVar

from google.protobuf.message import Message

from pharmaloop.common.v1 import types_pb2 as common
from services.kit import points, tracing
from services.kit.bus.protocol import Outgoing, Position, Producer
from services.kit.clock import Clock
from services.kit.contracts import Contract, event_type
from services.kit.envelope import FactStamp, new_trace
from services.kit.errors import Invalid, Retryable
from services.kit.rpc.context import caller

M = TypeVar("M")
#: Longer than the producer tries: then no record enters the log after its caller was told that it failed.
_PUBLISH_SECONDS = 35.0


class Fact(NamedTuple):
    """A validated fact: its message, its own id, when it happened."""

    message: Message
    id: str
    time: datetime
    subject: str
    key: str = ""


class FactLog:
    """Records facts of one service."""

    def __init__(
        self, service: str, producer: Producer, contract: Contract, clock: Clock, site: str = ""
    ) -> None:
        self._service = service
        self._producer = producer
        self._contract = contract
        self._clock = clock
        self._site = site
        #: Topic and key field, by class of message.
        self._places: dict[type[Message], tuple[str, str]] = {}

    async def record(
        self,
        records: Iterable[M],
        to_fact: Callable[[int, M], Fact],
        *,
        all_or_nothing: bool,
        actor: str,
        field: str,
    ) -> common.FactReceipt:
        """Judge each record by `to_fact` (Invalid refuses it) and record the good ones.

        With `all_or_nothing`, the first refusal raises Invalid with its index
        and nothing is recorded. Retryable when the log did not take them: then
        the same call, repeated, has one effect.
        """
        receipt = common.FactReceipt()
        outgoing: list[Outgoing] = []
        stamp = FactStamp(f"/svc/{self._service}/fact", actor, caller().trace or new_trace())
        for index, record in enumerate(records):
            try:
                outgoing.append(self._outgoing(to_fact(index, record), stamp))
            except Invalid as error:
                path = f"{field}[{index}].{error.field}" if error.field else f"{field}[{index}]"
                if all_or_nothing:
                    raise Invalid(error.reason, error.description, path) from error
                receipt.refused.add(
                    index=index, reason=error.reason, field=path, description=error.description
                )
        positions = await self._publish(outgoing)
        receipt.accepted = len(outgoing)
        receipt.positions.CopyFrom(vector(positions))
        return receipt

    def _outgoing(self, fact: Fact, stamp: FactStamp) -> Outgoing:
        message = fact.message
        place = self._places.get(type(message))
        if place is None:
            topic = self._contract.topic_of(event_type(type(message)))
            place = self._places[type(message)] = (topic.at(self._site), topic.key)
        name, key_field = place
        key = fact.key or str(getattr(message, key_field))
        return stamp.record(message, name, key, fact.id, fact.time, fact.subject)

    async def _publish(self, outgoing: list[Outgoing]) -> list[Position]:
        span = tracing.publish(outgoing[0].topic, len(outgoing)) if outgoing else tracing.OFF
        future = asyncio.wrap_future(self._producer.publish_ends(outgoing))
        try:
            async with asyncio.timeout(_PUBLISH_SECONDS):
                positions = await future
        except TimeoutError:
            span.fail("TIMEOUT")
            raise Retryable("the log did not answer in time; send the same call again") from None
        except Exception as error:
            span.fail(type(error).__name__)
            raise
        finally:
            span.end()
        points.reached("facts.published")
        return positions


def vector(positions: Iterable[Position]) -> common.PositionVector:
    """The positions as a vector: the highest offset of each partition."""
    highest: dict[tuple[str, int], int] = {}
    for topic, partition, offset in positions:
        highest[(topic, partition)] = max(offset, highest.get((topic, partition), -1))
    return common.PositionVector(
        positions=[
            common.LogPosition(topic=topic, partition=partition, offset=offset)
            for (topic, partition), offset in sorted(highest.items())
        ]
    )
