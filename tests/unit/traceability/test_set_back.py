"""A database that is set back while the log goes on: runs come to the end that the facts determine.

Whatever the topics say of a run stands; nothing of it is said anew, and whoever
was found after the moment that the database is set back to is found again.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import combinations_with_replacement
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pharmaloop.traceability.v1 import events_pb2 as events
from pharmaloop.traceability.v1.service_pb2 import ExplainUnattributedRequest
from services.traceability.domain import digest
from services.traceability.views import ENTRIES, EXPOSURES, LOOSE, NODES, RUNS
from tests.unit.traceability.driver import (
    Entered,
    Service,
    Told,
    asked,
    back,
    dispense,
    lot,
    material,
    opened,
    registered,
)
from tests.unit.traceability.test_order import ROOTS, Player, Story, check_root, check_seals, stories

A, B = "hospital-a", "hospital-b"
RUN = "r"


def said(service: Service) -> list[tuple[int, str]]:
    return [(told.seq, type(told.message).__name__) for told in service.told(RUN)]


def explain(service: Service, dispense: str) -> None:
    request = ExplainUnattributedRequest(run=RUN, dispense=dispense, reason="no name", meaning="I looked")
    service.do("ExplainUnattributed", request)


def course(service: Service) -> Iterable[str]:
    """A recall, stage by stage: lots and members, what joins, who is not named, its seal, who is late."""
    for message in (registered(A), registered(B), material("bulk", "raw"), material("pack", "bulk")):
        service.publish(message)
    for record in (dispense("d1", "pack", A, "P1"), dispense("d2", "bulk", B, "P2")):
        service.publish(record)
    service.settle()
    yield "nothing opened"
    service.publish(opened(RUN, "raw"))
    service.fold_all()
    yield "watched"
    service.settle()
    yield "walked"
    service.publish(material("pack2", "bulk"))
    service.publish(dispense("d3", "pack2", A, "P3"))
    service.settle()
    yield "grown"
    service.publish(back("d1", "pack"))
    service.publish(dispense("d4", "pack"))
    service.settle()
    yield "one not named"
    explain(service, "d4")
    service.settle()
    yield "explained"
    service.publish(asked(RUN, service.announced(RUN)[-1].version))
    service.settle()
    assert service.state(RUNS, RUN).sealed
    yield "sealed"
    service.publish(back("d2", "bulk"))
    service.publish(dispense("d5", "pack2", B, "P5"))
    service.settle()
    yield "late"


STAGES = ["nothing opened", "watched", "walked", "grown", "one not named", "explained", "sealed", "late"]


def held(service: Service) -> Any:
    """What the service holds of the run, without what only its rounds number."""
    run = service.state(RUNS, RUN)
    nodes = {id: (node.watches, node.outputs) for id, node in service.states(NODES).items()}
    watches = {(watch.lot, watch.depth) for watch in run.watches}
    entries = service.states(ENTRIES)
    return entries, nodes, watches, run.phase, run.case, run.follows, service.state(EXPOSURES, RUN)


@pytest.mark.parametrize(("to", "until"), list(combinations_with_replacement(STAGES, 2)))
def test_a_run_is_what_it_was_before_its_database_was_set_back(service: Service, to: str, until: str) -> None:
    copy = None
    for stage in course(service):
        copy = service.saved() if stage == to else copy
        service.relay()
        if stage == until:
            break
    before = said(service)
    had = held(service) if service.announced(RUN) else None
    service.set_back(copy)
    service.settle()
    if had is not None:
        assert said(service) == before
        assert held(service) == had
    if until == "nothing opened":
        service.publish(opened(RUN, "raw"))
    service.settle()
    # And it goes on: everything that is new has its effect, once.
    if not service.state(RUNS, RUN).sealed:
        for id in [e.dispense for e in service.states(ENTRIES).values() if e.open and not e.explained]:
            explain(service, id)
        service.publish(asked(RUN, service.announced(RUN)[-1].version))
        service.settle()
        assert service.state(RUNS, RUN).sealed
    service.publish(dispense("d9", "pack", A, "P9"))
    service.settle()
    assert [type(t.message) for t in service.told(RUN)].count(events.ExposureAfterSeal) == 1
    check(service, RUN)


def check(service: Service, run: str) -> None:
    """Versions count up, and what each site heard adds up to what was announced last."""
    told = service.told(run)
    assert [t.seq for t in told] == list(range(1, len(told) + 1)), "two events of one version"
    heard: dict[str, set[tuple[str, str, str, str]]] = {}
    for m in service.entered(run):
        if m.epoch:
            heard.setdefault(m.site, set()).add((m.pseudonym, m.lot, m.dispense, m.kind))
    for site, at in service.announced(run)[-1].sites.items():
        key, mine = service.outside.key(run, site), heard.get(site, set())
        terms = [digest.term(key, site, *one) for one in mine]
        assert at.digest.hex() == digest.added(digest.ZERO, terms)
        assert at.n == sum(kind == "MEMBER" for *_, kind in mine)


def test_a_seal_that_was_refused_is_not_refused_once_more(service: Service) -> None:
    stages = iter(course(service))
    while next(stages) != "walked":
        pass
    service.relay()
    copy = service.saved()
    before = service.announced(RUN)[-1].version
    service.publish(dispense("d8", "pack", A, "P8"))
    service.publish(asked(RUN, before))
    service.settle()
    assert isinstance(service.told(RUN)[-1].message, events.ExposureExtended)
    service.relay()
    told = said(service)
    service.set_back(copy)
    service.settle()
    assert said(service) == told
    service.publish(asked(RUN, before + 1))
    service.settle()
    assert service.state(RUNS, RUN).sealed


def test_what_was_lost_of_a_late_patient_names_the_successor(service: Service) -> None:
    """Folded after the moment, decided and not published: nobody else knows of it any more."""
    for stage in course(service):
        if stage == "sealed":
            break
    service.relay()
    copy = service.saved()
    service.publish(dispense("d9", "pack", A, "P9"))
    service.settle()
    assert isinstance(service.told(RUN)[-1].message, events.ExposureAfterSeal)
    service.set_back(copy)
    service.settle()
    assert isinstance(service.told(RUN)[-1].message, events.ExposureAfterSeal)


def test_a_late_patient_of_a_run_whose_seal_the_database_lacks_names_the_successor(service: Service) -> None:
    copy = None
    for stage in course(service):
        copy = service.saved() if stage == "walked" else copy
        if stage == "sealed":
            break
    service.relay()
    service.publish(dispense("d9", "pack", A, "P9"))  # in the log when the database is lost
    service.set_back(copy)
    service.settle()
    last = service.told(RUN)[-1].message
    assert isinstance(last, events.ExposureAfterSeal)
    service.publish(opened(last.successor, "raw", follows=RUN))
    service.settle()
    assert set(service.members(last.successor)) == {"d9"}


# -- a transaction that was not published whole -------------------------------------------


@pytest.mark.parametrize("published", range(9))
def test_what_was_published_of_a_transaction_is_announced_all_the_same(
    service: Service, published: int
) -> None:
    stages = iter(course(service))
    while next(stages) != "watched":
        pass
    service.relay()
    copy = service.saved()
    assert next(stages) == "walked"
    assert len(service.told(RUN)) == 8, "one commit: openings, lots, entries, an announcement"
    service.relay(published)
    service.set_back(copy)
    service.settle()
    for _ in stages:  # what follows is one long course
        service.relay()
    assert service.states(LOOSE) == {}
    assert {announced.root for announced in service.announced(RUN)} == {lot("raw")}
    assert {d for d, m in members(service).items()} == {"d1", "d2", "d3"}
    assert [d.disposition for d in distinct(service) if d.number == 1] == ["RETURNED_UNOPENED"] * 2
    check(service, RUN)


def distinct(service: Service) -> list[Entered]:
    """Entries as a site holds them: what is said twice is one."""
    return list({(m.site, m.pseudonym, m.lot, m.dispense, m.kind): m for m in service.entered(RUN)}.values())


def members(service: Service) -> dict[str, Entered]:
    return {m.dispense: m for m in distinct(service) if m.kind == "MEMBER"}


# -- any course ---------------------------------------------------------------------------


class SetBack(Service):
    """Of what was said, entries that a lost transaction said and nobody announced are said once more."""

    def __init__(self) -> None:
        super().__init__()
        self._torn: set[tuple[str, int]] = set()

    def set_back(self, copy: Any) -> None:
        gone = {row.id for row in self.database.outbox.values()} - self._said.keys()
        for id in gone:
            del self.database.outbox[id]
        for told in self.told():
            announced = [t.seq for t in self.told(told.run) if isinstance(t.message, _COUNTS)]
            if told.seq > max(announced, default=0):
                self._torn.add((told.run, told.seq))
        super().set_back(copy)

    def told(self, run: str = "") -> list[Told]:
        return [t for t in super().told(run) if (t.run, t.seq) not in self._torn or not _is_entries(t)]


_COUNTS = (events.ExposureAnnounced, events.ExposureSealed)


def _is_entries(told: Told) -> bool:
    return isinstance(told.message, events.ExposureEntriesJoined) and told.message.epoch > 0


class Unlucky(Player):
    """Plays a story while its database is set back now and then. The loops hear what is published, and ask
    for the seal of a run when everybody in it is named or explained."""

    def __init__(self, service: SetBack, story: Story) -> None:
        super().__init__(service, story)
        self._copies = [service.saved()]
        self._acts |= {
            "save": lambda n: self._copies.append(service.saved()),
            "relay": lambda n: service.relay(1 + n),
            "set back": self._set_back,
        }

    def _set_back(self, number: int) -> None:
        self.service.during, self.service.store.interrupt = {}, None
        # A later copy is of a course that is given up: what it had said and not published is said otherwise.
        del self._copies[len(self._copies) - number % min(2, len(self._copies)) :]
        self.service.set_back(self._copies[-1])
        # Their cut is not that of their seal, which was looked at when it was said.
        self.beside = {run for run, head in self.service.states(EXPOSURES).items() if head.sealed}

    def finish(self) -> None:
        super().finish()
        self._set_back(0)
        super().finish()

    def _open_successors(self) -> bool:
        self.service.relay()
        return super()._open_successors()

    def _ask(self, number: int) -> None:
        self.service.relay()
        runs = [run for run in sorted(self.service.states(RUNS)) if self._all_named(run)]
        if runs:
            name = runs[number % len(runs)]
            self.service.publish(asked(name, self.service.announced(name)[-1].version))

    def _all_named(self, run: str) -> bool:
        announced = self.service.announced(run)
        return bool(announced) and not announced[-1].unattributed

    def _seal_all(self) -> int:
        self._settle()
        while [e for e in self.service.states(ENTRIES).values() if self._is_to_explain(e)]:
            self._explain(0)
            self._settle()
        self.service.relay()
        runs = [run for run in self.service.states(RUNS) if not self.service.state(RUNS, run).sealed]
        for run in runs:
            if self._all_named(run):
                self.service.publish(asked(run, self.service.announced(run)[-1].version))
        self._settle()
        return len(runs)

    def _explain(self, number: int) -> None:
        if not self.service.recovering:  # commands are taken afterwards
            super()._explain(number)

    def _is_to_explain(self, entry: Any) -> bool:
        return entry.open and not entry.explained and not self.service.state(RUNS, entry.run).over


_MORE = ["save", "save", "relay", "relay", "set back"]
#: Where in a story what more happens: (place, what, a number).
_HAPPENINGS = st.lists(st.tuples(st.integers(0, 60), st.sampled_from(_MORE), st.integers(0, 7)), max_size=20)


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(
    stories(), st.lists(st.tuples(st.integers(0, 60), st.sampled_from(_MORE), st.integers(0, 7)), max_size=20)
)
def test_any_course_ends_with_what_the_facts_determine(
    story: Story, more: list[tuple[int, str, int]]
) -> None:
    actions = list(story.actions)
    for place, name, number in more:
        actions.insert(place, (name, number))
    service = SetBack()
    try:
        player = Unlucky(service, story)
        player.play(actions)
        player.finish()
        check_seals(service, player.beside)
        for root in ROOTS:
            check_root(service, lot(root))
    finally:
        service.close()
