"""Feeds one case of the loops and keeps what comes out."""

from __future__ import annotations

import random
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, TypeVar

from google.protobuf.message import Message

from pharmaloop.loops.v1 import events_pb2 as loops
from services.kit.envelope import Event
from services.kit.runners.loop import MemoryLoop
from services.loops.machine import CASES

START = datetime(2026, 3, 1, tzinfo=UTC)
M = TypeVar("M", bound=Message)
#: What somebody says: the event, its source, its number there.
Said = tuple[Message, str, int]


class Player:
    """One case. Every event comes a second after the one before, in platform time as in wall time."""

    def __init__(self, case: str) -> None:
        self.case = case
        self.driver = MemoryLoop(CASES)
        self.out: list[Event] = []
        self.fed: list[Event] = []
        self._said: dict[str, int] = {}

    @property
    def now(self) -> datetime:
        return START + timedelta(seconds=len(self.fed))

    def say(self, message: Message, source: str = "", seq: int = 0) -> list[Event]:
        """One event; without a source and number, the next of a source of its type."""
        source = source or type(message).__name__
        seq = seq or self._said.get(source, 0) + 1
        self._said[source] = seq
        event = Event(
            id=f"{source}-{seq}",
            source=f"/svc/{source}",
            subject=source,
            time=self.now,
            message=message,
            seq=seq,
            case=self.case,
            created=self.now,
        )
        return self.feed(event)

    def feed(self, event: Event) -> list[Event]:
        self.fed.append(event)
        out = self.driver.take(event)
        self.out += out
        return out

    def shuffled(self, said: Iterable[Said], chance: random.Random) -> None:
        """All of it, in another order between its sources, with repeats that must change nothing."""
        queues: dict[str, list[Said]] = {}
        for item in said:
            queues.setdefault(item[1], []).append(item)
        while queues:
            source = chance.choice(sorted(queues))
            self.say(*queues[source].pop(0))
            queues = {name: queue for name, queue in queues.items() if queue}
            if chance.random() < 0.4:
                held, heard = self.driver.cases[self.case], chance.choice(self.fed)
                self.driver.take(heard)
                assert self.driver.cases[self.case] == held

    # -- what came out -----------------------------------------------------

    def told(self, kind: type[M]) -> list[M]:
        return [event.message for event in self.out if isinstance(event.message, kind)]

    def stages(self, run: str = "") -> list[str]:
        return [done.stage for done in self.told(loops.StageCompleted) if run in ("", done.run)]

    def endings(self) -> list[tuple[str, str]]:
        """Runs that ended, and how."""
        return [(e.run, loops.RunOutcome.Name(e.outcome)[12:]) for e in self.told(loops.LoopClosed)]

    def deadlines(self) -> list[tuple[str, timedelta]]:
        """Stages that have a deadline, and how long after the event that set it."""
        found = []
        for event in self.out:
            if isinstance(event.message, loops.DeadlineSet):
                due: Any = event.message.due.ToDatetime(UTC)
                found.append((event.message.stage, due - event.time))
        return found

    def check(self, loop: str) -> None:
        """What holds of every run: effects numbered without a gap, stages without a gap, one end."""
        for run in {event.run for event in self.out}:
            mine = [event for event in self.out if event.run == run]
            assert [event.seq for event in mine] == list(range(1, len(mine) + 1))
            assert {event.source for event in mine} == {"/svc/loops/cases"}
            stages = [e.message for e in mine if isinstance(e.message, loops.StageCompleted)]
            assert all(a.ended == b.began for a, b in pairwise(stages))
            ends = [e.message for e in mine if isinstance(e.message, loops.LoopClosed)]
            assert ends in ([], [mine[-1].message]), "a run ends once, and nothing follows"
            assert {done.loop for done in stages} | {end.loop for end in ends} <= {loop}
            assert all(event.message.case == self.case for event in mine)  # type: ignore[attr-defined]
