"""A process of the simulated world: a whole service, put together as its composition root does it.

Handlers, deciders, steps, relay and runners are the product's own. What is
simulated is what they stand on: clock, event loop, database, log, keys. A
process that dies leaves its database and the log, and nothing else.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import cache
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast
from unittest import mock

from services.alerting import main as alerting
from services.clinical import main as clinical
from services.exchange import main as exchange
from services.exchange.evaluator import main as evaluator
from services.exchange.site import main as agent
from services.kit.app import App, ServiceSpec
from services.kit.bus.protocol import Partition
from services.kit.contracts import contract
from services.kit.facts import FactLog
from services.kit.metrics import Metrics
from services.kit.offload import Offload
from services.kit.positions import Positions
from services.kit.relay import Relay
from services.kit.runners.batch import _ASIDE_SECONDS, BatchRunner, Surroundings
from services.kit.runners.decider import Decider
from services.kit.runners.notes import WAITING
from services.kit.runners.step import StepFunction, StepRunner
from services.kit.sealing import Sealer
from services.loops import main as loops
from services.production import main as production
from services.production import steps as plant_steps
from services.rnd import main as rnd
from services.traceability import main as traceability
from tests.reliability.sim.agents import run_agent, run_evaluator
from tests.reliability.sim.clockwork import START, Crash, SimLoop
from tests.reliability.sim.log import SimBus, SimConsumer
from tests.reliability.sim.stores import AsyncStore, SyncStore
from tests.reliability.sim.twin import at_once, twin

if TYPE_CHECKING:
    from tests.reliability.sim.world import World

SITES = ("hospital-a", "hospital-b")
#: The sites whose agents answer studies: a sum needs three.
STUDY_SITES = (*SITES, "hospital-c")
#: Every service of the world, by the name of its database, with how its specification is made.
SPECS: Mapping[str, Callable[[], ServiceSpec]] = {
    "production": lambda: production.SPEC,
    "traceability": traceability.make_spec,
    "alerting": alerting.make_spec,
    "rnd": lambda: rnd.SPEC,
    "loops": lambda: loops.SPEC,
    **{f"clinical.{site}": clinical.make_spec for site in SITES},
    "exchange": exchange.make_spec,
    "evaluator": evaluator.make_spec,
    **{f"agent.{site}": agent.make_spec for site in STUDY_SITES},
}
#: Those that only a world with studies has; of each there is one process.
OF_STUDIES = ("exchange", "evaluator", *(f"agent.{site}" for site in STUDY_SITES))


#: How long the exchange waits for its sites, and alerts for people, as their settings say where nothing
#: is set.
_PATIENCE: Mapping[str, Any] = {
    name: field.get_default(call_default_factory=True)
    for settings in (exchange.ExchangeSettings, alerting.AlertingSettings)
    for name, field in settings.model_fields.items()
    if name.endswith("_seconds") or name.startswith("escalate_")
}
#: Whom an agent and the evaluator call: the simulated network leads there by itself.
_ADDRESSES = {"exchange": "exchange", "clinical": "clinical"}


class Keys:
    """Keys that need no folder, the same in every process."""

    def make(self, key_id: str) -> bytes:
        return key_id.encode().ljust(32, b".")[:32]

    def find(self, key_id: str) -> bytes:
        return self.make(key_id)

    def destroy(self, key_id: str) -> None:
        raise NotImplementedError


@cache
def metrics_of(service: str) -> Metrics:
    """Metrics decide nothing: every process of a service may share them."""
    return Metrics(service)


def site_of(name: str) -> str:
    return name.partition(".")[2]


def _keys_in(folder: Any) -> Keys:
    return Keys()


@contextmanager
def _simulated_parts() -> Iterator[None]:
    """While a service is put together: keys need no folder, and the twin answers at once."""
    with ExitStack() as stack:
        for module in (traceability, production):
            stack.enter_context(mock.patch.object(module, "LocalKeys", _keys_in))
        stack.enter_context(mock.patch.object(plant_steps, "Twin", twin))
        stack.enter_context(mock.patch.object(Offload, "run", at_once))
        stack.enter_context(mock.patch.object(Offload, "begin"))
        yield


def steps_of(app: Any) -> Mapping[str, StepFunction]:
    """The steps of a service, once its handlers are connected to keys and clock."""
    with _simulated_parts():
        app.spec.connect(app)
        return dict(app.spec.steps(app))


class _Server:
    """Takes a service's RPCs as a gRPC server does, by name."""

    def __init__(self) -> None:
        self.methods: dict[str, Callable[..., Any]] = {}

    def add_generic_rpc_handlers(self, handlers: Any) -> None:
        pass

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        for name, made in handlers.items():
            self.methods[name] = made.unary_unary or made.unary_stream or made.stream_stream


def methods_of(app: Any) -> Mapping[str, Callable[..., Any]]:
    """The RPCs of a service, as its composition root offers them."""
    server = _Server()
    if app.spec.servicer is not None:
        with _simulated_parts():
            app.spec.servicer(app, server)
    return server.methods


def connect_outside(spec: ServiceSpec, site: str, clock: Any) -> None:
    """Connect the handlers of a specification without a process."""
    platform = _platform()
    steps_of(
        SimpleNamespace(
            spec=spec,
            site=site,
            clock=clock,
            platform=platform,
            settings=SimpleNamespace(**_PATIENCE, **_ADDRESSES),
            sealer=Sealer(Keys()),
            contract=contract(),
            store=None,
            bus=SimpleNamespace(log=lambda: None),
            restored=None,
            leaving=[],
        )
    )


class Process:
    """One process, from its start to its death."""

    def __init__(self, world: World, name: str, instance: int, life: int) -> None:
        self.world = world
        self.name = name
        self.instance = instance
        self.label = f"{name}/{instance}"
        self.dead = False
        self.paused_until = 0.0
        #: The exchange's task by which an agent, or the evaluator, watches for tasks.
        self.watches: asyncio.Task[None] | None = None
        #: Die at this named point, when it is passed so many times more.
        self.crash_at: tuple[str, int] | None = None
        self.folding: BatchRunner | None = None
        self.loop = SimLoop(world.time)
        self.consumers: dict[BatchRunner, SimConsumer] = {}
        with self._inside():
            self.app = self._app(life)
            self.methods = methods_of(self.app)
            self._start()

    @contextmanager
    def _inside(self) -> Iterator[None]:
        outer = asyncio._get_running_loop()
        asyncio._set_running_loop(self.loop)
        try:
            yield
        finally:
            asyncio._set_running_loop(outer)

    def _app(self, life: int) -> App:
        spec, site, world = SPECS[self.name](), site_of(self.name), self.world
        database, metrics = world.databases[self.name], metrics_of(spec.name)
        store, batch_store = AsyncStore(database, self), SyncStore(database, self)
        bus = SimBus(world.log, self.label, self)
        producer = bus.producer()
        relay = Relay(store, bus.ordered_producer(), world.time, metrics, f"{self.label}-{life}")
        around = Surroundings(
            spec.name,
            site,
            contract(),
            bus,
            batch_store,
            metrics,
            relay.wake,
            f"{self.name}/",
            str(self.instance),
        )
        runners = [world.bugs.runner(reactor, around) for reactor in spec.reactors]
        parts: dict[str, Any] = {
            "spec": spec,
            "settings": SimpleNamespace(
                site=site, site_name=site, instance=str(self.instance), **_PATIENCE, **_ADDRESSES
            ),
            "platform": _platform(),
            "site": site,
            "clock": world.time,
            "contract": contract(),
            "metrics": metrics,
            "bus": bus,
            "producer": producer,
            "store": store,
            "batch_store": batch_store,
            "relay": relay,
            "decider": Decider(
                spec.name,
                dict(spec.commands),
                store=store,
                relay=relay,
                contract=contract(),
                clock=world.time,
            ),
            "facts": FactLog(spec.name, producer, contract(), world.time, site),
            "sealer": Sealer(Keys()),
            "positions": Positions(store, {runner.name: runner.topics for runner in runners}),
            "runners": runners,
            "started": START,
            "version": "0",
            "restored": None,
            "leaving": [],
        }
        # Of the many things that a service has at hand, those that one in a simulated world asks for.
        return cast(App, SimpleNamespace(**parts))

    def _start(self) -> None:
        app = self.app
        self.run(app.decider.run())
        self.run(app.relay.run())
        functions = steps_of(app)
        self.run(StepRunner(app.store, app.clock, app.metrics, functions).run())
        for runner in app.runners:
            consumer = app.bus.consumer(f"{self.name}/{runner.name}", str(self.instance))
            self.consumers[runner] = consumer  # type: ignore[assignment]
            consumer.subscribe(runner.topics, runner._start_at, runner._lost)
        connected = {"agent": run_agent, "evaluator": run_evaluator}.get(app.spec.name)
        if connected is not None:
            self.run(connected(self, Keys()))
        if app.spec.on_start:
            self.run(self._on_start(app.spec.on_start))

    async def _on_start(self, begin: Callable[[App], Awaitable[None]]) -> None:
        """Where it fails the real process ends, to be started again."""
        try:
            await begin(self.app)
        except Exception as error:  # noqa: BLE001 -- whatever it is, the process cannot start
            self.world.step(f"{self.label} cannot start: {error!r}")
            self.dead = True

    def run(self, work: Any) -> asyncio.Task[Any]:
        return self.loop.create_task(work)

    # -- what the scheduler does with it ----------------------------------------

    @property
    def paused(self) -> bool:
        return self.world.time.seconds < self.paused_until

    @property
    def turnable(self) -> bool:
        return not self.dead and not self.paused

    def to_fold(self) -> list[BatchRunner]:
        """Runners that have something to take or to mark, and are not in the middle of it."""
        if self.folding is not None:
            return []
        return [
            runner
            for runner in self.app.runners
            if self.consumers[runner].lag
            or self.consumers[runner].unbalanced
            or runner.unmarked
            or (self._looks_aside(runner) and self.awaits(runner))
        ]

    def _looks_aside(self, runner: BatchRunner) -> bool:
        """Is it time for the runner to look at what it set aside?"""
        return time.monotonic() - runner._aside_at >= _ASIDE_SECONDS

    def awaits(self, runner: BatchRunner) -> bool:
        """Does an event of the runner's partitions wait for a state that is there by now?"""
        database, owned = self.world.databases[self.name], self.consumers[runner].owned
        return any(
            row.runner == runner.name
            and Partition(row.records[0].record.topic, row.records[0].record.partition) in owned
            and any(item.id == row.id for item in database.all(row.kind))
            for row in database.states(WAITING).values()
        )

    def fold(self, runner: BatchRunner) -> int:
        """One turn of a batch runner."""
        self.folding = runner
        try:
            with self.world.acting(self):
                return runner.turn(self.consumers[runner])
        except Crash:
            self.dead = True
            return 0
        finally:
            self.folding = None

    def pump(self, turns: int) -> int:
        """Some turns of its event loop."""
        with self.world.acting(self):
            return self.loop.pump(turns)

    def bury(self) -> None:
        """End what is left of a dead process: none of it has an effect any more."""
        self.dead = True
        if self.watches is not None:
            self.watches.cancel()  # the connection breaks
        for consumer in self.consumers.values():
            consumer.close()
        tasks = asyncio.all_tasks(self.loop)
        for task in tasks:
            task.cancel()
        self.loop.pump(1000)
        for task in tasks:
            if task.done() and not task.cancelled():
                task.exception()
        self.loop.close()

    # -- weather ------------------------------------------------------------------

    def alive(self) -> None:
        if self.dead:
            raise Crash(self.label)

    def between(self) -> None:
        self.alive()
        self.world.between(self)
        self.alive()

    def strikes(self, fault: str) -> bool:
        return self.world.strikes(fault)

    def reached(self, point: str) -> None:
        """A named point between effect and commit."""
        self.alive()
        if self.crash_at is not None and self.crash_at[0] == point:
            left = self.crash_at[1] - 1
            self.crash_at = (point, left)
            if left <= 0:
                self.world.step(f"{self.label} dies at {point}")
                self.dead = True
                raise Crash(self.label)
        if point.startswith("batch."):
            self.between()


def _platform() -> SimpleNamespace:
    """What processes of one installation share."""
    return SimpleNamespace(state_dir=_NoFolder(), sites=SITES, endpoints={})


class _NoFolder:
    """Stands where a folder would; nobody looks into it."""

    def __truediv__(self, name: str) -> _NoFolder:
        return self
