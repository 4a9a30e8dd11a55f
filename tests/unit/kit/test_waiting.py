"""Events that overtake what they refer to: kept, in order, and taken up when it is there."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pharmaloop.production.v1 import events_pb2 as production
from pharmaloop.rnd.v1 import events_pb2 as rnd
from services.kit.envelope import Event
from services.kit.runners import aside
from services.kit.runners.letters import DONE, LETTERS, OPEN, REDRIVE
from services.kit.runners.notes import WAITING
from services.kit.runners.reactor import Events
from services.kit.work import Work
from tests.unit.kit.support import LOT, NOTE, Bench, Note, Turner, lot_event

#: What events refer to; `THERE` arrives by LotStarted of that subject.
THERE, LATE, NEVER = "m/item/G/there", "m/item/G/late", "m/item/G/never"
A, B = "m/item/G/a", "m/item/G/b"


def arrive(work: Work, event: Event) -> None:
    work.put(NOTE, event.subject, Note("there"))


def refer(work: Work, event: Event) -> None:
    """An event about a lot that others have to know first; `case` names them."""
    if event.run == "refused":
        raise KeyError("a bug")
    for needed in filter(None, event.case.split(",")):
        work.require(NOTE, needed)
    before = work.get(NOTE, f"told of {event.subject}")
    work.put(NOTE, f"told of {event.subject}", Note(f"{before.text} {event.id}" if before else event.id))
    work.apply(LOT, event.subject, rnd.InsightRecorded(insight=event.id))


EVENTS: Events = {production.LotStarted: arrive, production.LotHeld: refer}


@pytest.fixture
def bench() -> Bench:
    return Bench()


def arrival(lot: str, seq: int | None = 1) -> Event:
    return lot_event(lot, seq, id=f"{lot} arrives")


def about(lot: str, seq: int | None, *needs: str, **fields: Any) -> Event:
    known = {"id": f"{lot.rpartition('/')[2]}{seq}", "case": ",".join(needs), **fields}
    return lot_event(lot, seq, production.LotHeld(lot=lot), **known)


def told(bench: Bench, lot: str) -> list[str]:
    note = bench.states(NOTE).get(f"told of {lot}")
    return note.text.split() if note else []


def turner(bench: Bench) -> Turner:
    return bench.turner(EVENTS)


@pytest.mark.parametrize("seq", [1, None], ids=["event", "fact"])
def test_what_came_too_early_waits_and_is_taken_up_once(bench: Bench, seq: int | None) -> None:
    runner = turner(bench)
    bench.send(about(A, seq, LATE))
    runner.settle()
    assert told(bench, A) == []
    assert runner.runner.status.waiting == 1
    assert bench.states(LETTERS) == {}, "it is neither retried nor dead-lettered"
    assert bench.marks() == 1, "nothing stands behind it"
    bench.send(arrival(LATE))
    runner.settle()
    assert told(bench, A) == [f"a{seq}"]
    assert bench.versions(LOT) == {A: 1}
    assert runner.runner.status.waiting == 0
    assert bench.states(WAITING) == {}
    runner.settle()
    assert told(bench, A) == [f"a{seq}"]


def test_what_is_lacking_is_told_once_when_it_is_long_in_coming(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def lacking() -> list[str]:
        return [line for line in capsys.readouterr().out.splitlines() if "waits for what" in line]

    runner = turner(bench)
    bench.send(about(A, 1, LATE))
    runner.settle()
    assert lacking() == [], "what overtakes waits for a moment"
    monkeypatch.setattr(aside, "_LONG_SECONDS", 0.0)
    runner.settle()
    (line,) = lacking()
    assert f"{NOTE.name} {LATE}" in line
    runner.settle()
    assert lacking() == []


def test_what_is_there_already_is_not_waited_for(bench: Bench) -> None:
    bench.send(arrival(THERE))
    runner = turner(bench)
    runner.settle()
    bench.send(about(A, 1, THERE))
    runner.turn()
    assert told(bench, A) == ["a1"]


def test_a_later_version_of_a_waiting_source_waits_behind_it(bench: Bench) -> None:
    runner = turner(bench)
    bench.send(arrival(THERE), about(A, 1, LATE), about(A, 2, THERE), about(B, 1, THERE))
    runner.settle()
    bench.send(about(A, 3))
    runner.settle()
    assert told(bench, A) == []
    assert told(bench, B) == ["b1"], "another source goes on"
    bench.send(arrival(LATE))
    runner.settle()
    assert told(bench, A) == ["a1", "a2", "a3"]
    assert bench.versions(LOT)[A] == 3


def test_a_fact_does_not_wait_behind_another(bench: Bench) -> None:
    runner = turner(bench)
    bench.send(about(A, None, LATE, id="first"), about(A, None, id="second"))
    runner.settle()
    assert told(bench, A) == ["second"]
    bench.send(arrival(LATE))
    runner.settle()
    assert told(bench, A) == ["second", "first"]


def test_a_waiting_event_may_lack_one_thing_after_another(bench: Bench) -> None:
    runner = turner(bench)
    bench.send(about(A, 1, THERE, LATE), about(A, 2))
    runner.settle()
    bench.send(arrival(THERE))
    runner.settle()
    assert told(bench, A) == []
    bench.send(arrival(LATE))
    runner.settle()
    assert told(bench, A) == ["a1", "a2"]


def test_what_waits_is_taken_up_after_a_restart(bench: Bench) -> None:
    bench.send(about(A, 1, LATE), about(A, 2))
    turner(bench).settle()
    bench.send(arrival(LATE))
    turner(bench).turn()  # killed before it looked aside
    bench.send(about(A, 3))
    runner = turner(bench)
    runner.settle()
    assert told(bench, A) == ["a1", "a2", "a3"]


def test_a_repeat_of_a_waiting_event_acts_once(bench: Bench) -> None:
    runner = turner(bench)
    bench.send(about(A, 1, LATE), about(A, 1, LATE), about(B, None, LATE), about(B, None, LATE), about(A, 2))
    runner.settle()
    bench.send(about(A, 1, LATE), arrival(LATE))
    runner.settle()
    assert told(bench, A) == ["a1", "a2"]
    assert bench.versions(LOT) == {A: 2, B: 1}


def test_those_that_wait_for_ever_do_not_stand_in_the_way(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.kit.runners.aside._MANY", 3)
    runner = turner(bench)
    bench.send(*(about(f"{A}{n}", 1, NEVER) for n in range(20)), about(B, 1, LATE))
    runner.settle()
    bench.send(arrival(LATE))
    runner.settle()
    assert told(bench, B) == ["b1"]
    assert runner.runner.status.waiting == 20


def test_a_waiting_event_that_fails_is_dead_lettered_and_nothing_overtakes_it(bench: Bench) -> None:
    runner = turner(bench)
    bench.send(about(A, 1, LATE), about(A, 2, LATE), about(A, 3))
    runner.settle()
    bench.send(arrival(LATE))

    def broken(work: Work, event: Event) -> None:
        if event.seq == 1:
            raise KeyError("a bug")
        refer(work, event)

    bad = bench.turner({production.LotStarted: arrive, production.LotHeld: broken})
    bad.settle()
    assert told(bench, A) == []
    reasons = [letter.reason for _, letter in sorted(bench.states(LETTERS).items())]
    assert reasons == ["HANDLER_FAILED", "PARKED", "PARKED"]
    assert bad.runner.status.waiting == 0
    assert bad.runner.status.parked == 1
    redrive(bench, *bench.states(LETTERS))
    turner(bench).settle()
    assert told(bench, A) == ["a1", "a2", "a3"]


def test_what_waits_from_before_a_dead_letter_is_not_behind_it(bench: Bench) -> None:
    # Two sources on one key: the first waits, then the second one's event is dead-lettered.
    runner = turner(bench)
    bench.send(about(A, 1, LATE, key="k"), about(B, 1, key="k", run="refused"), about(A, 2, key="k"))
    runner.settle()
    bench.send(arrival(LATE))
    runner.settle()
    assert told(bench, A) == ["a1"]
    redrive(bench, *bench.states(LETTERS))
    turner(bench).settle()
    # b1 fails again, so what is behind it stays.
    assert told(bench, A) == ["a1"]


# -- together with letters --------------------------------------------------


def redrive(bench: Bench, *ids: str) -> None:
    """Mark letters as an operator would."""
    for id in ids:
        doc = bench.database.docs[LETTERS.name][id]
        letter = LETTERS.from_doc(doc).state
        bench.database.docs[LETTERS.name][id] = LETTERS.to_doc(id, doc["v"] + 1, letter.become(REDRIVE))


def states_of_letters(bench: Bench) -> list[str]:
    return [letter.state for _, letter in sorted(bench.states(LETTERS).items())]


def died(bench: Bench, *events: Event) -> None:
    """The events, sent to a version of the service that cannot process any."""

    def broken(work: Work, event: Event) -> None:
        raise KeyError("a bug")

    bench.send(*events)
    bench.turner({production.LotHeld: broken}).settle()


@pytest.mark.parametrize("seq", [1, None], ids=["event", "fact"])
def test_a_redriven_event_may_have_to_wait(bench: Bench, seq: int | None) -> None:
    died(bench, about(A, seq, LATE))
    redrive(bench, *bench.states(LETTERS))
    runner = turner(bench)
    runner.settle()
    assert states_of_letters(bench) == [DONE], "it is not dead any more: it waits"
    assert runner.runner.status.waiting == 1
    bench.send(arrival(LATE))
    runner.settle()
    assert told(bench, A) == [f"a{seq}"]
    assert runner.runner.status.waiting == 0


def test_nothing_overtakes_a_redriven_event_that_waits(bench: Bench) -> None:
    died(bench, about(A, 1, LATE), about(A, 2, LATE), about(A, 3))
    redrive(bench, *bench.states(LETTERS))
    runner = turner(bench)
    runner.settle()
    assert told(bench, A) == [], "a3 needs nothing and must not be folded before a1"
    bench.send(about(A, 4))
    runner.settle()
    assert told(bench, A) == []
    bench.send(arrival(LATE))
    runner.settle()
    assert told(bench, A) == ["a1", "a2", "a3", "a4"], "a version that is overtaken is lost"
    assert states_of_letters(bench) == [DONE] * 3


def test_a_redrive_does_not_overtake_what_waited_before(bench: Bench) -> None:
    bench.send(about(A, 1, LATE, key="k"))
    turner(bench).settle()
    died(bench, about(B, 1, key="k"), about(A, 2, key="k"))
    redrive(bench, *bench.states(LETTERS))
    runner = turner(bench)
    runner.settle()
    assert told(bench, B) == ["b1"]
    assert told(bench, A) == []
    bench.send(arrival(LATE))
    runner.settle()
    assert told(bench, A) == ["a1", "a2"]


# -- any interleaving -------------------------------------------------------

LOTS = (A, B)
NEEDS = st.lists(st.sampled_from([THERE, LATE]), max_size=2, unique=True)
EVENT = st.tuples(st.sampled_from(LOTS), NEEDS, st.booleans())
CUT = st.sampled_from(["", "turn", "settle", "restart"])


@settings(max_examples=120, deadline=None)
@given(st.lists(st.tuples(EVENT, CUT), max_size=14), st.integers(0, 14), st.integers(0, 14))
def test_in_any_order_everything_is_folded_once_and_sources_in_their_order(
    deliveries: list[tuple[tuple[str, list[str], bool], str]], first: int, second: int
) -> None:
    """Referents arrive at any moment; events need any of them; some are delivered twice."""
    bench = Bench()
    runner, counts, sent = turner(bench), defaultdict[str, int](int), defaultdict[str, list[str]](list)
    for place, ((lot, needs, again), cut) in enumerate(deliveries):
        for moment, referent in ((first, THERE), (second, LATE)):
            if place == moment:
                bench.send(arrival(referent))
        counts[lot] += 1
        event = about(lot, counts[lot], *needs)
        bench.send(*[event] * (2 if again else 1))
        sent[lot].append(event.id)
        if cut in ("turn", "settle"):
            getattr(runner, cut)()
        if cut == "restart":
            runner = turner(bench)
    bench.send(arrival(THERE, 99), arrival(LATE, 99))
    runner.settle()
    assert {lot: told(bench, lot) for lot in LOTS} == {lot: sent[lot] for lot in LOTS}
    assert bench.versions(LOT) == {lot: n for lot, n in counts.items() if n}
    assert bench.states(WAITING) == {}
    assert bench.states(LETTERS) == {}
    assert OPEN not in states_of_letters(bench)
