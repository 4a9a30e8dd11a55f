"""The composition root that every service shares: settings -> adapters -> run.

A service says what it is made of (`ServiceSpec`); this module connects it,
starts it in order, tells its health truthfully, and stops it cleanly.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import gc
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import uvloop
from google.protobuf.internal import api_implementation

from services.kit import log, points, tracing
from services.kit.bus.kafka import KafkaBus
from services.kit.bus.protocol import Producer
from services.kit.bus.register import digest_of
from services.kit.bus.watched import WatchedOrderedProducer, WatchedProducer
from services.kit.clock import PlatformClock, wall_now
from services.kit.contracts import Contract, contract
from services.kit.errors import Integrity, Invalid, PharmaLoopError, Retryable
from services.kit.facts import FactLog
from services.kit.lease import LEASES
from services.kit.metrics import Metrics
from services.kit.positions import Positions
from services.kit.presence import Usurped
from services.kit.readiness import Readiness
from services.kit.recovery import OwnLog, Passed, Regain, Restored, recover
from services.kit.relay import Relay
from services.kit.rpc.changes import add_changes
from services.kit.rpc.operations import add_operations
from services.kit.rpc.server import RpcServer
from services.kit.rpc.status import add_status
from services.kit.runners.batch import BatchRunner, Surroundings
from services.kit.runners.decider import ANSWERS, Command, Decider
from services.kit.runners.letters import LETTERS
from services.kit.runners.makings import Makings
from services.kit.runners.notes import NOTES
from services.kit.runners.protocol import Runner
from services.kit.runners.reactor import Reactor
from services.kit.runners.step import StepFunction, StepRunner
from services.kit.sealing import LocalKeys, Sealer
from services.kit.settings import (
    KafkaSettings,
    MongoSettings,
    PlatformSettings,
    ServiceSettings,
    TlsSettings,
    read_settings,
    service_prefix,
    service_settings,
)
from services.kit.startup.checks import Ground, Plan, prepare
from services.kit.startup.database import explained
from services.kit.store.elsewhere import Elsewhere
from services.kit.store.kinds import Kind
from services.kit.store.mongo import MongoStore
from services.kit.store.motor_db import MotorStore
from services.kit.tallies import Tally, keep_telling
from services.kit.tls.expiry import Expiry, Renewed, papers
from services.kit.tls.identity import identity
from services.kit.version import code_version
from services.kit.watching import Limits, Watching
from services.kit.work import STEPS

_log = log.get_logger("kit.app")
_STATUS = "pharmaloop.common.v1.StatusService"
_OF_EVERY_API = ("pharmaloop.common.v1.OperationsService", "pharmaloop.common.v1.ChangesService")
ROLES = ("api", "worker", "relay", "all")
_HEALTH_SECONDS = 0.1
_DRAIN_SECONDS = 15.0
_RECOVERY_SECONDS = 0.2
_NOTE_SECONDS = 20.0
_BEHIND_SECONDS = 2.0
#: Longer than a row of another process stands still.
_OTHERS_SECONDS = 5.0
#: sysexits.h: a person has to change the configuration; or: the same start may succeed later.
EXIT_CONFIG, EXIT_LATER = 78, 75
Background = Callable[["App"], Awaitable[None]]


@dataclass(frozen=True)
class ServiceSpec:
    """What a service is made of.

    `connect` gives its handlers what they need of the process (settings, keys,
    the clock), before any of them is called, and refuses to start without it;
    `servicer` adds its gRPC servicer to the server; `rpc_names` are the full
    names of the gRPC services, for reflection; `on_start` runs once, after
    the runners have started; `background` runs beside the runners until it is
    cancelled, and the service stops when it fails. `loops` are the names of the
    loops that it runs, whose dead letters are settled like those of `reactors`.
    `tally` counts its rows for whoever watches. `regain` brings back what stands beside an aggregate from the
    aggregate's own events, where the database was set back.
    """

    name: str
    rpc_names: tuple[str, ...] = ()
    connect: Callable[[App], None] = lambda app: None
    servicer: Callable[[App, Any], None] = lambda app, server: None
    kinds: tuple[Kind[Any], ...] = ()
    reactors: tuple[Reactor, ...] = ()
    loops: tuple[str, ...] = ()
    commands: Mapping[str, Command] = field(default_factory=dict)
    steps: Callable[[App], Mapping[str, StepFunction]] = lambda app: {}
    settings: type[ServiceSettings] = ServiceSettings
    on_start: Background | None = None
    background: Background | None = None
    tally: Tally | None = None
    regain: Mapping[Kind[Any], Regain] = field(default_factory=dict)
    #: One process runs all of it: a second one on the same database is refused.
    alone: bool = False


@dataclass
class Bell:
    """Rung after every commit, from any thread: wakes whoever may have something to do now."""

    listeners: list[Callable[[], None]]

    def ring(self) -> None:
        for listener in self.listeners:
            listener()


@dataclass
class App:
    """A running service: its adapters and runners."""

    spec: ServiceSpec
    settings: Any
    platform: PlatformSettings
    kafka: KafkaSettings
    site: str
    clock: PlatformClock
    contract: Contract
    metrics: Metrics
    bus: KafkaBus
    producer: Producer
    store: MotorStore
    batch_store: MongoStore
    relay: Relay
    bell: Bell
    decider: Decider
    facts: FactLog
    sealer: Sealer
    positions: Positions
    watching: Watching
    makings: Makings
    started: datetime
    version: str
    readiness: Readiness
    contract_digest: str
    own: OwnLog
    restored: Restored | None
    tls: TlsSettings
    expiry: Expiry
    ready: bool = False
    loops: list[Runner] = field(default_factory=list)
    #: Called, the last first, when the service has stopped: ends what it made beside itself.
    leaving: list[Callable[[], Awaitable[None]]] = field(default_factory=list)

    @property
    def watched(self) -> list[Runner]:
        """Everything that takes records in this process."""
        return [*(self.runners if self.makings.works else ()), *self.loops]

    @property
    def elsewhere(self) -> list[BatchRunner]:
        """Runners of the service that other processes run."""
        return [] if self.makings.works else self.runners

    @property
    def runners(self) -> list[BatchRunner]:
        """The batch runners whose makings are live."""
        return self.makings.runners


async def connect(spec: ServiceSpec, role: str = "all") -> App:
    """Check what the service stands on and connect its adapters.

    Raises with the setting's name and the remedy.
    """
    assert api_implementation.Type() == "upb", "the C runtime of protobuf is missing"
    settings = service_settings(spec.name, spec.settings)
    platform = read_settings(PlatformSettings)
    kafka, mongo = read_settings(KafkaSettings), read_settings(MongoSettings)
    tls = read_settings(TlsSettings)
    if tls.on:
        identity(tls)  # what cannot be read ends the start at once
    site = getattr(settings, "site", "")
    tracing.begin(spec.name, settings.instance, site, platform)
    database = settings.database or "_".join(["pharmaloop", spec.name, *([site] if site else [])])
    reads = {topic for reactor in spec.reactors for topic in reactor.topics(contract(), site)}
    plan = Plan(
        service=spec.name,
        site=site,
        role=role,
        settings=settings,
        platform=platform,
        kafka=kafka,
        mongo=mongo,
        tls=tls,
        database=database,
        contract=contract(),
        reads=tuple(sorted(reads)),
        alone=spec.alone,
    )
    return await _assemble(spec, plan, await prepare(plan))


async def _assemble(spec: ServiceSpec, plan: Plan, ground: Ground) -> App:
    settings, platform, site, clock = plan.settings, plan.platform, plan.site, ground.clock
    metrics, bus = Metrics(spec.name), KafkaBus(plan.kafka, spec.name)
    client = f"{plan.database}-{plan.role}-{settings.instance}"
    store = MotorStore(plan.mongo, plan.database, client)
    batch_store = MongoStore(plan.mongo, plan.database, client)
    producer = WatchedProducer(bus.producer())
    if abandoned := await explained(asyncio.to_thread(batch_store.end_abandoned), plan.database):
        _log.warning("transactions of a killed process ended", transactions=abandoned)
    kinds = [*spec.kinds, *NOTES, LETTERS, STEPS, ANSWERS, LEASES]
    await explained(store.prepare(kinds), plan.database)
    own = OwnLog(
        spec.name,
        contract(),
        bus,
        batch_store,
        spec.kinds,
        platform.sites,
        site,
        plan.reads,
        spec.regain,
        clock.now,
    )
    restored = await explained(asyncio.to_thread(recover, own), plan.database)
    holder = f"{socket.gethostname()}/{spec.name}-{settings.instance}-{os.getpid()}"
    outlet = WatchedOrderedProducer(bus.ordered_producer(), producer)
    relay = Relay(store, outlet, clock, metrics, holder)
    bell = Bell([relay.wake])
    around = Surroundings(
        spec.name,
        site,
        ground.contract,
        bus,
        batch_store,
        metrics,
        bell.ring,
        platform.group_prefix,
        settings.instance,
        restored.until() if restored else {},
    )
    makings = Makings(spec.reactors, around, store, works=plan.consumes)
    topics = {runner.name: runner.topics for runner in makings.runners}
    loops: list[Runner] = []
    positions = Positions(store, topics, makings.generation)
    limits = Limits(settings.most_subscriptions, settings.most_subscriptions_of_actor)
    watching = Watching(bus, positions, contract(), spec.name, site, limits, metrics)
    readiness = Readiness(
        metrics=metrics,
        backbone=ground.backbone,
        database=ground.database,
        presence=ground.presence,
        producer=producer,
        heartbeat=ground.heartbeat,
        runners=lambda: [*makings.runners, *loops] if plan.consumes else [],
        volumes=[platform.state_dir / name for name in ("keys", "loops")],
    )
    expiry = Expiry([*papers(plan.tls, plan.kafka, plan.mongo)], client, metrics, readiness.waits)
    return App(
        spec=spec,
        settings=settings,
        platform=platform,
        kafka=plan.kafka,
        site=site,
        clock=clock,
        contract=ground.contract,
        metrics=metrics,
        bus=bus,
        producer=producer,
        store=store,
        batch_store=batch_store,
        relay=relay,
        bell=bell,
        decider=Decider(
            spec.name,
            dict(spec.commands),
            store=store,
            relay=relay,
            contract=contract(),
            clock=clock,
            metrics=metrics,
            committed=bell.ring,
        ),
        facts=FactLog(spec.name, producer, contract(), clock, site),
        sealer=Sealer(LocalKeys(platform.state_dir / "keys")),
        positions=positions,
        watching=watching,
        makings=makings,
        started=wall_now(),
        version=code_version(),
        readiness=readiness,
        contract_digest=digest_of(contract()),
        own=own,
        restored=restored,
        tls=plan.tls,
        expiry=expiry,
        loops=loops,
    )


class Running:
    """The parts of a service that run, started in order and stopped in reverse.

    `api` answers calls, so it decides commands and follows which makings of views are read; `worker` folds
    topics, and runs steps, loops and what a service does by itself, which decides commands as well; `relay`
    publishes the outbox. `all` does everything. Each says how it is.
    """

    def __init__(self, app: App, role: str) -> None:
        self._app = app
        self._api = role in ("api", "all")
        self._worker = role in ("worker", "all")
        self._relay = role in ("relay", "all")
        self._tasks: list[asyncio.Task[None]] = []
        #: What a service does at its start may need commands: it waits until they are taken again.
        self._recovering = False
        self._server = RpcServer(app.settings, app.metrics, tls=app.tls)
        self._ears: Elsewhere | None = None
        self.port = 0
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def _spawn(self, work: Awaitable[None], name: str) -> None:
        task = asyncio.ensure_future(work)
        task.set_name(name)
        task.add_done_callback(self._ended)
        self._tasks.append(task)

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and task.exception() and not self.failed.done():
            self.failed.set_exception(task.exception() or RuntimeError(task.get_name()))

    async def start(self) -> None:
        app = self._app
        decides = self._api or self._worker
        if app.restored is not None and decides:
            await self._after_restore(app.restored)
        if decides:
            app.spec.connect(app)
            self._spawn(app.decider.run(), "decider")
        if self._relay:
            self._spawn(app.relay.run(), "relay")
            self._spawn(self._listen(), "listening")
        elif decides:
            # Whoever relays may be missing: then nobody else would tell that events wait.
            self._spawn(app.relay.keep_telling(), "backlog")
        functions = app.spec.steps(app) if decides else {}
        if functions:
            steps = StepRunner(app.store, app.clock, app.metrics, functions)
            app.bell.listeners.append(steps.wake)
            # The same of whoever runs steps.
            self._spawn(steps.run() if self._worker else steps.keep_telling(), "steps")
        if decides:
            await app.makings.start()
            self._spawn(app.makings.run(), "makings")
        port = self.port = await self._server.start(self._offer())
        metrics_port = self._serve_metrics()
        if app.spec.background and self._worker:
            self._spawn(app.spec.background(app), "background")
        if not self._recovering:
            await self._begin()
        for watch in (app.readiness.watch_database, app.readiness.watch_backbone, app.readiness.watch_loops):
            self._spawn(watch(), watch.__name__)
        if app.expiry.papers:
            self._spawn(app.expiry.watch(), "certificates")
        self._spawn(self._watch_health(), "health")
        if self._worker:
            self._spawn(self._note_own_log(), "own log")
            self._spawn(self._tell_behind(), "behind")
            self._spawn(self._tell_rows(), "tallies")
        _log.info("started", grpc_port=port, metrics_port=metrics_port, version=app.version)

    async def _listen(self) -> None:
        """Hear of what other processes of the service commit: a relay by itself always, who does everything
        once there are others."""
        presence = self._app.readiness.presence
        alone = self._worker
        while alone:
            await asyncio.sleep(_OTHERS_SECONDS)
            with contextlib.suppress(PharmaLoopError):
                alone = not await asyncio.to_thread(presence.others)
        self._ears = Elsewhere(self._app.batch_store.outbox_stream, self._app.relay.wake)
        self._ears.start()

    def _offer(self) -> list[str]:
        """Add what this process answers to its server; the names of the services, for reflection."""
        app, server = self._app, self._server.server
        add_status(app, server)
        if not self._api:
            return [_STATUS]
        add_operations(app, server)
        add_changes(app, server)
        app.spec.servicer(app, server)
        return [*app.spec.rpc_names, _STATUS, *_OF_EVERY_API]

    async def _begin(self) -> None:
        """What the service does once at its start, by a command: not everywhere where it is asked."""
        if self._app.spec.on_start and self._worker:
            await self._app.spec.on_start(self._app)

    async def _after_restore(self, restored: Restored) -> None:
        """Commands wait until the runners have folded again what they had folded before."""
        self._app.decider.after_restore()
        passed = Passed(restored, self._app.positions)
        if left := await passed.left():
            self._recovering = True
            self._wait_for(left)
            self._spawn(self._until_passed(passed), "recovery")

    def _wait_for(self, left: int) -> None:
        why = f"the database was older than its topics and catches up; {left} records are left"
        self._app.decider.close(why)
        self._app.readiness.waits["recovery"] = why

    async def _until_passed(self, passed: Passed) -> None:
        while left := await passed.left():
            self._wait_for(left)
            await asyncio.sleep(_RECOVERY_SECONDS)
        self._app.decider.open()
        await self._begin()
        self._app.readiness.waits.pop("recovery", None)

    async def _note_own_log(self) -> None:
        """Note now and then how far the database certainly is, so that a start has little to look through."""
        while True:
            with contextlib.suppress(PharmaLoopError):
                await asyncio.to_thread(self._app.own.note)
            await asyncio.sleep(_NOTE_SECONDS)

    async def _tell_behind(self) -> None:
        while True:
            try:
                for runner in self._app.runners:
                    runner.tell_behind()
            except Exception as error:  # noqa: BLE001 -- a number must not end what it is about
                _log.error("what waits is not told", exc_info=error)
            await asyncio.sleep(_BEHIND_SECONDS)

    async def _tell_rows(self) -> None:
        app = self._app

        def runners() -> list[str]:
            of_loops = [f"{app.spec.name}.{loop}" for loop in app.spec.loops]
            return [*(runner.name for runner in app.runners), *of_loops]

        await keep_telling(app.store, app.clock, app.metrics, runners, app.spec.tally)

    def _serve_metrics(self) -> int:
        settings = self._app.settings
        try:
            return self._app.metrics.serve(settings.metrics_host, settings.metrics_port)
        except OSError as error:
            variable = f"{service_prefix(self._app.spec.name)}METRICS_PORT"
            raise Retryable(
                f"cannot listen on {settings.metrics_host}:{settings.metrics_port} ({error.strerror}): "
                f"stop the program that holds the port, or set {variable} to another"
            ) from None

    async def _watch_health(self) -> None:
        """Serving = nothing keeps this process from doing its work."""
        app = self._app
        while True:
            reasons = app.readiness.reasons()
            ready = not reasons
            if ready != app.ready:
                app.ready = ready
                app.readiness.told_ready(ready)
                await self._server.set_serving(ready)
                if not ready:
                    _log.warning("not ready", reasons=reasons)
            await asyncio.sleep(_HEALTH_SECONDS)

    async def stop(self, *, clean: bool = True) -> None:
        """Stop every part; `clean`: as it should end, so there is nothing to watch any more."""
        app = self._app
        if self._ears:
            self._ears.stop()
        app.watching.close()
        await self._server.stop()
        await app.watching.leave()
        await app.makings.stop(_DRAIN_SECONDS)
        # Whoever makes events stops first, so that the relay can come to an end.
        await _cancel(task for task in self._tasks if task.get_name() != "relay")
        if self._relay:
            left = await app.relay.drain(_DRAIN_SECONDS)
            if left:
                _log.warning("events wait for the next relay", rows=left)
        await _cancel(self._tasks)
        for leave in reversed(app.leaving):
            await leave()
        await asyncio.to_thread(app.relay.close)
        await asyncio.to_thread(app.producer.close)
        await asyncio.to_thread(app.readiness.leave, clean)
        await app.store.close()
        if self._ears:
            await asyncio.to_thread(self._ears.join)
        app.batch_store.close()


async def _cancel(tasks: Iterable[asyncio.Task[None]]) -> None:
    ending = list(tasks)
    for task in ending:
        task.cancel()
    await asyncio.gather(*ending, return_exceptions=True)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


async def serve(spec: ServiceSpec, role: str) -> int:
    """Run a service until it is told to stop; answers the exit code."""
    loop = asyncio.get_running_loop()
    stop: asyncio.Future[None] = loop.create_future()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, _resolve, stop)
    starting = asyncio.ensure_future(connect(spec, role))
    stop.add_done_callback(lambda _: starting.cancel())
    try:
        running = Running(await starting, role)
    except asyncio.CancelledError:
        return 0
    await running.start()
    # What is there by now stays: the collector need not walk over it with every batch of records.
    gc.collect()
    gc.freeze()
    done, _ = await asyncio.wait({stop, running.failed}, return_when=asyncio.FIRST_COMPLETED)
    failure = running.failed.exception() if running.failed in done else None
    if isinstance(failure, Renewed):
        _log.info("begins anew", reason=str(failure))
    elif failure:
        told = {"reason": str(failure)} if isinstance(failure, PharmaLoopError) else {"exc_info": failure}
        _log.error("a part of the service failed", **told)
    await running.stop(clean=failure is None or isinstance(failure, Renewed))
    _log.info("stopped")
    return exit_code(failure) if failure else 0


def exit_code(error: BaseException) -> int:
    """What the process tells its supervisor."""
    if isinstance(error, Usurped | Retryable):
        return EXIT_LATER
    return EXIT_CONFIG if isinstance(error, Invalid | Integrity) else 1


def main(spec: ServiceSpec) -> None:
    """Entry point of a service's `main.py`."""
    parser = argparse.ArgumentParser(prog=f"services.{spec.name}")
    parser.add_argument("--role", choices=ROLES, default="all", help="what this process does")
    role = parser.parse_args().role
    level = os.environ.get("PHARMALOOP_LOG_LEVEL", "INFO")
    log.configure(spec.name, level if level in log.LEVELS else "INFO")
    try:
        if level not in log.LEVELS:
            raise Invalid("BAD_SETTING", f"PHARMALOOP_LOG_LEVEL: choose one of {', '.join(log.LEVELS)}")
        points.arm_from(os.environ)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            code = runner.run(serve(spec, role))
        tracing.close()
    except PharmaLoopError as error:
        _log.error("cannot start", reason=getattr(error, "description", str(error)))
        code = exit_code(error)
    sys.stdout.flush()
    sys.exit(code)
