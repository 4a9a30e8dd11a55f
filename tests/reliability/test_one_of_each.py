"""Three brokers and a replica set of three: one of each is lost while a service works; no input is lost."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from confluent_kafka.admin import ConfigResource, ResourceType

from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.production.v1 import service_pb2 as production
from pharmaloop.production.v1 import service_pb2_grpc as production_grpc
from services.kit.contracts import contract
from tests.reliability import invariants
from tests.reliability.ha.engines import COPIES, IN_STEP
from tests.reliability.ha.world import ThreeWorld
from tests.reliability.invariants import Facts
from tests.reliability.observe import Observer
from tests.reliability.specs import SITE
from tests.reliability.workload import DRYER, UNITS, Caller, Case, Journal
from tests.reliability.world import until

pytestmark = pytest.mark.faults

Loss = Mapping[str, bool]
IN_TURN: tuple[Loss, ...] = ({"broker": True}, {"primary": True})
AT_ONCE: tuple[Loss, ...] = ({"broker": True, "primary": True},)
#: So many inputs are acknowledged while it is gone and replaced, before it comes back.
INPUTS = 5
_REPLACED_SECONDS, _INPUT_SECONDS, _BACK_SECONDS, _REST_SECONDS = 90.0, 180.0, 150.0, 180.0


@dataclass(frozen=True)
class Absence:
    """Engines were gone: after so many seconds others stood in, and so many inputs were acknowledged then."""

    names: tuple[str, ...]
    seconds: float
    acknowledged: int

    def __str__(self) -> str:
        who = " and ".join(self.names)
        return f"{who}: replaced after {self.seconds:.1f} s, {self.acknowledged} inputs without"


class Trouble:
    """Kills engines with SIGKILL while a caller works; they come back when enough was done without."""

    def __init__(self, world: ThreeWorld, caller: Caller, losses: Iterable[Loss]) -> None:
        self.world = world
        self._losses = losses
        self._told = caller.journal.acknowledged
        self.absences: list[Absence] = []

    def run(self) -> None:
        """Who is gone is back, and has caught up, before the next goes."""
        for which in self._losses:
            self._absent(**which)

    def _absent(self, *, broker: bool = False, primary: bool = False) -> None:
        """The broker that leads most partitions, or the primary, or both at once."""
        world, replaced = self.world, list[Callable[[], object]]()
        names = []
        if broker:
            leader = world.brokers.first()
            names.append(leader.name)
            replaced.append(lambda: world.brokers.replaced(leader))
        if primary:
            first = world.members.primary()
            assert first is not None
            names.append(first.name)
            replaced.append(world.members.primary)
        began = time.monotonic()
        for name in names:
            world.lose(name)
        until(f"others stand in for {names}", lambda: all(one() for one in replaced), _REPLACED_SECONDS)
        took, before = time.monotonic() - began, len(self._told)
        until(
            f"inputs are acknowledged without {names}",
            lambda: len(self._told) >= before + INPUTS,
            _INPUT_SECONDS,
        )
        assert not any(world.children[name].is_alive for name in names)
        self.absences.append(Absence(tuple(names), took, len(self._told) - before))
        for name in names:
            world.bring_back(name)
        until("every partition has its copies again", world.brokers.in_step, _BACK_SECONDS)
        until("the set is whole again", world.members.whole, _BACK_SECONDS)


@contextmanager
def three(folder: Path, services: Iterable[str]) -> Iterator[ThreeWorld]:
    world = ThreeWorld(folder / "world", folder / "keys", services)
    try:
        world.start()
        _is_safe(world)
        yield world
    except BaseException as error:
        deaths = "\n".join(str(death) for death in world.deaths[-12:])
        error.add_note("\n".join([deaths, *world.complaints()]))
        raise
    finally:
        world.stop()


def _is_safe(world: ThreeWorld) -> None:
    """Every topic of the platform stands on three brokers and acknowledges what two of them have."""
    names = [name for name, _ in contract().names((SITE,))]
    copies = world.brokers.copies()
    assert {name: copies[name] for name in names} == dict.fromkeys(names, COPIES)
    asked = [ConfigResource(ResourceType.TOPIC, name) for name in names]
    answers = world.brokers.admin.describe_configs(asked, request_timeout=10)
    in_step = {one.name: future.result()["min.insync.replicas"].value for one, future in answers.items()}
    assert in_step == dict.fromkeys(names, str(IN_STEP))


def work_on(world: ThreeWorld, caller: Caller, play: Callable[[int], None], losses: Iterable[Loss]) -> int:
    """Cases, one after the other, until the trouble is over; answers how many. Only the engines died."""
    trouble, cases = Trouble(world, caller, losses), 0
    with ThreadPoolExecutor(1, "trouble") as beside:
        over = beside.submit(trouble.run)
        while not (cases and over.done()):
            cases += 1
            play(cases)
    print(f"{cases} cases, {caller.journal.calls} calls, {len(caller.journal.acknowledged)} acknowledged")
    print(*trouble.absences, sep="\n")
    over.result()
    killed = [name for absence in trouble.absences for name in absence.names]
    assert sorted(death.name for death in world.deaths) == sorted(killed)
    world.wait_serving()
    return cases


class Plant(Caller):
    """Calls production, which is all there is."""

    def __init__(self, world: ThreeWorld) -> None:
        self.world, self.journal, self.times = world, Journal(), 1
        self._channels = {"production": grpc.insecure_channel(world.address("production"))}
        self.production = production_grpc.ProductionServiceStub(self._channels["production"])

    def register(self) -> None:
        """The dryer in which lots are started."""
        tags = [events.Tag(name=name, unit=unit) for name, unit in UNITS.items()]
        request = production.RegisterEquipmentRequest(
            request_id="equipment", equipment=DRYER, plant="plant-1", tags=tags
        )
        self.do(self.production.RegisterEquipment, request, [("production", "equipment", DRYER)])


#: The rules that look at one service alone.
_OWN_RULES = (
    invariants.acknowledged_have_effect,
    invariants.numbers_are_whole,
    invariants.numbers_are_unique,
    invariants.order_is_kept,
    invariants.versions_match,
    invariants.outbox_is_empty,
    invariants.positions_are_true,
)


@pytest.mark.timeout(600)
def test_a_service_works_on_while_a_broker_and_the_primary_are_lost(tmp_path: Path) -> None:
    with three(tmp_path, ["production"]) as world:
        plant, observer = Plant(world), Observer(world)
        plant.register()
        work_on(world, plant, lambda number: Case(number)._good_lots(plant), (*IN_TURN, *AT_ONCE))

        def rests() -> bool:
            left = observer.behind(observer._ends())
            return not [what for what in left if what.startswith("production")]

        until("production comes to rest", rests, _REST_SECONDS)
        seen = observer.look()
        assert not seen.letters
        facts = Facts(seen.databases, seen.events, seen.ends, observer.marks(), plant.journal.acknowledged)
        wrong = [sentence for rule in _OWN_RULES for sentence in rule(facts)]
        assert not wrong, "\n".join(wrong[:40])
        plant.close()
