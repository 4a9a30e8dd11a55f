"""What a batch reads goes to the database together, and no handler runs oftener than that takes."""

from __future__ import annotations

import pytest

from pharmaloop.production.v1 import events_pb2 as production
from pharmaloop.rnd.v1 import events_pb2 as rnd
from services.kit.envelope import Event
from services.kit.work import Work
from tests.unit.kit.support import LOT, NOTE, Bench, Note, lot_event


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_handlers_run_once_for_each_record_and_once_more_where_states_were_lacking(bench: Bench) -> None:
    """Trying a whole batch out before it is folded would run each handler to its end twice."""
    ends: list[str] = []

    def handler(work: Work, event: Event) -> None:
        work.get(NOTE, event.key)
        ends.append(event.key)

    lots = [f"m/item/G/{n}" for n in range(50)]
    bench.send(*(lot_event(lot, 1) for lot in lots))
    bench.turner({production.LotStarted: handler}).turn()
    assert sorted(ends) == sorted(lots)


def test_what_one_record_does_for_many_is_not_tried_out_for_each_that_follows_it(bench: Bench) -> None:
    """A counter that is emptied when it is full: what fills it reads much, and what follows does not."""
    read: list[int] = []
    full, count = 100, "count"

    def handler(work: Work, event: Event) -> None:
        work.load(NOTE, [count, event.key])
        held = work.get(NOTE, count)
        reached = int(held.text) + 1 if held else 1
        if reached == full:
            names = [f"old-{n}" for n in range(full)]
            read.append(len(names))
            work.load(NOTE, names)
            reached = 0
        work.put(NOTE, count, Note(str(reached)))

    turner = bench.turner({production.LotStarted: handler})
    bench.send(*(lot_event(f"m/item/G/{n}", 1) for n in range(full // 2)))
    turner.turn()
    bench.send(*(lot_event(f"m/item/H/{n}", 1) for n in range(4 * full)))
    turner.turn()
    fills = full // 2 + 4 * full
    assert bench.states(NOTE)[count].text == str(fills % full)
    assert len(read) <= 2 * (fills // full), "once to ask, once with all that was asked for"


def test_what_is_expected_is_read_for_all_and_what_is_tried_out_may_stop_there(bench: Bench) -> None:
    """One round of reading for a batch, and what is costly once for each record."""
    costly: list[str] = []
    asked: list[str] = []

    def handler(work: Work, event: Event) -> None:
        asked.append(event.key)
        work.expect(LOT, event.key)
        if work.ahead:
            return
        costly.append(event.key)
        work.apply(LOT, event.key, rnd.InsightRecorded(insight=event.id))

    lots = [f"m/item/G/{n}" for n in range(50)]
    facts = [lot_event(lot, None, id=f"fact {lot}") for lot in lots]
    bench.send(*facts)
    bench.turner({production.LotStarted: handler}).turn()
    assert sorted(costly) == sorted(lots)
    assert len(asked) == 2 * len(lots), "once to ask, once with all that was asked for"
    assert len(bench.states(LOT)) == len(lots)
