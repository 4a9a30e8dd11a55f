"""The gRPC face of a site in memory: what is recorded through it is folded before the call returns."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar, cast

from google.protobuf.message import Message

from services.clinical.api import ClinicalApi
from services.kit.app import App
from services.kit.bus.memory import MemoryBus
from services.kit.bus.protocol import Record
from services.kit.contracts import contract
from services.kit.envelope import Event, from_record
from services.kit.facts import FactLog
from services.kit.sealing import LocalKeys, Sealer
from services.kit.store.memory import AsyncMemoryStore
from tests.unit.clinical.memory_site import SITE
from tests.unit.clinical.teller import Teller
from tests.unit.memory_service import Said

M = TypeVar("M", bound=Message)


class Door:
    """`told` is what lies behind it."""

    def __init__(self, told: Teller, keys: Path) -> None:
        self.told, self.sealer = told, Sealer(LocalKeys(keys))
        self._bus = MemoryBus(partitions=1)
        self._taken = 0
        log = FactLog("clinical", self._bus.producer(), contract(), told.site.clock, SITE)
        self.store = AsyncMemoryStore(told.site.database)
        clock = told.site.clock
        app = SimpleNamespace(site=SITE, sealer=self.sealer, store=self.store, facts=log, clock=clock)
        self._api = ClinicalApi(cast(App, app))

    async def call(self, method: str, request: Any) -> Any:
        request.site = request.site or SITE
        answer = await getattr(self._api, method)(request, None)
        fresh = self.facts()[self._taken :]
        self._taken += len(fresh)
        self.told.site.deliver(*(Said(e.message, e.source, None, e.id, e.time) for e in fresh))
        assert not self.told.site.dead_letters()
        return answer

    def facts(self) -> list[Event]:
        """Everything that was recorded, in the order of the log."""
        return [from_record(contract(), record) for record in self.records()]

    def records(self) -> list[Record]:
        return [record for place in sorted(self._bus.records) for record in self._bus.records[place]]

    def last(self, cls: type[M]) -> M:
        return [event.message for event in self.facts() if isinstance(event.message, cls)][-1]
