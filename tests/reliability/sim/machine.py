"""The loops' machine of the simulated world: what faust does with the loop, and how it loses it.

At least once: the place in the case topic is committed now and then; the
table's changelog is sent on its own, so that a crash leaves a table that is
as old as the committed place, or as new as the last event, or between.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from random import Random

from services.kit import points
from services.kit.bus.protocol import Partition
from services.kit.contracts import contract
from services.kit.envelope import from_record, to_record
from services.kit.runners.loop import Case, MemoryLoop
from services.loops.domain import cases
from services.loops.handlers import CASE_TOPIC
from services.loops.machine import CASES
from tests.reliability.sim.log import Log

_COMMIT_EVERY = 5


@dataclass
class Machine:
    """The machine with its table and its places in the case topic; survives its process."""

    log: Log
    places: dict[Partition, int] = field(default_factory=dict)
    committed: dict[Partition, int] = field(default_factory=dict)
    loop: MemoryLoop[cases.Case] = field(default_factory=lambda: MemoryLoop(CASES))
    #: What the table was before each change since the commit: newest last.
    _trail: list[tuple[str, Case[cases.Case] | None]] = field(default_factory=list)

    @property
    def waiting(self) -> list[Partition]:
        places = self.log.partitions_of(CASE_TOPIC)
        return [p for p in places if self.places.get(p, 0) < len(self.log.records[p])]

    def take(self, partition: Partition) -> None:
        """One record. Dies where its process dies."""
        record = self.log.records[partition][self.places.get(partition, 0)]
        event = from_record(contract(), record)
        self._trail.append((event.case, self.loop.cases.get(event.case)))
        effects = self.loop.take(event)
        points.reached("loop.stored")
        for effect in effects:
            topic, _ = contract().route(effect.message)
            self.log.append(to_record(effect, topic))
        points.reached("loop.sent")
        self.places[partition] = record.offset + 1
        if len(self._trail) >= _COMMIT_EVERY:
            self.commit()

    def commit(self) -> None:
        self.committed = dict(self.places)
        self._trail = []

    def die(self, rng: Random) -> None:
        """The process is gone: the newest changes of the table may be lost; the places since the
        commit are."""
        for _ in range(rng.randint(0, len(self._trail))):
            case, before = self._trail.pop()
            if before is None:
                self.loop.cases.pop(case, None)
            else:
                self.loop.cases[case] = before
        self.places = dict(self.committed)
        self._trail = []
