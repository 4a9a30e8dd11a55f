"""Research in memory: its gRPC face, its decider and its runners over one memory database."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar, cast

from google.protobuf.message import Message

from pharmaloop.production.v1 import events_pb2 as production
from services.kit import hpke
from services.kit.app import App
from services.kit.bus.memory import MemoryBus
from services.kit.bus.protocol import Outgoing, Partition, Record
from services.kit.clock import ManualClock
from services.kit.contracts import contract
from services.kit.envelope import Event, from_record, to_record
from services.kit.ids import derived_id, new_id
from services.kit.metrics import Metrics
from services.kit.relay import Relay
from services.kit.rpc.context import Caller, bind
from services.kit.runners.batch import BatchRunner, Surroundings
from services.kit.runners.decider import Decider
from services.kit.sealing import LocalKeys, Sealer
from services.kit.store.kinds import Kind
from services.kit.store.memory import AsyncMemoryStore, MemoryDatabase, MemoryStore
from services.rnd.api import RndApi
from services.rnd.main import SPEC

M = TypeVar("M", bound=Message)
START = datetime(2026, 3, 1, tzinfo=UTC)


def hours(count: float) -> datetime:
    return START + timedelta(hours=count)


class _Silent:
    """A relay that publishes nothing: what was committed is given to the runners by hand."""

    def wake(self) -> None:
        pass

    async def positions(self, ids: Iterable[str], seconds: float) -> dict[str, Any]:
        return {}


class Research:
    """`call` is a call of its gRPC face; what it commits is folded before it returns."""

    def __init__(self, keys: Path) -> None:
        self.database, self.clock = MemoryDatabase(), ManualClock(START)
        self.sealer = Sealer(LocalKeys(keys))
        self.store = AsyncMemoryStore(self.database)
        metrics = Metrics("rnd")
        store = MemoryStore(self.database)
        around = Surroundings("rnd", "", contract(), MemoryBus(), store, metrics, lambda: None)
        self._runners = [BatchRunner(reactor, around) for reactor in SPEC.reactors]
        self._offsets: dict[Partition, int] = defaultdict(int)
        self._delivered: set[str] = set()

    def call(self, method: str, request: Any, actor: str = "scientist") -> Any:
        """The answer; raises what a caller would be answered with."""
        changes = "request_id" in request.DESCRIPTOR.fields_by_name
        if changes and not request.request_id:
            request.request_id = new_id()
        answer = asyncio.run(self._call(method, request, actor))
        self.settle()
        return answer

    async def _call(self, method: str, request: Any, actor: str) -> Any:
        decider = Decider(
            "rnd",
            dict(SPEC.commands),
            store=self.store,
            relay=cast(Relay, _Silent()),
            contract=contract(),
            clock=self.clock,
        )
        app = SimpleNamespace(store=self.store, sealer=self.sealer, decider=decider, clock=self.clock)
        deciding = asyncio.create_task(decider.run())
        bind(Caller(actor, "call", ""))
        try:
            return await getattr(RndApi(cast(App, app)), method)(request, None)
        finally:
            deciding.cancel()

    def tell(self, message: Message, *, seq: int = 1, hour: float = 0, case: str = "", run: str = "") -> None:
        """Another service's event happens."""
        topic, key = contract().route(message, "")
        id = derived_id("test", topic, key, str(seq), message.SerializeToString().hex())
        event = Event(
            id=id, source="/svc/test", subject=key, time=hours(hour), message=message, key=key,
            seq=seq, case=case, run=run,
        )  # fmt: skip
        self._deliver(to_record(event, topic))
        self.settle()

    def settle(self) -> None:
        """Give what was said to the runners until nobody says more."""
        while True:
            rows = [row for row in self.database.outbox.values() if row.id not in self._delivered]
            if not rows:
                return
            for row in sorted(rows, key=lambda row: (row.aggregate, row.seq)):
                self._delivered.add(row.id)
                self._deliver(Outgoing(row.topic, row.key, row.value, row.headers))

    def _deliver(self, out: Outgoing) -> None:
        place = Partition(out.topic, 0)
        for runner, reactor in zip(self._runners, SPEC.reactors, strict=True):
            if out.topic in reactor.topics(contract(), ""):
                record = Record(out.topic, 0, self._offsets[place], out.key, out.value, out.headers, 0)
                runner.process([record])
        self._offsets[place] += 1

    def events(self, cls: type[M]) -> list[tuple[Event, M]]:
        """What research has said of a type, in order of (aggregate, version)."""
        rows = sorted(self.database.outbox.values(), key=lambda row: (row.aggregate, row.seq))
        letters = [row for row in rows if row.topic.endswith(".dlq")]
        assert not letters, [dict(row.headers) for row in letters]
        records = [Record(r.topic, 0, 0, r.key, r.value, r.headers, 0) for r in rows]
        events = [from_record(contract(), record) for record in records]
        return [(event, event.message) for event in events if isinstance(event.message, cls)]

    def told(self, cls: type[M]) -> list[M]:
        return [message for _, message in self.events(cls)]

    def states(self, kind: Kind[Any]) -> dict[str, Any]:
        return {id: kind.from_doc(doc).state for id, doc in self.database.docs[kind.name].items()}


class Plant:
    """A plant with its keys."""

    def __init__(self, name: str) -> None:
        self.name, self.keys = name, hpke.generate()

    def published(self) -> production.PlantKeyPublished:
        return production.PlantKeyPublished(
            plant=self.name, key_id=f"plant/{self.name}/1", public_key=self.keys.public
        )
