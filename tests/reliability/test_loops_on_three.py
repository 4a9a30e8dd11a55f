"""The loops of the platform on three brokers and a replica set of three: one of each is lost while cases run.

All services, the agents of the sites and the evaluator among them. No input is lost, and every loop closes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from services.kit.ids import transfer_case
from tests.reliability.asking import Journal
from tests.reliability.ha.trouble import AT_ONCE, IN_TURN, three, work_on
from tests.reliability.ha.world import ThreeWorld
from tests.reliability.invariants import Facts, broken
from tests.reliability.loops_people import BROTH, PLANT, People, twice_or_never
from tests.reliability.observe import Observer
from tests.reliability.specs import database_of
from tests.reliability.workload import Caller, Patient, furnish
from tests.reliability.world import PART

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1200)]
LOOPS = ("safety", "transfer", "evidence")
#: So many inputs are acknowledged without who is gone: more than one case has, so a case ends meanwhile.
INPUTS = 50
_REST_SECONDS, _CALL_SECONDS = 300.0, 30.0


class TwinAtOnce(ThreeWorld):
    """The plant's twin answers at once: it is not what is on trial."""

    def add(self, service: str, role: str = "all", **more: Any) -> str:
        if service == "production":
            more["module"] = (PART, "plant")
        return super().add(service, role, **more)


@contextmanager
def _explained(observer: Observer) -> Iterator[None]:
    """Who fails inside is told what the platform has left to do."""
    try:
        yield
    except BaseException as error:
        try:
            lines = observer.report()
        except Exception as other:  # noqa: BLE001 -- it only helps to explain another one
            lines = [f"the platform does not answer: {other!r}"]
        error.add_note("\n".join(lines))
        raise


def _judge(world: ThreeWorld, observer: Observer, journal: Journal) -> None:
    """At rest: every input has its effect once, nothing is a dead letter."""
    world.wait_serving()
    observer.wait_for_rest(_REST_SECONDS)
    seen = observer.look()
    assert not seen.letters, seen.letters[-5:]
    assert not seen.bad
    facts = Facts(seen.databases, seen.events, seen.ends, observer.marks(), journal.acknowledged)
    wrong = broken(facts) + twice_or_never(world)
    assert not wrong, "\n".join(wrong[:40])


def _closed_runs(world: ThreeWorld) -> list[str]:
    """Of every run the loop that it is of; none is open."""
    runs = list(world.database[database_of("loops")]["run"].find())
    still_open = [(run["_id"], run["s"]["stage"]) for run in runs if run["s"]["state"] != "closed"]
    assert not still_open, still_open
    return [run["s"]["loop"] for run in runs]


@pytest.mark.req("M9")
def test_the_loops_close_while_a_broker_and_the_primary_are_lost(tmp_path: Path) -> None:
    """Each case has a run of the safety, the transfer and the evidence loop; all three are open at once."""
    with three(tmp_path, kind=TwinAtOnce) as world:
        observer, caller = Observer(world), Caller(world, seconds=_CALL_SECONDS)
        people = People(world, caller.journal, seconds=_CALL_SECONDS, patience=Patient.patience)

        def play(number: int) -> None:
            set = f"PS-{number}"
            people.release(set)
            Patient(number).play(caller)
            people.sign(set)
            people.closed(transfer_case(set, PLANT))

        with _explained(observer):
            furnish(caller)
            people.furnish([BROTH])
            cases = work_on(world, caller.journal, play, (*IN_TURN, *AT_ONCE), INPUTS)
            _judge(world, observer, caller.journal)
            assert Counter(_closed_runs(world)) == dict.fromkeys(LOOPS, cases)
        people.close()
        caller.close()
