"""Three brokers and a replica set of three: one of each is lost while a service works; no input is lost."""

from __future__ import annotations

from pathlib import Path

import grpc
import pytest

from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.production.v1 import service_pb2 as production
from pharmaloop.production.v1 import service_pb2_grpc as production_grpc
from tests.reliability import invariants
from tests.reliability.asking import Journal
from tests.reliability.ha.trouble import AT_ONCE, IN_TURN, three, work_on
from tests.reliability.ha.world import ThreeWorld
from tests.reliability.invariants import Facts
from tests.reliability.observe import Observer
from tests.reliability.workload import DRYER, UNITS, Caller, Case
from tests.reliability.world import until

pytestmark = pytest.mark.faults
_REST_SECONDS = 180.0


class Plant(Caller):
    """Calls production, which is all there is."""

    def __init__(self, world: ThreeWorld) -> None:
        self.world, self.journal, self.times, self.seconds = world, Journal(), 1, 5.0
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


@pytest.mark.req("M9")
@pytest.mark.timeout(600)
def test_a_service_works_on_while_a_broker_and_the_primary_are_lost(tmp_path: Path) -> None:
    with three(tmp_path, ["production"]) as world:
        plant, observer = Plant(world), Observer(world)
        plant.register()
        work_on(world, plant.journal, lambda number: Case(number)._good_lots(plant), (*IN_TURN, *AT_ONCE))

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
