"""One cause acts once on an aggregate, however often it is delivered; no version is without its event."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pharmaloop.production.v1 import events_pb2 as production
from pharmaloop.rnd.v1 import events_pb2 as rnd
from services.kit.envelope import Event
from services.kit.runners.reactor import Events, Reactor
from services.kit.work import Work
from tests.unit.kit.support import LOT, NOTE, Bench, Note, lot_event

A, B = "m/item/G/a", "m/item/G/b"


def act(work: Work, event: Event) -> None:
    """What happens to a lot depends on nothing but the cause: a reactor that trusts its inbox."""
    for target in event.case.split(","):
        for _ in range(2 if event.run == "twice" else 1):
            work.apply(LOT, target, rnd.InsightRecorded(insight=event.id))


EVENTS: Events = {production.LotStarted: act}


@pytest.fixture
def bench() -> Bench:
    return Bench()


def fact(id: str, *targets: str, run: str = "") -> Event:
    return lot_event(A, None, id=id, case=",".join(targets or (A,)), run=run)


def versions_told(bench: Bench) -> dict[str, list[int]]:
    """The versions that events in the outbox tell of, by aggregate."""
    told: dict[str, list[int]] = {}
    events = [row for row in bench.database.outbox.values() if row.aggregate.startswith("lot/")]
    for row in events:
        told.setdefault(row.aggregate.removeprefix("lot/"), []).append(row.seq)
    return {target: sorted(versions) for target, versions in told.items()}


def check_versions(bench: Bench) -> None:
    """Every committed version has exactly one event."""
    expected = {target: list(range(1, version + 1)) for target, version in bench.versions(LOT).items()}
    assert versions_told(bench) == expected


def test_a_fact_that_makes_an_aggregate_acts_once(bench: Bench) -> None:
    turner = bench.turner(EVENTS)
    for _ in range(3):
        bench.send(fact("f"))
        turner.turn()
    assert bench.versions(LOT) == {A: 1}
    check_versions(bench)


def test_a_fact_twice_in_one_batch_acts_once(bench: Bench) -> None:
    bench.send(fact("f"), fact("f"), fact("g"), fact("f"))
    bench.turner(EVENTS).turn()
    assert bench.versions(LOT) == {A: 2}
    check_versions(bench)


def test_a_fact_acts_once_on_an_aggregate_that_is_there(bench: Bench) -> None:
    bench.send(fact("first"))
    bench.turner(EVENTS).turn()
    bench.send(fact("f"), fact("f"))
    bench.turner(EVENTS).turn()
    bench.send(fact("f"))
    bench.turner(EVENTS).turn()
    assert bench.versions(LOT) == {A: 2}
    check_versions(bench)


def test_a_fact_may_act_on_many_and_several_times_on_each(bench: Bench) -> None:
    bench.send(fact("f", A, B, run="twice"), fact("f", A, B, run="twice"))
    bench.turner(EVENTS).turn()
    assert bench.versions(LOT) == {A: 2, B: 2}
    check_versions(bench)


def test_a_fact_that_comes_again_may_act_where_it_has_not(bench: Bench) -> None:
    # Between the deliveries a state that decides about the targets has changed.
    turner = bench.turner(EVENTS)
    bench.send(fact("f", A))
    turner.turn()
    bench.send(fact("f", A, B))
    turner.turn()
    assert bench.versions(LOT) == {A: 1, B: 1}
    check_versions(bench)


def test_a_fact_whose_handler_failed_has_not_acted(bench: Bench) -> None:
    broken = True

    def shaky(work: Work, event: Event) -> None:
        act(work, event)
        if broken:
            raise KeyError("a bug")

    bench.send(fact("f"))
    bench.turner({production.LotStarted: shaky}).turn()
    broken = False
    bench.send(fact("f"), fact("f"))
    bench.turner({production.LotStarted: shaky}).turn()
    assert bench.versions(LOT) == {A: 1}
    check_versions(bench)


def test_each_fact_acts_for_itself(bench: Bench) -> None:
    bench.send(fact("f"), fact("g"), fact("h"))
    bench.turner(EVENTS).turn()
    assert bench.versions(LOT) == {A: 3}
    check_versions(bench)


def test_a_rebuild_neither_acts_nor_emits(bench: Bench) -> None:
    def also_noted(work: Work, event: Event) -> None:
        act(work, event)
        lot = work.get(LOT, A)
        work.put(NOTE, event.id, Note(str(len(lot.happened)) if lot else "none"))

    reactor = Reactor("test", {production.LotStarted: also_noted}, views=(NOTE,))
    bench.send(fact("f"), fact("g"), lot_event(B, 1, case=B))
    bench.making(reactor).turn()
    lots, sent = bench.states(LOT), sorted(bench.database.outbox)
    bench.making(reactor, 2, follows=1).turn()
    assert bench.states(LOT) == lots
    assert sorted(bench.database.outbox) == sent
    assert set(bench.states(NOTE.pinned(2))) == set(bench.states(NOTE)) == {"f", "g", f"{B}-1"}
    # And the live one knows still what has acted.
    bench.send(fact("f"), fact("g"))
    bench.making(reactor).turn()
    assert bench.states(LOT) == lots


DELIVERY = st.tuples(
    st.sampled_from(["f", "g", "h"]),
    st.sampled_from([(A,), (B,), (A, B)]),
    st.sampled_from(["", "turn", "restart"]),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(DELIVERY, max_size=15), st.booleans())
def test_in_any_deliveries_each_cause_acts_once_on_each(
    deliveries: list[tuple[str, tuple[str, ...], str]], with_versions: bool
) -> None:
    bench = Bench()
    turner, acted, seen = bench.turner(EVENTS), Counter[str](), set[tuple[str, str]]()
    for number, (id, targets, cut) in enumerate(deliveries):
        bench.send(fact(id, *targets))
        if with_versions:  # an event of another aggregate that acts on the same one, in between
            bench.send(lot_event(B, number + 1, case=A, key=A))
            acted[A] += 1
        for target in targets:
            acted[target] += (id, target) not in seen
            seen.add((id, target))
        if cut:
            turner.turn()
        if cut == "restart":
            turner = bench.turner(EVENTS)
    turner.turn()
    assert bench.versions(LOT) == dict(acted)
    assert {id: len(lot.happened) for id, lot in bench.states(LOT).items()} == dict(acted)
    check_versions(bench)
