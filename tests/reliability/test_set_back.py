"""The databases of a working platform are set back while its log goes on, and it comes to where it had been.

One platform plays cases. At moments on the way all databases are copied, as a point-in-time restore
gives them back: a recall has just been opened, walks, seals; a study computes. When the platform has
come to rest its processes are killed, the databases are put back, and it begins again, once for each moment.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests import snapshots
from tests.reliability.invariants import Facts, broken
from tests.reliability.observe import Observer, Seen, same
from tests.reliability.test_backup_platform import but_alerts, running
from tests.reliability.workload import Caller, Case, furnish
from tests.reliability.world import World, until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(900)]

#: What databases hold: documents by database and collection.
Copy = dict[str, snapshots.Dump]
#: Wall seconds between two copies, and how many are put back at the most, the latest first.
_EVERY_SECONDS, _MOST = 1.0, 4
_REST_SECONDS = 180.0


def _is_set_back(database: str) -> bool:
    """An agent's database is its site's own, and what it knows of sums that were opened must not be lost."""
    return database.startswith("pharmaloop_") and not database.startswith("pharmaloop_agent_")


def copied(world: World) -> Copy:
    """All databases of the platform, at one moment."""
    return snapshots.copied(world.database, filter(_is_set_back, world.database.list_database_names()))


def put_back(world: World, copy: Copy) -> None:
    """Kill every process of a service, put the databases back, and start them again."""
    children = [world.children[name] for name in world.names]
    with world._lock:
        for child in children:
            child.wanted = False
            world.kill(child.name)
            assert child.process is not None
            child.process.wait(20)
    client = world.database
    for name in filter(_is_set_back, client.list_database_names()):
        snapshots.put_back(client, name, copy.get(name, {}))
    with world._lock:
        for child in children:
            child.wanted = True
    until("the processes are started", lambda: all(child.is_alive for child in children))
    world.wait_serving()


def at_rest_and_right(observer: Observer) -> Seen:
    """Everything at rest, every version said once, no dead letter."""
    observer.wait_for_rest(_REST_SECONDS)
    seen = observer.look()
    told = [{name: value for name, value in one.headers if name.startswith("dlq_")} for one in seen.letters]
    assert not told, told
    # Stored answers are not those of all inputs: what was asked after the moment is decided again.
    wrong = broken(Facts(seen.databases, seen.events, seen.ends, observer.marks(), []))
    assert not wrong, "\n".join(wrong[:40])
    return seen


def comparable(seen: Seen) -> Seen:
    """Without the alerts; and where a journal shows a dispense the site may have told the trace, or not."""
    for doc in seen.databases["clinical"].get("dispense", []):
        if doc["s"]["members"]:
            doc["s"]["reported"] = True
    return but_alerts(seen)


def in_flight(copy: Copy) -> str:
    """What a copy has on its way: phases of recalls, states of studies."""
    runs = [doc["s"] for doc in copy.get("pharmaloop_traceability", {}).get("exposure_run", [])]
    studies = [doc["s"]["state"] for doc in copy.get("pharmaloop_exchange", {}).get("study", [])]
    sealed = [f"sealed={run['sealed']} passed={run['passed']} asked={run['asked']}" for run in runs]
    return f"recalls {sealed}, studies {studies}"


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with running(World(tmp_path / "world", tmp_path / "keys")) as made:
        yield made


@pytest.mark.req("M9")
def test_a_platform_whose_databases_were_set_back_comes_to_where_it_had_been(world: World) -> None:
    caller = Caller(world)
    furnish(caller)
    Case(1).play(caller)
    copies = []
    with ThreadPoolExecutor(1, "cases") as beside:
        playing = beside.submit(Case(2).play, caller)
        while not playing.done():
            copies.append(copied(world))
            time.sleep(_EVERY_SECONDS)
        playing.result()
    observer = Observer(world)
    course = at_rest_and_right(observer)
    shown = {in_flight(copy): copy for copy in copies}
    print(f"{len(copies)} copies, {len(shown)} of them with something else in flight")
    assert len(shown) > 1, "the copies are all of one moment"
    for told, copy in list(shown.items())[-_MOST:]:
        print("set back to:", told)
        put_back(world, copy)
        same(comparable(course), comparable(at_rest_and_right(observer)))
    again = Case(3)
    again.play(caller)
    at_rest_and_right(observer)
    caller.close()
