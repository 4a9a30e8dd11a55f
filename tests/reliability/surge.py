"""Rounds of a plant, a pharmacy and a hospital at a pace that a test sets, and the lag that results.

The feed is an open loop: a round comes when its time is there, also while
earlier ones are not answered. Lag is what every process tells in its metrics.
"""

from __future__ import annotations

import itertools
import queue
import re
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, ClassVar
from urllib.request import urlopen

import grpc

from pharmaloop.production.v1 import service_pb2 as production
from services.kit.metrics import GROUP_LAG, OUTBOX_WAITING, RUNNER_LAG
from services.kit.testing.engines import HOST
from tests.reliability import facts
from tests.reliability.asking import Acknowledged
from tests.reliability.moments import moment
from tests.reliability.workload import (
    DRYER,
    GOOD,
    PRODUCT,
    Caller,
    Case,
    dryer_runs,
    readings,
)
from tests.reliability.world import World

#: Calls of the feed that are in work at once, at most.
CLIENTS = 32
#: In a round: packs that are made, patients who come, dispenses, rows of a line's ten tags.
PACKS, PATIENTS, DISPENSES, ROWS = 2, 2, 6, 30
_ANSWER_SECONDS, _SCRAPE_SECONDS = 30.0, 5.0
_MEMORY = "process_resident_memory_bytes"
_LINE = re.compile(r"^(\w+)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')


class Client(Caller):
    """A caller to whom an overloaded platform may say that it is too much: it asks again."""

    again = Caller.again | {grpc.StatusCode.RESOURCE_EXHAUSTED}

    def __init__(self, world: World) -> None:
        super().__init__(world, seconds=_ANSWER_SECONDS)


class Timed(Case):
    """A case with patience that notes when each of its stages was reached, in monotonic seconds."""

    patience = 600.0

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.at: dict[str, float] = {}

    def _note(self, stage: str) -> None:
        self.at.setdefault(stage, time.monotonic())

    def play(self, caller: Caller) -> None:
        self._note("opened")
        super().play(caller)
        self._note("over")

    def _start(self, caller: Caller, lot: str) -> None:
        super()._start(caller, lot)
        if lot == self.lot:
            self._note("started")

    def _deviation(self, caller: Caller) -> str:
        found = super()._deviation(caller)
        if found:
            self._note("detected")
        return found

    def _faulty_lot(self, caller: Caller) -> None:
        super()._faulty_lot(caller)
        self._note("confirmed")

    def _tell_patients(self, caller: Caller, run: str) -> None:
        super()._tell_patients(caller, run)
        self._note("told")

    def _approve(self, caller: Caller, run: str) -> None:
        self._note("answered")
        super()._approve(caller, run)
        self._note("approved")

    def took(self, first: str, last: str) -> float:
        """Seconds from one stage to another."""
        return self.at[last] - self.at[first]

    def __str__(self) -> str:
        return (
            f"{self.took('started', 'detected'):.1f} s from the readings to the deviation, "
            f"{self.took('confirmed', 'told'):.1f} s from its confirmation until every patient was found "
            f"and told, {self.took('answered', 'approved'):.1f} s for the corrective action, "
            f"{self.took('opened', 'over'):.1f} s in all"
        )


@dataclass(frozen=True)
class Round:
    """What one plant, its pharmacy and its hospital send at a time: a sound lot from its start to its
    release, readings of another, packs, patients, and what these received.

    The packs are of another product than those of a case: their patients would be compared with its own, be
    asked as these are, and the case would wait for answers that nobody gives.
    """

    number: int
    #: How its sound lots are called, and how many events each has: started, completed, released.
    TABLETS: ClassVar[str] = "maker/item/tablet/F"
    VERSIONS: ClassVar[int] = 3

    def play(self, caller: Caller) -> None:
        self._packs(caller)
        self._received(caller)
        self._line(caller)
        self._lot(caller)

    def _id(self, name: str) -> str:
        return f"round-{self.number}/{name}"

    @property
    def _pack_lots(self) -> list[str]:
        return [f"maker/gtin/06901234500547/F{self.number}.{n}" for n in range(PACKS)]

    @property
    def tablets(self) -> str:
        return f"{self.TABLETS}{self.number}"

    def _packs(self, caller: Caller) -> None:
        facts.record_packs(caller, self._id("material"), self._pack_lots, self.tablets)

    def _received(self, caller: Caller) -> None:
        names = [f"f{self.number}-p{n}" for n in range(PATIENTS)]
        facts.record_patients(caller, self._id("subjects"), dict.fromkeys(names, True))
        given = [
            facts.Given(f"f-order-{self.number}-{n}", names[n % PATIENTS], self._pack_lots[n % PACKS])
            for n in range(DISPENSES)
        ]
        facts.record_medications(caller, self._id("medications"), given)
        facts.record_dispenses(caller, self._id("dispenses"), given)

    def _line(self, caller: Caller) -> None:
        lot = f"{PRODUCT}/F{self.number}"
        run = dryer_runs()[GOOD[self.number % len(GOOD)]]
        request = production.RecordReadingsRequest(
            request_id=self._id("readings"), batches=[readings(lot, run, 0, ROWS)]
        )
        caller.do(caller.production.RecordReadings, request, [("production", "run", f"{lot}|{DRYER}")])

    def _lot(self, caller: Caller) -> None:
        lot, id = self.tablets, self._id
        start = production.StartLotRequest(request_id=id("start"), lot=lot, equipment=DRYER, at=moment(0).at)
        caller.do(caller.production.StartLot, start, [("production", "lot", lot)])
        complete = production.CompleteLotRequest(request_id=id("complete"), lot=lot, at=moment(1).at)
        caller.do(caller.production.CompleteLot, complete)
        release = production.ReleaseLotRequest(request_id=id("release"), lot=lot)
        caller.do(caller.production.ReleaseLot, release)


@dataclass(frozen=True)
class Done:
    """A round that was acknowledged: when it was due and when it was over, and how many inputs it was."""

    number: int
    due: float
    over: float
    inputs: int


class Feed:
    """Sends rounds, `pace` of them a second; a round that finds every client at work waits for one."""

    def __init__(self, world: World) -> None:
        self.pace = 0.0
        self.done: list[Done] = []
        self.sent = 0
        self._callers = [Client(world) for _ in range(CLIENTS)]
        self._due: queue.Queue[tuple[int, float] | None] = queue.Queue()
        self._failed: list[BaseException] = []
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._clock, name="feed", daemon=True)]
        self._threads += [
            threading.Thread(target=self._work, args=(caller,), name="feed-client", daemon=True)
            for caller in self._callers
        ]

    def start(self, pace: float) -> None:
        self.pace = pace
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """No more rounds; returns when those that were due are acknowledged."""
        self._ending.set()
        self._threads[0].join()
        for _ in self._callers:
            self._due.put(None)
        for thread in self._threads[1:]:
            thread.join()
        self.check()

    def check(self) -> None:
        if self._failed:
            raise self._failed[0]

    def close(self) -> None:
        self._ending.set()
        for caller in self._callers:
            caller.close()

    def _clock(self) -> None:
        numbers, due = itertools.count(), time.monotonic()
        while not self._ending.is_set():
            due = max(due, time.monotonic() - 1.0)
            if self._ending.wait(max(0.0, due - time.monotonic())):
                break
            self._due.put((next(numbers), due))
            self.sent += 1
            due += 1.0 / self.pace

    def _work(self, caller: Caller) -> None:
        while (told := self._due.get()) is not None:
            number, due = told
            before = len(caller.journal.acknowledged)
            try:
                Round(number).play(caller)
            except BaseException as error:  # noqa: BLE001 -- told where it is waited for
                self._failed.append(error)
                return
            inputs = sum(done.facts or 1 for done in caller.journal.acknowledged[before:])
            self.done.append(Done(number, due, time.monotonic(), inputs))

    # -- what was sent --------------------------------------------------------

    def waiting(self) -> int:
        """Rounds that are due and not acknowledged."""
        return self.sent - len(self.done)

    def rate(self, since: float, until: float) -> float:
        """Inputs acknowledged a second between two moments."""
        within = [done.inputs for done in list(self.done) if since <= done.over < until]
        return sum(within) / (until - since)

    def acknowledged(self) -> list[Acknowledged]:
        return [done for caller in self._callers for done in caller.journal.acknowledged]

    def calls(self) -> int:
        return sum(caller.journal.calls for caller in self._callers)

    def failed(self) -> Counter[tuple[str, str]]:
        """Requests and statuses that came instead of an answer."""
        return sum((caller.journal.failed for caller in self._callers), Counter())


class Metered(World):
    """A world whose processes tell their metrics where the test knows."""

    def __init__(self, *args: Any, **others: Any) -> None:
        super().__init__(*args, **others)
        self.meters: dict[str, int] = {}

    def add(self, service: str, role: str = "all", *, name: str = "", **others: Any) -> str:
        meter = name or (service if role == "all" else f"{service}-{role}")
        self.meters[meter] = self._port(f"{meter}.metrics")
        # An agent is told by the name of its service, like all other settings.
        told = {**(others.pop("settings", None) or {}), "metrics_port": str(self.meters[meter])}
        return super().add(service, role, name=name, settings=told, **others)


@dataclass(frozen=True)
class Sample:
    """What all processes told at a moment: the runner that is furthest behind in records, the topic of a
    group that is so in seconds, rows in the outboxes, and the memory of each process in MB."""

    at: float
    records: float = 0.0
    runner: str = ""
    seconds: float = 0.0
    group: str = ""
    waiting: float = 0.0
    memory: Mapping[str, float] = field(default_factory=dict)
    #: Every process has answered.
    whole: bool = True

    def within(self, other: Sample) -> bool:
        return self.records <= other.records and self.seconds <= other.seconds


class Lag:
    """Asks every process for its metrics, every other second, until it is ended."""

    def __init__(self, world: Metered, pause: float = 2.0) -> None:
        self.samples: list[Sample] = []
        self._world = world
        self._pause = pause
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lag", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join(_SCRAPE_SECONDS * len(self._world.meters))

    def _run(self) -> None:
        while not self._ending.wait(self._pause):
            self.samples.append(sample(self._world.meters))

    def between(self, since: float, until: float) -> list[Sample]:
        return [one for one in list(self.samples) if since <= one.at < until]

    def largest(self, since: float, until: float) -> Sample:
        """The most that any runner was behind between two moments, in records and in seconds."""
        seen = self.between(since, until)
        assert seen, "nobody told a lag"
        records = max(seen, key=lambda one: one.records)
        seconds = max(seen, key=lambda one: one.seconds)
        return Sample(
            records.at,
            records.records,
            records.runner,
            seconds.seconds,
            seconds.group,
            max(one.waiting for one in seen),
        )

    def back(self, since: float, normal: Sample, calm: float) -> float | None:
        """The first moment from which on nobody was further behind than `normal` for `calm` seconds."""
        begun: float | None = None
        for one in self.between(since, float("inf")):
            begun = (begun or one.at) if one.whole and one.within(normal) else None
            if begun is not None and one.at - begun >= calm:
                return begun
        return None


def sample(meters: Mapping[str, int]) -> Sample:
    """What the processes at these ports tell now."""
    at, records, seconds = time.monotonic(), [(0.0, "")], [(0.0, "")]
    waiting, whole, memory = 0.0, True, dict[str, float]()
    for name, port in meters.items():
        page = ""
        with suppress(OSError), urlopen(f"http://{HOST}:{port}/metrics", timeout=_SCRAPE_SECONDS) as answer:
            page = answer.read().decode()
        whole = whole and bool(page)
        told = list(_told(page))
        records += [(value, labels["runner"]) for of, labels, value in told if of == RUNNER_LAG.name]
        seconds += [
            (value, f"{labels['group']} {labels['topic']}")
            for of, labels, value in told
            if of == GROUP_LAG.name
        ]
        waiting += sum(value for of, _, value in told if of == OUTBOX_WAITING.name)
        memory[name] = sum(value for of, _, value in told if of == _MEMORY) / 1e6
    return Sample(at, *max(records), *max(seconds), waiting, memory, whole)


def _told(page: str) -> Iterable[tuple[str, dict[str, str], float]]:
    """Name, labels and value of each number on a page of metrics."""
    for name, labels, value in _LINE.findall(page):
        if name in (RUNNER_LAG.name, GROUP_LAG.name, OUTBOX_WAITING.name, _MEMORY):
            yield name, dict(_LABEL.findall(labels)), float(value)
