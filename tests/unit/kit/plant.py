"""A service over memory with a bug that can be mended, and an operator who looks after its letters."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from pharmaloop.production.v1 import events_pb2 as production
from pharmaloop.rnd.v1 import events_pb2 as rnd
from services.kit.envelope import Event
from services.kit.operations import Choice, DeadLetters
from services.kit.runners.letters import LETTERS, Letter
from services.kit.runners.notes import MARKS
from services.kit.runners.reactor import Reactor
from services.kit.store.kinds import Kind
from services.kit.work import Work
from tests.unit.kit.support import LOT, NOTE, Bench, Note, Turner, lot_event

A, B = "m/item/G/a", "m/item/G/b"
RUNNER = "rnd.test"
WHO = "person:li"


@dataclass
class Plant:
    """A service with a bug that can be mended, and an operator."""

    bench: Bench = field(default_factory=Bench)
    #: Ids of events that the deployed code cannot process.
    bugs: set[str] = field(default_factory=set)
    tried: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.reactor = Reactor("test", {production.LotHeld: self.handle}, views=(NOTE,))
        self.letters = DeadLetters(self.bench.waiting, {RUNNER})
        self.restart()

    def handle(self, work: Work, event: Event) -> None:
        before = work.get(NOTE, event.subject)
        work.put(NOTE, event.subject, Note(f"{before.text} {event.id}" if before else event.id))
        work.apply(LOT, event.subject, rnd.InsightRecorded(insight=event.id))
        self.tried.append(event.id)
        if event.id in self.bugs:
            raise KeyError(event.id)

    def restart(self) -> None:
        self.runner: Turner = self.bench.making(self.reactor)

    def deploy(self, *bugs: str) -> None:
        """Another version of the code, with these bugs."""
        self.bugs = set(bugs)
        self.restart()

    def hear(self, *events: Event) -> None:
        self.bench.send(*events)
        self.runner.settle()

    def told(self, lot: str = A, kind: Kind[Note] = NOTE) -> list[str]:
        note = self.bench.states(kind).get(lot)
        return note.text.split() if note else []

    def all(self) -> dict[str, Letter]:
        return dict(sorted(self.bench.states(LETTERS).items()))

    def stand(self) -> list[tuple[str, str]]:
        """(event, state) of every letter."""
        names = [dict(letter.record.headers)["ce_id"].decode() for letter in self.all().values()]
        return list(zip(names, [letter.state for letter in self.all().values()], strict=True))

    def id(self, event: str) -> str:
        found = {dict(one.record.headers)["ce_id"].decode(): id for id, one in self.all().items()}
        return found[event]

    def redrive(self, *events: str, **narrow: str) -> int:
        ids = tuple(self.id(event) for event in events)
        count = asyncio.run(self.letters.redrive(Choice(ids, **narrow), WHO))
        self.runner.settle()
        return count

    def discard(self, *events: str, why: str = "a test lot") -> int:
        ids = tuple(self.id(event) for event in events)
        count = asyncio.run(self.letters.discard(Choice(ids), WHO, why))
        self.runner.settle()
        return count

    def snapshot(self) -> str:
        """Everything stored, but letters and watermarks' versions."""
        database = self.bench.database.docs
        names = sorted(name for name, docs in database.items() if docs)
        kept = {name: database[name] for name in names if name not in (LETTERS.name, MARKS.name)}
        return repr((kept, sorted(self.bench.database.outbox), self.bench.marks()))


def held(lot: str, seq: int | None, **fields: Any) -> Event:
    known = {"id": f"{lot.rpartition('/')[2]}{seq}", **fields}
    return lot_event(lot, seq, production.LotHeld(lot=lot), **known)
