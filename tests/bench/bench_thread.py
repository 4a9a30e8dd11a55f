"""The safety thread on the real stack: `DeviationConfirmed` to every plan open.

Deviations are confirmed at a fixed rate (open loop) while a plant sends
readings. A tap beside the platform keeps every event; times are those of the
records (CreateTime), so a stage ends when its event was published, which is
after its commit. Every run must have opened a plan for exactly the patients
who were given some of its lots, and implicated exactly its lots.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import uvloop

from deploy.local.plan import SERVICES
from pharmaloop.alerting.v1 import service_pb2 as alerting
from pharmaloop.alerting.v1 import service_pb2_grpc as alerting_grpc
from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.loops.v1 import events_pb2 as loops
from pharmaloop.production.v1 import events_pb2 as production
from pharmaloop.traceability.v1 import events_pb2 as traceability
from services.kit.envelope import Event
from services.kit.metrics import Metrics
from services.kit.rpc.client import channel, metadata
from services.kit.settings import KafkaSettings
from services.world.dryer_runs import sample_counts
from services.world.platform_api import Platform
from tests.bench.framework.industry import SITE, Industry, Root, patient, root
from tests.bench.framework.local import LocalStack
from tests.bench.framework.machine import Machine
from tests.bench.framework.rows import Row, Target, row
from tests.bench.framework.run import option
from tests.bench.framework.stats import p50, p95
from tests.bench.framework.tap import Tap

RUNS = option("RUNS", 200)
PATIENTS = option("PATIENTS", 300)
EVERY_MS = option("EVERY_MS", 2500)
LARGE = option("LARGE", 10)
LARGE_PATIENTS = option("LARGE_PATIENTS", 10_000)
LARGE_EVERY_MS = option("LARGE_EVERY_MS", 45_000)
POINTS = option("POINTS", 10_000)
HISTORY = option("HISTORY", 40)
_WAIT_SECONDS = option("WAIT", 300)
_CASES = "pharmaloop.loops.case.v1"
_TOPICS = (
    "pharmaloop.production.lot.v1",
    "pharmaloop.traceability.exposure.v1",
    f"pharmaloop.traceability.{SITE}.exposure.v1",
    f"pharmaloop.clinical.{SITE}.plan.v1",
    "pharmaloop.clinical.exposure.v1",
    "pharmaloop.loops.run.v1",
    _CASES,
)
#: Stages in their usual order; each is shown as the time since the confirmation.
_STAGES = (
    "routed to the case",
    "SafetyRunOpened",
    "first LotImplicated",
    "last LotImplicated",
    "last ExposureEntriesJoined",
    "whole exposure announced",
    "first plans opened",
    "every plan opened",
    "every lot decided",
)


@dataclass
class Course:
    """What was seen of one run."""

    root: Root
    confirmed: datetime | None = None
    run: str = ""
    lots: set[str] = field(default_factory=set)
    decided: set[str] = field(default_factory=set)
    planned: set[str] = field(default_factory=set)
    times: dict[str, datetime] = field(default_factory=dict)

    @property
    def wanted_lots(self) -> set[str]:
        return {self.root.lot, *self.root.children}

    @property
    def done(self) -> bool:
        found = len(self.planned) == self.root.patients and self.lots == self.wanted_lots
        return found and self.decided >= self.wanted_lots

    def check(self, alerts: set[str]) -> None:
        """Exactly the right patients and lots, and somebody was told of the deviation."""
        wanted = {patient(number) for number in range(self.root.patients)}
        assert self.planned == wanted, f"{self.root.lot}: {len(self.planned)} of {len(wanted)} plans"
        assert self.lots == self.wanted_lots, f"{self.root.lot}: implicated {sorted(self.lots)}"
        assert self.root.lot in alerts, f"{self.root.lot}: no alert was raised for its deviation"

    def seconds(self, stage: str) -> float:
        assert self.confirmed is not None
        return (self.times[stage] - self.confirmed).total_seconds()

    def total(self) -> float:
        """Until every plan is open and every descendant implicated."""
        return max(self.seconds("every plan opened"), self.seconds("last LotImplicated"))


class Courses:
    """Follows the runs through what the tap hears."""

    def __init__(self, roots: Iterable[Root]) -> None:
        self.by_lot = {one.lot: Course(one) for one in roots}
        self._by_run: dict[str, Course] = {}
        self._waiting: dict[str, list[Event]] = {}

    def take(self, event: Event) -> None:
        message: Any = event.message
        match message:
            case production.DeviationConfirmed():
                self._confirmed(event, message)
            case loops.SafetyRunOpened() if message.lot in self.by_lot:
                course = self.by_lot[message.lot]
                course.run, course.times["SafetyRunOpened"] = message.run, event.created
                self._by_run[message.run] = course
                for early in self._waiting.pop(message.run, ()):
                    self._of_run(course, early)
            case _:
                run = getattr(message, "run", "")
                if run in self._by_run:
                    self._of_run(self._by_run[run], event)
                elif run:
                    self._waiting.setdefault(run, []).append(event)

    def _confirmed(self, event: Event, message: production.DeviationConfirmed) -> None:
        course = self.by_lot.get(message.lot)
        if course is not None and event.topic == _CASES:
            course.times["routed to the case"] = event.created
        elif course is not None:
            course.confirmed = event.created

    def _of_run(self, course: Course, event: Event) -> None:
        if event.topic == _CASES:
            return
        message: Any = event.message
        match message:
            case traceability.LotImplicated():
                course.lots.add(message.lot)
                course.times.setdefault("first LotImplicated", event.created)
                course.times["last LotImplicated"] = event.created
            case traceability.ExposureEntriesJoined():
                course.times["last ExposureEntriesJoined"] = event.created
            case traceability.ExposureAnnounced():
                if SITE in message.sites and message.sites[SITE].n == course.root.patients:
                    course.times.setdefault("whole exposure announced", event.created)
            case clinical.MonitoringPlansOpened():
                course.planned |= {plan.pseudonym for plan in message.plans}
                course.times.setdefault("first plans opened", event.created)
                course.times["every plan opened"] = event.created
            case production.LotImplicationAnswered():
                course.decided.add(message.lot)
                course.times["every lot decided"] = event.created


@dataclass(frozen=True)
class Prepared:
    """A running industry with open deviations, and what is to be confirmed."""

    stack: LocalStack
    industry: Industry
    platform: Platform
    deviations: dict[str, str]


async def prepare(stack: LocalStack, roots: Sequence[Root]) -> Prepared:
    platform = Platform(stack.endpoints(), Metrics("bench"), print)
    industry = Industry(platform)
    await platform.wait_until_serving()
    await industry.register(["dryer-history", "dryer-live"])
    model = await industry.train("dryer-history", sorted(sample_counts())[:HISTORY])
    await industry.record_descent(roots)
    await industry.record_patients(max(one.patients for one in roots))
    await industry.run_faulty(roots, "dryer-live", model)
    await industry.record_use(roots)
    began = time.monotonic()
    deviations: dict[str, str] = {}
    while await platform.lag() or not {one.lot for one in roots} <= set(deviations):
        assert time.monotonic() - began < _WAIT_SECONDS * 2, (
            f"not prepared in time: lag {await platform.lag()}, {len(deviations)} deviations open"
        )
        await asyncio.sleep(0.5)
        deviations = await industry.open_deviations()
    return Prepared(stack, industry, platform, deviations)


async def confirm_all(ready: Prepared, tap: Tap, roots: Sequence[Root], every_ms: int) -> list[Course]:
    """Confirm at a fixed rate, whatever the platform does; then wait until every run has opened its plans."""
    courses, began, calls = Courses(roots), time.monotonic(), []
    for number, one in enumerate(roots):
        await asyncio.sleep(began + number * every_ms / 1000 - time.monotonic())
        calls.append(asyncio.ensure_future(ready.industry.confirm(one.lot, ready.deviations[one.lot])))
    await asyncio.gather(*calls)
    deadline, heard = time.monotonic() + _WAIT_SECONDS, 0
    while True:
        for event in tap.events[heard:]:
            courses.take(event)
            heard += 1
        missing = [lot for lot, course in courses.by_lot.items() if not course.done]
        if not missing:
            return list(courses.by_lot.values())
        assert time.monotonic() < deadline, f"{len(missing)} runs did not come to their plans: {missing[:3]}"
        await asyncio.sleep(0.1)


def stages(courses: Sequence[Course]) -> str:
    """Median and 95 % of each stage, in ms since the confirmation."""
    parts = []
    for stage in _STAGES:
        seconds = [course.seconds(stage) for course in courses if stage in course.times]
        if seconds:
            parts.append(f"{stage} {p50(seconds) * 1e3:.0f}/{p95(seconds) * 1e3:.0f}")
    return "ms since the confirmation (p50/p95): " + ", ".join(parts)


def rows_of(courses: Sequence[Course], every_ms: int, background: str) -> list[Row]:
    times = [course.total() * 1e3 for course in courses]
    what = f"{courses[0].root.patients:,} patients"
    note = f"{len(courses)} runs, one every {every_ms / 1000:g} s; {background}; {stages(courses)}"
    name = f"DeviationConfirmed -> every plan open, {what}"
    if courses[0].root.patients >= LARGE_PATIENTS:
        return [
            row(f"{name}, worst of {len(times)}", max(times), "ms", target=Target(at_most=3_000), note=note)
        ]
    return [
        row(f"{name}, p95", p95(times), "ms", target=Target(at_most=500), note=note),
        row(f"{name}, p50", p50(times), "ms"),
        row(f"{name}, worst", max(times), "ms", target=Target(at_most=1_500)),
    ]


async def measure(machine: Machine, stack: LocalStack) -> list[Row]:
    small = [root(f"S{number:04}", PATIENTS) for number in range(RUNS)]
    large = [root(f"L{number:04}", LARGE_PATIENTS) for number in range(LARGE)]
    ready = await prepare(stack, [*small, *large])
    endpoints = {"PHARMALOOP_ENDPOINTS": json.dumps(stack.endpoints())}
    plant = machine.child("plant", str(POINTS), on=endpoints) if POINTS else None
    if plant is not None:
        plant.told("registered")
        plant.follow()
    found: list[Row] = []
    for roots, every in ((small, EVERY_MS), (large, LARGE_EVERY_MS)):
        if roots:
            await asyncio.sleep(5)
            # One tap for each part: the runs of the part before are over, and say nothing more of plans.
            with Tap(KafkaSettings(bootstrap_servers=stack.bootstrap), _TOPICS) as tap:
                before = dict(plant.last) if plant else {}
                pids = {name: pid for name, pid in stack.pids().items() if name in SERVICES}
                with machine.profiling(pids, "thread", "The safety thread"):
                    courses = await confirm_all(ready, tap, roots, every)
            alerts = await alerted(stack)
            for course in courses:
                course.check(alerts)
            found += rows_of(courses, every, _told(before, plant.last if plant else {}))
    await ready.platform.close()
    return found


async def alerted(stack: LocalStack) -> set[str]:
    """Lots that an alert was raised for: when the deviation is detected, before anybody confirms it."""
    found: set[str] = set()
    async with channel(stack.endpoints()["alerting"]) as open_channel:
        stub: Any = alerting_grpc.AlertingServiceStub(open_channel)
        request = alerting.ListAlertsRequest(page_size=1000)
        while True:
            answer = await stub.ListAlerts(request, timeout=15, metadata=metadata("bench"))
            found |= {alert.raised.lot for alert in answer.alerts}
            request.page_token = answer.next_page_token
            if not request.page_token:
                return found


def _told(before: dict[str, Any], after: dict[str, Any]) -> str:
    """What the plant sent meanwhile."""
    if not before:
        return "no background"
    rate = (after["points"] - before["points"]) / (after["seconds"] - before["seconds"])
    return f"background {rate:,.0f} points/s of {POINTS:,}, {after['late'] - before['late']} windows late"


def run(machine: Machine) -> list[Row]:
    only = ("kafka", "mongod", "migrate", *SERVICES)
    with LocalStack(machine.folder / "stack", only=only, settings={"PHARMALOOP_CLOCK_SPEED": "1"}) as stack:
        stack.up()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(measure(machine, stack))
