"""The loops of the platform on three brokers and a replica set of three: one of each is lost while cases run.

All services, the agents of the sites and the evaluator among them. No input is lost, and every loop closes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.reliability.ha.trouble import IN_TURN, three, work_on
from tests.reliability.ha.world import ThreeWorld
from tests.reliability.invariants import Facts, broken
from tests.reliability.observe import Observer, Seen
from tests.reliability.specs import database_of
from tests.reliability.workload import Caller, Journal, Patient, furnish

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1200)]
_REST_SECONDS, _CALL_SECONDS = 300.0, 30.0


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


def _judge(world: ThreeWorld, observer: Observer, journal: Journal) -> Seen:
    """At rest: every input has its effect once, nothing is a dead letter."""
    world.wait_serving()
    observer.wait_for_rest(_REST_SECONDS)
    seen = observer.look()
    assert not seen.letters, seen.letters[-5:]
    assert not seen.bad
    facts = Facts(seen.databases, seen.events, seen.ends, observer.marks(), journal.acknowledged)
    wrong = broken(facts)
    assert not wrong, "\n".join(wrong[:40])
    return seen


def _closed_runs(world: ThreeWorld) -> list[str]:
    """The runs of all loops; none is open."""
    runs = list(world.database[database_of("loops")]["run"].find())
    still_open = [(run["_id"], run["s"]["stage"]) for run in runs if run["s"]["state"] != "closed"]
    assert not still_open, still_open
    return [run["_id"] for run in runs]


def test_the_loops_close_while_a_broker_and_the_primary_are_lost(tmp_path: Path) -> None:
    """Of safety and evidence: each case has a run of either."""
    with three(tmp_path) as world:
        observer, caller = Observer(world), Caller(world, seconds=_CALL_SECONDS)
        with _explained(observer):
            furnish(caller)
            cases = work_on(world, caller.journal, lambda n: Patient(n).play(caller), IN_TURN)
            _judge(world, observer, caller.journal)
            assert len(_closed_runs(world)) >= 2 * cases
        caller.close()
