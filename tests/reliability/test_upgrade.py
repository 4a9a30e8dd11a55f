"""Every service is restarted from an earlier build to this one and back while inputs come: none is lost.

`make faults T=tests/reliability/test_upgrade.py FROM=ref`; without `FROM` from the newest tag, or from the
commit that `tests.earlier` names. The tests follow each other on one platform.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import pytest

from deploy.local.health import is_serving
from deploy.local.upgrade import ROLES, in_order, that_wait
from pharmaloop.production.v1 import service_pb2 as production
from services.kit.testing.engines import HOST
from tests.earlier import ROOT, WITHOUT_A_TAG, Earlier, earlier, says
from tests.reliability.invariants import Facts, broken
from tests.reliability.observe import Observer
from tests.reliability.specs import SPECS, runners
from tests.reliability.workload import Caller, Case, Patient, furnish
from tests.reliability.world import World, until

pytestmark = [pytest.mark.faults, pytest.mark.timeout(1200)]
#: Production runs as three processes: for a moment two builds of it work on one database.
PARTS = {"production": ROLES}
#: What a client may see beside its answer.
ALLOWED = {"UNAVAILABLE"}
_STOPPED = "upgrade this service first"


class Refused(Patient):
    """A case whose corrective action is refused: events that the earlier build does not know."""

    def _approve(self, caller: Caller, run: str) -> None:
        until("an action is proposed", lambda: self._capa(caller, run), self.patience)
        request = production.RefuseCapaRequest(
            request_id=self._id("refuse"),
            capa=self._capa(caller, run),
            reason="The limit is right: the sensor was not.",
            meaning="I refuse the new limit",
        )
        caller.do(caller.production.RefuseCapa, request)


class Platform:
    """A platform that runs the earlier build, and what it is told."""

    def __init__(self, before: Earlier, folder: Path) -> None:
        self.before = before
        self.world = World(folder / "world", folder / "keys", PARTS, root=before.root)
        self._numbers = count(1)

    def start(self) -> None:
        self.world.start()
        # Who is answered late is not restarted: only a call that nobody takes up may fail.
        self.caller = Caller(self.world, seconds=30)
        self.observer = Observer(self.world)
        furnish(self.caller)

    @property
    def failed(self) -> Counter[tuple[str, str]]:
        """Requests and statuses that came instead of an answer."""
        return self.caller.journal.failed

    def processes(self, service: str) -> list[str]:
        """The processes of a service, in the order in which they change."""
        names = [name for name in self.world.parts if SPECS[name].name == service]
        return [
            self.world.part(name, role)
            for name in names
            for role in sorted(self.world.parts[name], key=(*ROLES, "all").index)
        ]

    def roll(self, services: Iterable[str], root: Path) -> None:
        """Restart the services' processes one by one as another build; each ends as it should."""
        self.world.root = root
        self.world.migrate()
        for service in services:
            for name in self.processes(service):
                assert self.world.move(name, root) == 0, f"{name} did not stop cleanly"

    def play_while(self, work: Callable[[], None]) -> None:
        """Cases, one after the other, until the work is done, and at least one."""
        with ThreadPoolExecutor(1, "work") as beside:
            done = beside.submit(work)
            self.play(Patient)
            while not done.done():
                self.play(Patient)
            done.result()

    def play(self, kind: type[Case]) -> None:
        kind(next(self._numbers)).play(self.caller)

    def judge(self, of: Mapping[str, tuple[str, ...]]) -> None:
        """At rest, by the runners that the build has: every input has its effect once, none is lost."""
        self.world.wait_serving()
        self.observer.runners = of
        self.observer.wait_for_rest(300)
        seen = self.observer.look()
        journal = self.caller.journal
        assert journal.acknowledged
        assert not seen.letters
        facts = Facts(seen.databases, seen.events, seen.ends, self.observer.marks(), journal.acknowledged, of)
        wrong = broken(facts)
        assert not wrong, "\n".join(wrong[:40])
        print(f"{len(journal.acknowledged)} inputs, {journal.calls} calls, not answered: {dict(self.failed)}")
        seen_by_clients = {status for _, status in self.failed}
        assert seen_by_clients <= ALLOWED, self.failed


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    folder = tmp_path_factory.mktemp("upgrade")
    with earlier(folder) as before:
        made = Platform(before, folder)
        try:
            made.start()
            yield made
        finally:
            made.world.stop()


@pytest.fixture(scope="module")
def news(platform: Platform) -> dict[str, set[str]]:
    """Who reads a type of each service's events that the earlier build does not know."""
    today = says(ROOT)
    found: dict[str, set[str]] = {}
    for type_, (topic, owner) in today["types"].items():
        if type_ not in platform.before.says["types"]:
            found.setdefault(owner, set()).update(today["readers"].get(topic, ()))
    return found


def _earlier_runners(platform: Platform) -> dict[str, tuple[str, ...]]:
    return {name: tuple(topics) for name, topics in platform.before.says["runners"].items()}


@pytest.mark.req("M11")
def test_an_upgrade_consumers_first_loses_nothing(platform: Platform, news: dict[str, set[str]]) -> None:
    order = in_order(news)
    assert not that_wait(order, news)
    platform.play_while(lambda: platform.roll(order, ROOT))
    platform.judge(runners())


@pytest.mark.req("M11")
def test_the_way_back_loses_nothing(platform: Platform, news: dict[str, set[str]]) -> None:
    platform.play_while(lambda: platform.roll(reversed(in_order(news)), platform.before.root))
    platform.judge(_earlier_runners(platform))


def test_an_old_build_that_meets_a_newer_event_stops_and_goes_on_when_it_is_upgraded(
    platform: Platform, news: dict[str, set[str]]
) -> None:
    """In the wrong order: the producer first."""
    if "alerting" not in news.get("production", ()):
        told = f"production says nothing new since {platform.before.ref} that alerting reads"
        # Between two versions that may be so, and this cannot happen; of the commit it is known not to be.
        (pytest.fail if platform.before.ref == WITHOUT_A_TAG else pytest.skip)(told)
    log = platform.world.children["alerting"].log
    said_before = log.stat().st_size
    address = f"{HOST}:{platform.world.ports['alerting']}"

    def stopped() -> bool:
        return _STOPPED in log.read_bytes()[said_before:].decode()

    platform.roll(["production"], ROOT)
    with ThreadPoolExecutor(1, "case") as beside:
        case = beside.submit(platform.play, Refused)
        until("the old build says why it stops", stopped, 240)
        until("it is not ready", lambda: not is_serving(address))
        platform.roll([name for name in in_order(news) if name != "production"], ROOT)
        case.result()
    platform.judge(runners())
