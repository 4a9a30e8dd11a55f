"""Rows, the fast form of a projector: what a naive fold of each event in turn would give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from pharmaloop.production.v1 import events_pb2 as production
from services.kit.bus.protocol import Outgoing
from services.kit.envelope import Event, to_record
from services.kit.errors import Integrity, Invalid, Poison, Rejected, Retryable
from services.kit.runners.letters import LETTERS
from services.kit.runners.reactor import Row, projector
from services.kit.store.kinds import Kind
from tests.unit.kit.support import LOT_TOPIC, Bench, lot_event, note_lot

A, B, C = "m/item/G/a", "m/item/G/b", "m/item/G/c"
PRODUCTS = ("p1", "p2")


@dataclass(frozen=True)
class Tale:
    """A row of one lot: what was told of it, in order; facts by their id."""

    told: tuple[str, ...] = ()
    facts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Shelf:
    """A row of one product, of many lots: the newest version of each. No order among lots is assumed."""

    lots: dict[str, int] = field(default_factory=dict)


TALES: Kind[Tale] = Kind("tale", Tale)
SHELVES: Kind[Shelf] = Kind("shelf", Shelf)


def tell(tale: Tale | None, event: Event) -> Tale:
    before = tale or Tale()
    if event.run == "refused":
        raise KeyError("a bug")
    if event.seq is None:
        return replace(before, facts={**before.facts, event.id: 1})
    return replace(before, told=(*before.told, event.id))


def shelve(shelf: Shelf | None, event: Event) -> Shelf:
    if event.run == "refused":
        raise Rejected("ODD_LOT", "this lot is odd")
    return Shelf({**(shelf or Shelf()).lots, f"{event.subject} {event.id}": event.seq or 0})


ROWS: dict[type[Message], Row[Any]] = {
    production.LotStarted: Row(TALES, lambda event: event.subject, tell),
    production.LotCompleted: Row(SHELVES, lambda event: event.case, shelve),
}
READER = projector("test", ROWS)


@pytest.fixture
def bench() -> Bench:
    return Bench()


def completed(lot: str, seq: int | None, product: str = "p1", **fields: Any) -> Event:
    return lot_event(lot, seq, production.LotCompleted(lot=lot), case=product, **fields)


# -- against a naive fold ---------------------------------------------------


@dataclass
class Naive:
    """Each record in turn, by the words of the protocol: no batches, no reads, no memory but this."""

    states: dict[str, dict[str, Any]] = field(default_factory=lambda: {"tale": {}, "shelf": {}})
    seen: dict[tuple[str, str, str], int] = field(default_factory=dict)
    parked: set[str] = field(default_factory=set)
    dead: list[str] = field(default_factory=list)

    def take(self, event: Event | None) -> None:
        if event is None:
            self.dead.append("NO_HEADER")
            return
        row = ROWS.get(type(event.message))
        if row is None:
            return
        if event.seq is not None and event.key in self.parked:
            self.dead.append("PARKED")
            return
        states, id = self.states[row.kind.name], row.key(event)
        place = (row.kind.name, id, event.subject)
        if event.seq is not None and self.seen.get(place, 0) >= event.seq:
            return
        try:
            states[id] = row.fold(states.get(id), event)
        except Exception as error:  # noqa: BLE001 -- what a fold may raise
            self.dead.append(error.reason if isinstance(error, Rejected) else "HANDLER_FAILED")
            if event.seq is not None:
                self.parked.add(event.key)
            return
        if event.seq is not None:
            self.seen[place] = event.seq


def known(lot: str, seq: int, kind: int, bad: bool) -> Event:
    """The same arguments are the same event, delivered again."""
    version = None if kind == 2 else seq
    run = "refused" if bad else ""
    id = f"{lot}-{seq}-{kind}-{bad}"
    if kind == 1:
        return completed(lot, version, PRODUCTS[seq % 2], run=run, id=id)
    if kind == 3:
        return lot_event(lot, version, production.LotHeld(lot=lot), id=id)  # nobody's
    return lot_event(lot, version, run=run, id=id)


WHAT = st.builds(
    known,
    st.sampled_from([A, B, C]),
    st.integers(1, 5),
    st.sampled_from([0, 0, 0, 1, 1, 2, 3]),
    st.sampled_from([False] * 9 + [True]),
)
RECORD = st.one_of(WHAT, WHAT, WHAT, WHAT, st.none())
#: What happens after a record: nothing, a batch, a batch and a restart.
CUT = st.sampled_from(["", "", "turn", "restart"])


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(RECORD, CUT), max_size=30))
def test_rows_are_what_a_naive_fold_gives(deliveries: list[tuple[Event | None, str]]) -> None:
    """Duplicates, old versions, facts twice, garbage, failing folds, in any cut into batches and restarts.

    Partitions are taken in any order: only rows of many keys see it, and they do not depend on it.
    """
    bench, naive = Bench(), Naive()
    turner = bench.making(READER)
    for event, cut in deliveries:
        if event is None:
            bench.send_raw(A, b"\xff", ())
        else:
            bench.send(event)
        naive.take(event)
        if cut:
            turner.turn()
        if cut == "restart":
            turner = bench.making(READER)
    turner.turn()
    if turner.runner.unmarked:
        turner.rest()
    assert bench.states(TALES) == naive.states["tale"]
    assert bench.states(SHELVES) == naive.states["shelf"]
    letters = bench.states(LETTERS).values()
    assert sorted(letter.reason for letter in letters) == sorted(naive.dead)
    assert bench.marks() == len(deliveries)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([A, B, C]), st.integers(1, 4)), max_size=20), st.randoms())
def test_the_order_across_keys_makes_no_difference(events: list[tuple[str, int]], random: Any) -> None:
    straight, shuffled = Bench(), Bench()
    queues = {lot: [known(*one, 1, False) for one in events if one[0] == lot] for lot in (A, B, C)}
    straight.send(*(event for queue in queues.values() for event in queue))
    lots = [lot for lot, _ in events]
    random.shuffle(lots)
    taken = {lot: iter(queue) for lot, queue in queues.items()}
    turner = shuffled.making(READER)
    for lot in lots:
        shuffled.send(next(taken[lot]))
        turner.turn()
    straight.making(READER).turn()
    assert straight.states(SHELVES) == shuffled.states(SHELVES)


# -- one thing at a time ----------------------------------------------------


def test_a_version_that_comes_again_later_is_dropped_also_after_a_restart(bench: Bench) -> None:
    bench.send(lot_event(A, 1), lot_event(A, 3))
    bench.making(READER).turn()
    before = bench.snapshot()
    bench.send(lot_event(A, 2), lot_event(A, 3), lot_event(A, 1))
    assert bench.making(READER).turn() == 3
    assert bench.snapshot() == before, "the row was written again, or changed"
    assert bench.marks() == 5


def test_a_row_of_many_aggregates_knows_the_versions_of_each(bench: Bench) -> None:
    bench.send(completed(A, 5), completed(B, 1), completed(B, 2), completed(A, 5), completed(B, 1))
    turner = bench.making(READER)
    turner.turn()
    assert bench.states(SHELVES)["p1"].lots == {f"{A} {A}-5": 5, f"{B} {B}-1": 1, f"{B} {B}-2": 2}
    assert bench.versions(SHELVES) == {"p1": 3}, "one for each event that was folded"


def test_a_fact_that_changes_nothing_writes_nothing(bench: Bench) -> None:
    fact = lot_event(A, None, id="f")
    bench.send(fact)
    turner = bench.making(READER)
    turner.turn()
    bench.send(fact, fact)
    turner.turn()
    assert bench.states(TALES) == {A: Tale(facts={"f": 1})}
    assert bench.versions(TALES) == {A: 1}


def test_garbage_among_rows_costs_itself_alone(bench: Bench) -> None:
    good = to_record(lot_event(A, 2), LOT_TOPIC)
    bench.send(lot_event(A, 1))
    bench.bus.append(Outgoing(LOT_TOPIC, good.key, b"\xff\xff", good.headers[:-1]))
    bench.send(lot_event(B, 1))
    turner = bench.making(READER)
    turner.turn()
    assert bench.states(TALES) == {A: Tale((f"{A}-1",)), B: Tale((f"{B}-1",))}
    (letter,) = bench.states(LETTERS).values()
    assert letter.reason == "UNDECODABLE"
    bench.send(lot_event(A, 3))
    turner.turn()
    assert bench.states(TALES)[A].told == (f"{A}-1",), "it was version 2 of the key that could not be read"


def test_a_failing_fold_leaves_its_row_as_it_was_and_the_next_key_goes_on(bench: Bench) -> None:
    bench.send(lot_event(A, 1), lot_event(A, 2, run="refused"), lot_event(A, 3), lot_event(B, 1))
    turner = bench.making(READER)
    turner.turn()
    assert bench.states(TALES) == {A: Tale((f"{A}-1",)), B: Tale((f"{B}-1",))}
    assert [letter.reason for _, letter in sorted(bench.states(LETTERS).items())] == [
        "HANDLER_FAILED",
        "PARKED",
    ]
    assert turner.runner.status.parked == 1


def test_a_failing_fold_of_a_new_row_makes_no_row(bench: Bench) -> None:
    bench.send(lot_event(A, 1, run="refused"))
    bench.making(READER).turn()
    assert bench.states(TALES) == {}


def with_fold(fold: Callable[[Any, Event], Any], key: Callable[[Event], str] | None = None) -> Any:
    return projector("test", {production.LotStarted: Row(TALES, key or (lambda event: event.subject), fold)})


def raising(error: Exception) -> Callable[..., Any]:
    def fold(*_: object) -> Any:
        raise error

    return fold


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Poison("BAD_UNIT", "no such unit"), "BAD_UNIT"),
        (Invalid("BAD_LOT", "no such lot", "lot"), "BAD_LOT"),
        (ZeroDivisionError(), "HANDLER_FAILED"),
    ],
)
@pytest.mark.parametrize("where", ["fold", "key"])
def test_what_a_row_refuses_is_that_records_letter(
    bench: Bench, error: Exception, reason: str, where: str
) -> None:
    row = with_fold(tell, raising(error)) if where == "key" else with_fold(raising(error))
    bench.send(lot_event(A, 1))
    bench.making(row).turn()
    assert [letter.reason for letter in bench.states(LETTERS).values()] == [reason]
    assert bench.marks() == 1


def test_a_row_that_finds_the_data_wrong_stops_the_runner(bench: Bench) -> None:
    bench.send(lot_event(A, 1))
    turner = bench.making(with_fold(raising(Integrity("two states contradict each other"))))
    with pytest.raises(Integrity, match="contradict"):
        turner.turn()
    assert bench.states(LETTERS) == {}
    assert bench.marks() == 0


def test_a_row_that_may_be_folded_later_is_tried_again(bench: Bench) -> None:
    tries: list[int] = []

    def fold(tale: Tale | None, event: Event) -> Tale:
        tries.append(1)
        if len(tries) < 3:
            raise Retryable("the other side is busy")
        return tell(tale, event)

    bench.send(lot_event(A, 1))
    bench.making(with_fold(fold)).turn()
    assert bench.states(TALES) == {A: Tale((f"{A}-1",))}
    assert bench.states(LETTERS) == {}


def test_rows_that_this_code_cannot_read_stop_the_runner_and_kill_no_event(bench: Bench) -> None:
    # A deploy with another state type: each event would be dead-lettered until the limit.
    bench.database.docs["tale"][A] = {"_id": A, "v": 1, "s": {"told": "not a list"}}
    bench.send(lot_event(A, 1))
    with pytest.raises(Integrity, match="tale m/item/G/a was stored by code with another Tale"):
        bench.making(READER).turn()
    assert bench.states(LETTERS) == {}


def test_a_row_keeps_what_another_build_has_written_beside(bench: Bench) -> None:
    bench.send(lot_event(A, 1))
    bench.making(READER).turn()
    bench.database.docs["tale"][A]["s"]["graded"] = {"by": "a later build"}
    bench.send(lot_event(A, 2))
    bench.making(READER).turn()
    stored = bench.database.docs["tale"][A]
    assert stored["s"] == {"told": (f"{A}-1", f"{A}-2"), "facts": {}, "graded": {"by": "a later build"}}
    assert stored["v"] == 2


def test_rows_and_handlers_do_not_mix(bench: Bench) -> None:
    both: dict[Any, Any] = {production.LotHeld: note_lot, **ROWS}
    with pytest.raises(Integrity, match="rows or handlers"):
        bench.making(projector("test", both))


def test_a_second_instance_does_not_fold_a_row_twice(bench: Bench) -> None:
    bench.send(lot_event(A, 1))
    paused, other = bench.making(READER), bench.making(READER)
    other.turn()
    bench.send(lot_event(A, 2))
    paused.turn()
    paused.turn()
    assert bench.states(TALES) == {A: Tale((f"{A}-1", f"{A}-2"))}
