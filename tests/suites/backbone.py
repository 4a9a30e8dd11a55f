"""What tests of a whole service need of the backbone: to say what others would, and to listen."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

from services.kit.bus.kafka import KafkaBus
from services.kit.bus.protocol import Outgoing, Partition, Position, Record
from services.kit.envelope import Event, to_record
from services.kit.errors import Retryable


def new_name(kind: str) -> str:
    return f"{kind}-{uuid.uuid4().hex[:12]}"


@dataclass
class Backbone:
    """Publishes what other services would, and listens from now on."""

    bus: KafkaBus

    async def send(self, *records: Outgoing) -> list[Position]:
        producer = self.bus.producer()
        positions = await asyncio.wrap_future(producer.publish(records))
        await asyncio.to_thread(producer.close)
        return positions

    async def say(self, topic: str, *events: Event) -> list[Position]:
        return await self.send(*(to_record(event, topic) for event in events))

    def _ends(self, topic: str) -> dict[Partition, int]:
        for _ in range(50):
            # A topic that was just made has no leader for a moment.
            with suppress(Retryable):
                return self.bus.log().ends([topic])
            time.sleep(0.1)
        raise TimeoutError(topic)

    async def listen(self, topic: str, *keys: str) -> Callable[[int], Awaitable[list[Record]]]:
        """Gives, when called, what came since under the keys: so many records, or those of ten seconds.

        A service with a new database folds what earlier tests left too; their keys are not ours.
        """
        ours = {key.encode() for key in keys}
        begin = await asyncio.to_thread(self._ends, topic)

        def read(count: int) -> list[Record]:
            consumer = self.bus.consumer(new_name("listener"), "0")
            consumer.subscribe([topic], lambda partitions: begin, lambda partitions: None)
            found: list[Record] = []
            end = time.monotonic() + 10
            while len(found) < count and time.monotonic() < end:
                found += [record for record in consumer.take(500, 0.1) if record.key in ours]
            found += [record for record in consumer.take(500, 0.1) if record.key in ours]
            consumer.close()
            return found

        return lambda count: asyncio.to_thread(read, count)
