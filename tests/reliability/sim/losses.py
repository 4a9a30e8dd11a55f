"""One record that never has its effect at one consumer: the record is gone, and everything else goes on.

What is lost is an exchange: an event that one service said and another takes.
What a service says to itself is the other plantings' affair.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple
from unittest import mock

from google.protobuf.message import Message

from services.kit.contracts import contract, event_type
from services.kit.envelope import Event
from services.kit.runners.batch import BatchRunner, Surroundings
from services.kit.runners.loop import MemoryLoop
from services.kit.runners.reactor import Reactor
from services.kit.work import Work
from services.loops.handlers import ROUTED
from tests.reliability.sim.bugs import Bugs
from tests.reliability.sim.process import SPECS

MACHINE = "loops.machine"
#: Event types that a handler takes from another service and that no service of this version says
#: to it: entries that were told one by one, and returns, which only pharmacies tell.
UNSAID = frozenset({("ExposureEntered", "clinical.exposure"), ("ReturnRecorded", "traceability.fold")})


class Exchange(NamedTuple):
    """An event type, and who takes it: the runner of a service, or the loop's machine."""

    event: str
    consumer: str


class Told(NamedTuple):
    """One record as one process family took it: the name of its database, and the event's id."""

    database: str
    id: str


def exchanges() -> list[Exchange]:
    """Every event type that a service takes from another, with its consumer."""
    found = {Exchange(cls.__name__, MACHINE) for cls in ROUTED if not _own(cls, "loops")}
    for make in SPECS.values():
        spec = make()
        for reactor in spec.reactors:
            names = {cls.__name__ for cls in reactor.events if not _own(cls, spec.name)}
            found |= {Exchange(name, f"{spec.name}.{reactor.name}") for name in names}
    return sorted(found - UNSAID)


def _own(cls: type[Message], service: str) -> bool:
    """Does only the service itself say it?"""
    topic = contract().topic_of(event_type(cls))
    return topic.owner == service and not topic.writers


@dataclass(frozen=True)
class Exchanges(Bugs):
    """Notes every exchange of a world; loses the one that it is given."""

    lost: tuple[Exchange, Told] | None = None
    told: dict[Exchange, list[Told]] = field(default_factory=dict)

    def runner(self, reactor: Reactor, around: Surroundings) -> BatchRunner:
        if reactor.rows is not None:
            return BatchRunner(reactor, around)
        consumer = f"{around.service}.{reactor.name}"
        database = f"{around.service}.{around.site}".removesuffix(".")
        heard = {
            cls: self._heard(handler, around.service, consumer, database)
            for cls, handler in reactor.events.items()
        }
        return BatchRunner(replace(reactor, events=heard), around)

    def _heard(self, handler: Any, service: str, consumer: str, database: str) -> Any:
        def handle(work: Work, event: Event) -> None:
            if not self._is_lost(event, service, consumer, database):
                handler(work, event)

        return handle

    def _is_lost(self, event: Event, service: str, consumer: str, database: str) -> bool:
        if event.source.split("/")[2] == service:
            return False
        exchange, told = Exchange(type(event.message).__name__, consumer), Told(database, event.id)
        known = self.told.setdefault(exchange, [])
        if told not in known:
            known.append(told)
        return self.lost == (exchange, told)

    @contextmanager
    def planted(self) -> Iterator[None]:
        take = MemoryLoop.take

        def taken(loop: MemoryLoop[Any], event: Event) -> list[Event]:
            return [] if self._is_lost(event, "loops", MACHINE, "loops") else take(loop, event)

        with mock.patch.object(MemoryLoop, "take", taken):
            yield
