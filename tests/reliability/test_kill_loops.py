"""A service of the transfer or the evidence loop dies in the middle: its loop closes, with each effect once.

On real engines, with real processes that die by SIGKILL; the rules that the
topics are held to afterwards are those of the simulated worlds.
"""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from pharmaloop.loops.v1 import events_pb2 as loops
from services.kit.ids import study_case, transfer_case
from services.kit.points import VARIABLE
from tests.reliability.dying_twin import TWIN
from tests.reliability.loops_people import PLANT, People, start, twice_or_never
from tests.reliability.part_child import FIT, ROUND
from tests.reliability.specs import database_of
from tests.reliability.world import World, until
from tests.unit.exchange.hospitals import SITES

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]
#: Who dies at which point, while a set is on its way to the plant, and while its lot is made and tested.
RELEASED = {"production": "step.ran", "rnd": "relay.published", "loops": "loop.sent"}
TESTED = {"production": "batch.written", "rnd": "batch.committed"}
#: Who dies while a study is answered: an agent in the second round of the first job, the coordinator in
#: that of the next.
ANSWERED = {"agent.hospital-c": (ROUND, "2"), "exchange": (ROUND, "2")}
#: Who dies while the contributions to a study are valued, in a round of a coalition's fit, and why they are
#: then not valued; an evaluator that comes back asks again.
VALUED = {
    "evaluator": {""},
    "agent.hospital-b": {"SITE_RESTARTED", "SITE_DROPPED"},
    "exchange": {"COORDINATOR_RESTARTED"},
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = start(tmp_path_factory.mktemp("loops"), {name: {VARIABLE: at} for name, at in RELEASED.items()})
    yield made
    made.stop()


@pytest.fixture(scope="module")
def people(world: World) -> Iterator[People]:
    made = People(world)
    made.furnish()
    yield made
    made.close()


def _arm(world: World, name: str, once: tuple[str, str]) -> None:
    variable, value = once
    world.again(name, once={variable: value})
    world.deaths = [death for death in world.deaths if death.name != name]


def _died(world: World, names: Iterable[str]) -> None:
    """Everybody died where they were to die."""
    killed = {death.name for death in world.deaths if death.code == -signal.SIGKILL}
    assert killed >= set(names), "not everybody died where it was to die"


def _each_effect_once(world: World) -> None:
    until("everything is published", lambda: not any(_waiting(world, name) for name in world.parts))
    wrong = twice_or_never(world)
    assert not wrong, "\n".join(wrong)


def _waiting(world: World, service: str) -> int:
    """Events in the outbox: the lease of a relay that died has to run out."""
    return world.database[database_of(service)]["_outbox"].count_documents({"open": True})


def test_a_transfer_closes_whoever_dies(world: World, people: People) -> None:
    people.release("PS-1")
    people.proposed("PS-1")
    _died(world, RELEASED)
    for name, point in TESTED.items():
        _arm(world, name, (VARIABLE, point))
    world.wait_serving()
    people.sign("PS-1")
    assert people.closed(transfer_case("PS-1", PLANT)).outcome == loops.RUN_OUTCOME_CLOSED
    _died(world, TESTED)
    _each_effect_once(world)


def test_a_transfer_closes_though_the_twin_dies_at_its_work(
    world: World, people: People, tmp_path: Path
) -> None:
    died = tmp_path / "the twin died"
    world.again("production", once={TWIN: str(died)})
    world.wait_serving()
    people.release("PS-2")
    people.sign("PS-2")
    assert died.exists(), "the twin did not die"
    assert people.closed(transfer_case("PS-2", PLANT)).outcome == loops.RUN_OUTCOME_CLOSED
    _each_effect_once(world)


def test_a_study_is_answered_once_whoever_dies(world: World, people: People) -> None:
    for name, once in ANSWERED.items():
        _arm(world, name, once)
    world.wait_serving()
    people.study("study-1")
    closed = people.closed(study_case("study-1"))
    assert closed.outcome == loops.RUN_OUTCOME_CLOSED
    assert closed.insight
    _died(world, ANSWERED)
    _each_effect_once(world)


@pytest.mark.parametrize("victim", VALUED)
def test_contributions_are_metered_once_whoever_dies_while_they_are_valued(
    world: World, people: People, victim: str
) -> None:
    _arm(world, victim, (FIT, "2"))
    world.wait_serving()
    study = f"study-without-{victim}"
    people.study(study, valued=True)
    assert people.closed(study_case(study)).outcome == loops.RUN_OUTCOME_CLOSED
    metered = people.metered(study)
    assert sorted(one.site for one in metered) == sorted(SITES)
    assert {one.not_valued for one in metered} <= VALUED[victim]
    _died(world, {victim: ""})
    _each_effect_once(world)


def test_a_study_that_an_owner_never_answers_expires_once_though_the_exchange_dies(
    world: World, people: People
) -> None:
    _arm(world, "exchange", (VARIABLE, "step.ran"))
    world.wait_serving()
    people.study("study-without-answer", SITES[:2], seconds=20)
    closed = people.closed(study_case("study-without-answer"))
    assert (closed.outcome, closed.insight) == (loops.RUN_OUTCOME_EXPIRED, "")
    _died(world, {"exchange": ""})
    _each_effect_once(world)
