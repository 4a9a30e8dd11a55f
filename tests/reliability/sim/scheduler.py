"""Decides what happens next in a simulated world: at random while it storms, then to the end.

A run has two parts. In the storm every step is drawn from the seed, faults
included. Then the weather clears, everything is started again, and the world
must come to rest: nothing left to publish, to fold, to answer or to wait for.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from services.kit import points
from services.kit.relay import LEASES
from services.loops.handlers import CASE_TOPIC
from tests.reliability.sim import inputs, studies, transfers
from tests.reliability.sim.bugs import NONE, Bugs
from tests.reliability.sim.clockwork import settle, simulated
from tests.reliability.sim.faults import DEADLY
from tests.reliability.sim.process import OF_STUDIES, SPECS, Process
from tests.reliability.sim.world import World

_ROUNDS = 1500
_TICKS = (0.05, 0.3, 1.0, 3.0, 8.0)
_KINDS = ("pump", "fold", "machine", "arrive", "call", "look", "tick")
_WEIGHTS = (40, 40, 12, 6, 14, 3, 10)


class Restless(AssertionError):
    """The world does not come to rest."""


class Worlds:
    """The two worlds of a seed: where nothing goes wrong, and with its weather."""

    def __init__(self, seed: int, bugs: Bugs = NONE) -> None:
        self.undisturbed = World(seed, calm=True)
        self.disturbed = World(seed, bugs=bugs)

    @property
    def steps(self) -> list[str]:
        return self.disturbed.steps

    def run(self) -> None:
        """Everything comes in its order; then the same story in the storm."""
        _run(self.undisturbed, lambda scheduler: scheduler.in_order())
        with self.disturbed.bugs.planted():
            _run(self.disturbed, lambda scheduler: scheduler.storm_and_rest())


def undisturbed(seed: int, bugs: Bugs = NONE) -> World:
    """A seed's world where nothing goes wrong but what is planted, come to rest."""
    world = World(seed, calm=True, bugs=bugs)
    with bugs.planted():
        _run(world, lambda scheduler: scheduler.in_order())
    return world


def _run(world: World, what: Callable[[_Scheduler], None]) -> None:
    with simulated(world.time, Random(f"bytes/{world.seed}")):
        points.arm(world.reached)
        try:
            what(_Scheduler(world))
        finally:
            _end(world)


def _end(world: World) -> None:
    deaths = world.deaths
    world.machine.commit()
    for process in world.processes.values():
        process.dead = True
        process.folding = None
    world.bury()
    world.deaths = deaths
    points.arm(None)


class _Scheduler:
    def __init__(self, world: World) -> None:
        self.world = world
        self.rng = world.rng
        self.labels = [f"{name}/0" for name in SPECS if world.tale.has(name)]
        told = [*inputs.told(world.story), *transfers.told(world.tale), *studies.told(world.tale)]
        world.inputs = {i.label: i for i in told}
        world.nested = self._nested
        world.time.on_sleep = world.slept

    # -- no weather -------------------------------------------------------------

    def in_order(self) -> None:
        for phase in (0, 1, 2):
            self._rest(phase)

    # -- storm --------------------------------------------------------------------

    def storm_and_rest(self) -> None:
        world, rng = self.world, self.rng
        self.labels += [f"{name}/1" for name in SPECS if name not in OF_STUDIES and rng.random() < 0.4]
        self._revive(everything=True)
        # Some storms break out late: when a run is under way, or sealed.
        world.weather.calm = True
        for phase in rng.choice(((), (), (0,), (0, 1))):
            self._rest(phase)
        world.weather.calm = False
        world.step("a storm breaks out")
        others = sum(label.partition("/")[0] in OF_STUDIES for label in self.labels)
        # The processes of studies share the steps: the others shall have as many as without them.
        for _ in range(rng.choice((150, 400, 900)) * len(self.labels) // (len(self.labels) - others)):
            self._act()
            self._revive()
        world.weather.calm = True
        world.step("the weather clears")
        for process in world.processes.values():
            process.paused_until, process.crash_at = 0.0, None
        for phase in rng.choice(((1, 2), (2,))):
            self._rest(phase)

    def _revive(self, *, everything: bool = False) -> None:
        self.world.bury()
        for label in self.labels:
            if label not in self.world.processes and (everything or self.rng.random() < 0.1):
                self.world.start(label)

    def _act(self) -> None:
        fault = self.world.weather.rare()
        if fault is not None:
            self._fault(fault)
        else:
            self._ordinary(_KINDS, _WEIGHTS)

    def _nested(self) -> None:
        self._ordinary(("pump", "fold", "machine", "arrive"), (40, 40, 6, 6))

    def _ordinary(self, kinds: tuple[str, ...], weights: tuple[int, ...]) -> None:
        (kind,) = self.rng.choices(kinds, weights)
        getattr(self, f"_{kind}")()

    def _turnable(self) -> list[Process]:
        return [process for process in self.world.processes.values() if process.turnable]

    def _pump(self) -> None:
        busy = [process for process in self._turnable() if process.loop.busy]
        if busy:
            self.world.pump(self.rng.choice(busy), self.rng.choice((1, 3, 10, 30, 100)))

    def _fold(self) -> None:
        ready = [(process, runner) for process in self._turnable() for runner in process.to_fold()]
        if ready:
            self.world.fold(*self.rng.choice(ready))

    def _machine(self) -> None:
        self.world.machine_step()

    def _arrive(self) -> None:
        sending = self.world.log.sending
        first = [s for n, s in enumerate(sending) if all(o.process != s.process for o in sending[:n])]
        if not first:
            return
        one = self.rng.choice(first)
        if self.world.strikes("publish fails"):
            self.world.step(f"a part of what {one.process} publishes arrives")
            one.fail(self.rng)
        else:
            self.world.step(f"what {one.process} publishes arrives")
            one.arrive()

    def _call(self) -> None:
        world = self.world
        calls = world.open_calls(2 if world.triggered else 1)
        idle = [call for call in calls if not call.flying or self.rng.random() < 0.05]
        for call in self.rng.sample(idle, min(len(idle), self.rng.randint(1, 5))):
            world.call(call)

    def _look(self) -> None:
        fresh = self.world.look()
        self.world.step(f"people look: {fresh} more to do")

    def _tick(self) -> None:
        self.world.tick(self.rng.choice(_TICKS))

    # -- faults ---------------------------------------------------------------------

    def _fault(self, fault: str) -> None:
        living = [process for process in self.world.processes.values() if not process.dead]
        if living:
            process = self.rng.choice(living)
            getattr(self, "_" + fault.replace(" ", "_"))(process)

    def _kill(self, process: Process) -> None:
        self.world.kill(process)

    def _die_at_a_point(self, process: Process) -> None:
        process.crash_at = (self.rng.choice(DEADLY), self.rng.randint(1, 4))
        self.world.step(f"{process.label} will die at {process.crash_at[0]}")

    def _pause(self, process: Process) -> None:
        seconds = self.rng.choice((0.3, 3.0, 12.0, 40.0))
        process.paused_until = self.world.time.seconds + seconds
        self.world.step(f"{process.label} is paused for {seconds:g} s")
        if seconds > 10:
            for consumer in process.consumers.values():
                consumer.evict()

    def _rebalance(self, process: Process) -> None:
        self.world.step(f"the groups of {process.name} are balanced anew")
        for consumer in process.consumers.values():
            consumer.group.balance()

    def _repeat(self, process: Process) -> None:
        # A partition first: what is rare is repeated as often as what there is much of.
        full = [records for _, records in sorted(self.world.log.records.items()) if records]
        # What the machine sees again must meet it in every state: one in three.
        cases = [records for records in full if records[0].topic == CASE_TOPIC]
        if cases and self.rng.random() < 0.33:
            full = cases
        if full:
            record = self.rng.choice(self.rng.choice(full))
            self.world.step(f"{record.topic}/{record.partition}/{record.offset} is there once more")
            self.world.log.repeat(record)

    def _lose_lease(self, process: Process) -> None:
        """Its lease of the relay ends now, and it does not know."""
        database = self.world.databases[process.name]
        for lease in database.all(LEASES.name):
            self.world.step(f"{process.name} loses its lease {lease.id}")
            database.commits += 1
            database.put(LEASES.name, lease.id, 0, None, {})

    # -- to the end -------------------------------------------------------------------

    def _rest(self, phase: int) -> None:
        """Drive the world until there is nothing left to do, or to wait for."""
        idle = 0
        for _ in range(_ROUNDS):
            moved = self._round(phase) or self.world.moves()
            idle = 0 if moved else idle + 1
            if moved:
                continue
            if not self._left(phase):
                return
            due = self.world.next_due()
            wait = 0.05 * 2 ** min(idle, 6)
            if due is not None and idle > 2:
                wait = max(wait, due - self.world.time.seconds + 0.01)
            self.world.tick(wait)
        raise Restless(self._why())

    def _left(self, phase: int) -> bool:
        world = self.world
        calls = bool(world.open_calls(phase))  # what nobody can call yet waits for nothing here
        rows = any(database.open_rows for database in world.databases.values())
        return calls or rows or world.next_due() is not None or world.awaits()

    def _round(self, phase: int) -> bool:
        world = self.world
        self._revive(everything=True)
        for sending in list(world.log.sending):
            sending.arrive()
        moved = False
        for process in list(world.processes.values()):
            moved |= process.loop.busy and bool(world.log.sending or process.loop.next_timer is None)
            with world.acting(process):
                settle(process.loop)
            for runner in process.to_fold():
                process.fold(runner)
                moved = True
        while world.machine_step():
            moved = True
        if phase:
            moved |= bool(world.look())
        for call in world.open_calls(phase):
            if not call.flying:
                moved |= world.call(call)
        return moved or bool(world.log.sending)

    def _why(self) -> str:
        world = self.world
        calls = [i.label for i in world.inputs.values() if i.answer is None]
        rows = {name: len(d.open_rows) for name, d in world.databases.items() if d.open_rows}
        due, moves = world.next_due(), world.moves()
        stuck = [process.label for process in world.processes.values() if not process.turnable]
        return f"calls {calls}, outbox {rows}, next step due {due}, moves {moves}, not turning {stuck}"


__all__ = ["Restless", "Worlds", "undisturbed"]
