"""A simulated world: six services, their databases and log, and who calls them.

It is one thread, and everything that happens follows from the seed: the same
seed gives the same steps, byte for byte. The steps are written down, so that
a failure can be read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import chain
from random import Random

from services.exchange.handlers.runs import EXPIRY_STEP
from services.kit.errors import PharmaLoopError, Retryable
from services.kit.rpc.context import Caller, bind
from services.kit.runners.batch import BatchRunner
from services.kit.work import STEPS
from tests.reliability.sim import inputs, studies, tale, transfers
from tests.reliability.sim.bugs import NONE, Bugs
from tests.reliability.sim.clockwork import SPEED, START, Crash, Time
from tests.reliability.sim.database import Database
from tests.reliability.sim.faults import Weather
from tests.reliability.sim.inputs import Input
from tests.reliability.sim.log import Log
from tests.reliability.sim.machine import Machine
from tests.reliability.sim.process import SPECS, Process
from tests.reliability.sim.story import Story, tell

_DEEPEST = 2
_SESSION_SECONDS = 11.0


class World:
    """Everything there is, and what can be done with it."""

    def __init__(self, seed: int, *, calm: bool = False, bugs: Bugs = NONE) -> None:
        self.seed = seed
        self.rng = Random(f"world/{seed}")
        self.bugs = bugs
        self.story: Story = tell(seed)
        self.tale = tale.tell(seed)
        self.time = Time()
        self.log = Log(self.time, self.rng)
        self.weather = Weather(Random(f"weather/{seed}"), calm)
        self.databases = {name: Database(name, self.time) for name in SPECS}
        self.machine = Machine(self.log)
        self.processes: dict[str, Process] = {}
        self.inputs: dict[str, Input] = {}
        self.steps: list[str] = []
        self.deaths = 0
        self._lives = 0
        self._acting: list[Process] = []
        self._depth = 0
        self.nested: Callable[[], None] = lambda: None

    # -- telling --------------------------------------------------------------

    def step(self, what: str) -> None:
        self.steps.append(f"{len(self.steps):5} {self.time.seconds:9.3f} {'  ' * self._depth}{what}")

    # -- processes --------------------------------------------------------------

    def start(self, label: str) -> None:
        name, _, instance = label.rpartition("/")
        self._lives += 1
        self.step(f"{label} starts")
        self.processes[label] = Process(self, name, int(instance), self._lives)

    def bury(self) -> list[str]:
        """Take away the processes that are dead; answers which."""
        gone = [label for label, process in self.processes.items() if process.dead and not process.folding]
        for label in gone:
            process = self.processes.pop(label)
            for sending in [s for s in self.log.sending if s.process == label]:
                sending.drop(self.rng)
            process.bury()
            if label == "loops/0":
                self.machine.die(self.rng)
            self.deaths += 1
        return gone

    def kill(self, process: Process) -> None:
        self.step(f"{process.label} is killed")
        process.dead = True

    @contextmanager
    def acting(self, process: Process) -> Iterator[None]:
        self._acting.append(process)
        try:
            yield
        finally:
            self._acting.pop()

    # -- what the product meets ---------------------------------------------------

    def reached(self, point: str) -> None:
        """The hook of the named points."""
        if self._acting:
            self._acting[-1].reached(point)

    def strikes(self, fault: str) -> bool:
        return self.weather.strikes(fault)

    def between(self, process: Process) -> None:
        """Something may happen within a batch of the process."""
        if self._depth >= _DEEPEST or self.weather.calm:
            return
        if self.weather.strikes("frozen between"):
            self._frozen(process)
        elif self.weather.strikes("others between"):
            self._others(self.rng.randint(1, 4))

    def _others(self, count: int) -> None:
        self._depth += 1
        try:
            for _ in range(count):
                self.nested()
        finally:
            self._depth -= 1

    def _frozen(self, process: Process) -> None:
        """Past its session: others get its partitions and go on; then it wakes up and knows nothing."""
        self.step(f"{process.label} freezes within its batch")
        process.paused_until = self.time.seconds + 1e9
        for consumer in process.consumers.values():
            consumer.evict()
        self.time.advance(_SESSION_SECONDS)
        self._others(self.rng.randint(5, 40))
        process.paused_until = 0.0
        self.step(f"{process.label} goes on")

    def slept(self) -> None:
        """A thread of the product slept: others went on meanwhile."""
        if self._depth < _DEEPEST and not self.weather.calm:
            self._others(2)

    # -- ordinary steps -------------------------------------------------------------

    def pump(self, process: Process, turns: int) -> None:
        done = process.pump(turns)
        if done:
            self.step(f"{process.label} runs {done}")

    def fold(self, process: Process, runner: BatchRunner) -> None:
        self.step(f"{process.label} folds {runner.name}")
        count = process.fold(runner)
        self.step(f"{process.label} folded {count} of {runner.name}")

    def machine_step(self) -> bool:
        """One record of the case topic, if the machine's process turns."""
        process = self.processes.get("loops/0")
        waiting = self.machine.waiting
        if process is None or not process.turnable or not waiting:
            return False
        partition = waiting[0] if self.weather.calm else self.rng.choice(waiting)
        self.step(f"machine takes {partition.number}/{self.machine.places.get(partition, 0)}")
        try:
            with self.acting(process):
                self.machine.take(partition)
        except Crash:
            process.dead = True
        return True

    def tick(self, seconds: float) -> None:
        self.time.advance(seconds)
        self.step(f"time passes: {seconds:g} s")

    # -- calls --------------------------------------------------------------------

    def answered(self, prefix: str) -> bool:
        """Is every call whose label begins so acknowledged?"""
        return all(i.answer is not None for label, i in self.inputs.items() if label.startswith(prefix))

    def look(self) -> int:
        """People look at what the platform shows, and decide what to do; answers how much is new."""
        wanted = chain(inputs.reactions(self), transfers.reactions(self), studies.reactions(self))
        fresh = [i for i in wanted if i.label not in self.inputs]
        self.inputs.update({i.label: i for i in fresh})
        return len(fresh)

    def open_calls(self, phase: int) -> list[Input]:
        """Calls that are to be made, as far as the phase allows."""
        return [i for i in self.inputs.values() if i.answer is None and i.phase <= phase and i.ready(self)]

    @property
    def triggered(self) -> bool:
        return any(i.answer is not None for label, i in self.inputs.items() if label.startswith("confirm "))

    def call(self, wanted: Input) -> bool:
        """Call a live process of the service."""
        alive = [p for p in self.processes.values() if p.name == wanted.service and p.turnable]
        if not alive:
            return False
        process = self.rng.choice(alive)
        self.step(f"call {wanted.label} at {process.label}")
        wanted.calls += 1
        wanted.flying += 1
        task = process.run(self._call(process, wanted))
        task.add_done_callback(lambda _: self._landed(wanted))
        return True

    def _landed(self, wanted: Input) -> None:
        wanted.flying -= 1

    async def _call(self, process: Process, wanted: Input) -> None:
        bind(Caller(wanted.actor, wanted.label, "00-" + "1" * 32 + "-" + "2" * 16 + "-01"))
        try:
            answer = await self._made(process, wanted)
        except Retryable:
            return
        except PharmaLoopError as error:
            if not process.dead:
                wanted.refused, wanted.answer = str(error), b""
        else:
            if not process.dead:
                wanted.answer = answer

    async def _made(self, process: Process, wanted: Input) -> bytes:
        if wanted.method == "TrainModel":
            decision = await process.app.decider.submit(
                wanted.method, wanted.request, request_id=wanted.label, actor=wanted.actor
            )
            return decision.message
        wanted.request.request_id = wanted.label
        answer = await process.methods[wanted.method](wanted.request, None)
        result: bytes = answer.SerializeToString(deterministic=True)
        return result

    # -- rest -----------------------------------------------------------------------

    def next_due(self) -> float | None:
        """When the next step of any service is due, in seconds of the wall.

        That a study's time is over counts when nothing else is left to happen.
        """
        return min(self._dues(expiry=False) or self._dues(expiry=True), default=None)

    def _dues(self, *, expiry: bool) -> list[float]:
        moments = []
        for database in self.databases.values():
            for step in database.states(STEPS).values():
                if (step.step == EXPIRY_STEP) is not expiry or (expiry and not self._expires(step.key)):
                    continue
                due = (_moment(step.due) - START).total_seconds() / SPEED
                lease = (_moment(step.lease) - START).total_seconds() if step.lease else 0.0
                moments.append(max(due, lease))
        return moments

    def _expires(self, study: str) -> bool:
        """Is it a study that nothing else will end, and has everybody said what they say of it?"""
        calls = [call for call in self.inputs.values() if call.label.startswith(f"approve {study} ")]
        awaited = any(one.fate == "expired" for one in self.tale.studies if one.study == study)
        return awaited and bool(calls) and all(call.answer is not None for call in calls)

    def moves(self) -> bool:
        """Is something under way that needs no time?"""
        return bool(
            self.log.sending
            or self.machine.waiting
            or any(p.to_fold() or p.loop.busy for p in self.processes.values())
        )

    def awaits(self) -> bool:
        """Has something that was set aside all that it waited for?"""
        return any(p.awaits(runner) for p in self.processes.values() for runner in p.app.runners)

    def waits(self) -> bool:
        """Is something left to do, now or later?"""
        calls = any(i.answer is None for i in self.inputs.values())
        rows = any(database.open_rows for database in self.databases.values())
        return calls or rows or self.next_due() is not None


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text)
