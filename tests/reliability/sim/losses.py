"""One record that never has its effect at one consumer: the record is gone, and everything else goes on.

What is lost is an exchange: an event that one service said and another takes.
What a service says to itself is the other plantings' affair.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
from tests.reliability.sim.closings import amiss
from tests.reliability.sim.process import SPECS
from tests.reliability.sim.scheduler import undisturbed
from tests.reliability.sim.verdict import quiet

MACHINE = "loops.machine"
#: What is never said in a calm world, and why.
UNSAID: Mapping[str, str] = {
    "ExposureEntered": "entries travel in bulks now; the event is read from old topics",
    "ResponsesSummarised": "FollowUpSummarised took its place; it is read from old topics",
    "ReturnRecorded": "only the trace itself records returns",
    "JobEnded": "a job ends without an answer only in a storm",
    "ExposureExtended": "a journal grows while its seal is asked for only in a storm; nothing rests on it",
}


class Exchange(NamedTuple):
    """An event type, and who takes it: the runner of a service, or the loop's machine."""

    event: str
    consumer: str


class Told(NamedTuple):
    """One record as a service took it: the name of its database, the event's id and subject."""

    database: str
    id: str
    subject: str


def exchanges() -> list[Exchange]:
    """Every event type that a service acts on when another says it, with its consumer. What only shows
    (a projector) can keep no run from closing."""
    found = {Exchange(cls.__name__, MACHINE) for cls in ROUTED if not _own(cls, "loops")}
    for make in SPECS.values():
        spec = make()
        for reactor in spec.reactors:
            if reactor.rows is not None:
                continue
            names = {cls.__name__ for cls in reactor.events if not _own(cls, spec.name)}
            found |= {Exchange(name, f"{spec.name}.{reactor.name}") for name in names}
    return sorted(one for one in found if one.event not in UNSAID)


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
        exchange = Exchange(type(event.message).__name__, consumer)
        told = Told(database, event.id, event.subject)
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


# -- in processes of their own --------------------------------------------------


def told_in(seed: int) -> dict[Exchange, list[Told]]:
    """Every exchange of a seed's calm world, in the order in which the records were taken."""
    quiet()
    noted = Exchanges()
    undisturbed(seed, noted)
    return noted.told


def amiss_without(seed: int, exchange: Exchange, told: Told) -> list[str]:
    """What is amiss when a seed's calm world has come to rest without one record."""
    quiet()
    return amiss(undisturbed(seed, Exchanges(lost=(exchange, told))))
