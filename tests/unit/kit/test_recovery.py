"""A database that was set back: brought up to date from its own topics, and nothing happens twice."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import replace
from typing import Any
from unittest import mock

import pytest
from google.protobuf.message import Message

from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.production.v1 import events_pb2 as production
from pharmaloop.rnd.v1 import events_pb2 as rnd
from services.kit import recovery
from services.kit.bus.protocol import Partition
from services.kit.contracts import contract
from services.kit.envelope import Event, to_record
from services.kit.errors import Integrity
from services.kit.recovery import OwnLog, Regain, note_restored, recover, restored_of
from services.kit.runners.notes import WAITING
from services.kit.work import Work
from tests.unit.kit.support import (
    INSIGHT_TOPIC,
    LOT,
    NOON,
    NOTE,
    Bench,
    Lot,
    Note,
    Turner,
    lot_event,
    note_lot,
)

EVENTS = {production.LotStarted: note_lot}


def note_each(work: Work, event: Event) -> None:
    """Acts on the aggregate whatever it holds: only the kit keeps it from acting twice."""
    work.apply(LOT, event.key, rnd.InsightRecorded(insight=event.key))


SITE_TOPIC = "pharmaloop.clinical.site.v1"
LOTS = [f"m/item/G/{n}" for n in range(12)]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def own(bench: Bench) -> OwnLog:
    return OwnLog("rnd", contract(), bench.bus, bench.store, (LOT,), ("hospital-a",))


async def publish(bench: Bench) -> None:
    assert await bench.relay().drain(10) == 0


def aggregate_event(id: str, seq: int) -> Event:
    message = rnd.InsightRecorded(insight=id)
    return Event(f"{id}-{seq}", "/svc/rnd/lot", id, NOON, message, id, seq)


async def told(bench: Bench) -> list[str]:
    await publish(bench)
    return sorted(event.id for event in bench.read(INSIGHT_TOPIC))


async def test_an_older_database_gets_its_aggregates_back_and_says_nothing_again(bench: Bench) -> None:
    bench.send(*(lot_event(lot, 1) for lot in LOTS[:5]))
    turner = bench.turner({production.LotStarted: note_each})
    turner.turn()
    await publish(bench)
    own(bench).note()
    backup = deepcopy((dict(bench.database.docs), bench.database.outbox, bench.database.published))
    bench.send(*(lot_event(lot, 1) for lot in LOTS[5:]))
    turner.turn()
    before, said = (bench.states(LOT), bench.versions(LOT)), await told(bench)
    assert len(said) == len(LOTS)

    docs, bench.database.outbox, bench.database.published = backup
    bench.database.docs.clear()
    bench.database.docs.update(docs)
    assert len(bench.states(LOT)) == 5
    recovery = own(bench)
    assert recovery.catch_up() == len(LOTS) - 5
    assert (bench.states(LOT), bench.versions(LOT)) == before
    assert recovery.catch_up() == 0, "it is up to date now"
    restored = note_restored(bench.store, bench.bus.log().ends(turner.runner.topics))
    # The runner folds again what it had folded after the backup was made.
    again = bench.turner({production.LotStarted: note_each}, restored=restored.until())
    assert again.turn() == len(LOTS) - 5
    assert (bench.states(LOT), bench.versions(LOT)) == before
    assert await told(bench) == said
    bench.send(lot_event(LOTS[0], 2))
    again.turn()
    assert len(await told(bench)) == len(said) + 1, "what is new is done"


async def test_what_comes_after_a_restore_has_its_effect(bench: Bench) -> None:
    bench.send(lot_event(LOTS[0], 1))
    bench.turner(EVENTS).turn()
    assert len(await told(bench)) == 1
    bench.database.docs.clear()
    bench.database.outbox.clear()
    bench.database.published.clear()
    assert own(bench).catch_up() == 1, "a new database takes its aggregates from the topic"
    note_restored(bench.store, bench.bus.log().ends([INSIGHT_TOPIC]))
    bench.send(lot_event(LOTS[1], 1))
    bench.turner(EVENTS).turn()
    assert set(bench.states(LOT)) == set(LOTS[:2])
    assert len(await told(bench)) == 2


def test_versions_are_put_in_order_and_repeats_passed_over(bench: Bench) -> None:
    # One aggregate may speak on several topics: its versions come in any order across partitions.
    for seq in (2, 1, 1, 3, 2):
        bench.bus.append(to_record(aggregate_event(LOTS[0], seq), INSIGHT_TOPIC))
    assert own(bench).catch_up() == 3
    assert bench.versions(LOT) == {LOTS[0]: 3}
    assert len(bench.states(LOT)[LOTS[0]].happened) == 3


@pytest.mark.parametrize("site", ["hospital-a", "hospital-b"])
def test_what_another_site_said_on_a_shared_topic_is_not_ones_own(bench: Bench, site: str) -> None:
    """Hospital B's first version is in no topic any more: that is B's own matter."""
    for where, seq in (("hospital-a", 1), ("hospital-b", 2)):
        message = clinical.SiteRegistered(site=where, name=where)
        event = Event(f"{where}-{seq}", "/svc/clinical/lot", where, NOON, message, where, seq)
        bench.bus.append(to_record(event, SITE_TOPIC))
    log = OwnLog("clinical", contract(), bench.bus, bench.store, (LOT,), ("hospital-a", "hospital-b"), site)
    assert not any("hospital" in topic for topic in log.topics if site not in topic), "nor are its topics"
    if site == "hospital-a":
        assert log.catch_up() == 1
        assert set(bench.states(LOT)) == {"hospital-a"}
    else:
        with pytest.raises(Integrity, match="version 2 of lot 'hospital-b'"):
            log.catch_up()


def test_a_version_that_is_nowhere_stops_the_service(bench: Bench) -> None:
    for seq in (1, 3):
        bench.bus.append(to_record(aggregate_event(LOTS[0], seq), INSIGHT_TOPIC))
    with pytest.raises(Integrity, match=r"version 3 of lot .* newer backup"):
        own(bench).catch_up()


def test_an_event_that_does_not_follow_stops_the_service(bench: Bench) -> None:
    def evolve(state: Lot | None, message: Message) -> Lot:
        assert state is not None, "InsightRecorded before its lot"
        return state

    strict = replace(LOT, evolve=evolve)
    bench.bus.append(to_record(aggregate_event(LOTS[0], 1), INSIGHT_TOPIC))
    log = OwnLog("rnd", contract(), bench.bus, bench.store, (strict,), ("hospital-a",))
    with pytest.raises(
        Integrity, match=r"version 1 of lot .* does not follow .*InsightRecorded before its lot"
    ):
        log.catch_up()


def test_what_others_say_and_garbage_are_not_its_own(bench: Bench) -> None:
    bench.send_raw("k", b"\xff", (("x", b"1"),), topic=INSIGHT_TOPIC)
    foreign = aggregate_event(LOTS[0], 1)._replace(source="/svc/production/lot")
    bench.bus.append(to_record(foreign, INSIGHT_TOPIC))
    fact = aggregate_event(LOTS[1], 1)._replace(seq=None)
    bench.bus.append(to_record(fact, INSIGHT_TOPIC))
    assert own(bench).catch_up() == 0
    assert bench.states(LOT) == {}


def test_what_a_restore_left_to_pass_is_remembered(bench: Bench) -> None:
    assert restored_of(bench.store) is None
    ends = bench.bus.log().ends([INSIGHT_TOPIC])
    noted = note_restored(bench.store, ends)
    assert restored_of(bench.store) == noted
    assert noted.until() == ends


async def test_what_waited_when_the_backup_was_made_and_then_acted_does_not_act_again(bench: Bench) -> None:
    def on_held(work: Work, event: Event) -> None:
        work.require(NOTE, event.key)
        work.apply(LOT, event.key, rnd.InsightRecorded(insight=event.key))

    def on_started(work: Work, event: Event) -> None:
        work.put(NOTE, event.key, Note("here"))

    def runners(restored: Mapping[Partition, int] | None = None) -> list[Turner]:
        known = bench.turner({production.LotStarted: on_started}, name="known", restored=restored)
        return [known, bench.turner({production.LotHeld: on_held}, restored=restored)]

    lot = LOTS[0]
    known, referring = runners()
    bench.send(lot_event(lot, 1, production.LotHeld(lot=lot)))
    referring.settle()
    own(bench).note()
    backup = deepcopy((dict(bench.database.docs), bench.database.outbox, bench.database.published))
    bench.send(lot_event(lot, 2))
    known.settle()
    referring.settle()
    said = await told(bench)
    assert (len(said), bench.versions(LOT)) == (1, {lot: 1})

    docs, bench.database.outbox, bench.database.published = backup
    bench.database.docs.clear()
    bench.database.docs.update(docs)
    assert own(bench).catch_up() == 1
    restored = note_restored(bench.store, bench.bus.log().ends(referring.runner.topics)).until()
    for again in runners(restored):
        again.settle()
    assert bench.states(WAITING) == {}
    assert (await told(bench), bench.versions(LOT)) == (said, {lot: 1})


# -- what stands beside an aggregate -------------------------------------------------------


def beside(work: Work, event: Event) -> None:
    """Counts an aggregate's events in a note of its own."""
    held = work.get(NOTE, event.subject) or Note("")
    work.put(NOTE, event.subject, Note(f"{held.text}{event.seq}"))


def regaining(bench: Bench, regain: Regain = beside) -> OwnLog:
    return OwnLog(
        "rnd",
        contract(),
        bench.bus,
        bench.store,
        (LOT,),
        ("hospital-a",),
        reads=(INSIGHT_TOPIC,),
        regain={LOT: regain},
    )


def test_what_stands_beside_an_aggregate_comes_back_in_the_order_of_its_events(bench: Bench) -> None:
    for seq in (3, 1, 2, 2):
        bench.bus.append(to_record(aggregate_event(LOTS[0], seq), INSIGHT_TOPIC))
    assert regaining(bench).catch_up() == 3
    assert bench.states(NOTE) == {LOTS[0]: Note("123")}
    bench.bus.append(to_record(aggregate_event(LOTS[0], 4), INSIGHT_TOPIC))
    assert regaining(bench).catch_up() == 1
    assert bench.states(NOTE) == {LOTS[0]: Note("1234")}, "each event once"


def test_an_event_comes_back_with_what_stands_beside_it_or_not_at_all(bench: Bench) -> None:
    def fails(work: Work, event: Event) -> None:
        beside(work, event)
        raise ValueError("not brought back")

    bench.bus.append(to_record(aggregate_event(LOTS[0], 1), INSIGHT_TOPIC))
    with pytest.raises(ValueError, match="not brought back"):
        regaining(bench, fails).catch_up()
    assert (bench.states(LOT), bench.states(NOTE)) == ({}, {})
    assert restored_of(bench.store) is None
    assert regaining(bench).catch_up() == 1, "the next start takes all of it"


def test_that_a_database_was_set_back_is_noted_with_the_first_event_that_it_lacked(bench: Bench) -> None:
    """Whoever dies, or starts, in the middle of it must not take commands as if nothing had been lost."""
    strict = replace(LOT, evolve=None if LOT.evolve is None else _only_the_first(LOT.evolve))
    for seq in (1, 2):
        bench.bus.append(to_record(aggregate_event(LOTS[0], seq), INSIGHT_TOPIC))
        bench.bus.append(to_record(aggregate_event(LOTS[1], seq), INSIGHT_TOPIC))
    log = OwnLog(
        "rnd", contract(), bench.bus, bench.store, (strict,), ("hospital-a",), reads=(INSIGHT_TOPIC,)
    )
    with mock.patch.object(recovery, "_MOST_BYTES", 1), pytest.raises(Integrity):
        log.catch_up()
    assert 0 < len(bench.versions(LOT)) < 4
    noted = restored_of(bench.store)
    assert noted is not None
    assert noted.until() == bench.bus.log().ends([INSIGHT_TOPIC])


def _only_the_first(evolve: Callable[[Any, Message], Any]) -> Callable[[Any, Message], Any]:
    def first(state: Any, message: Message) -> Any:
        assert state is None, "a second event"
        return evolve(state, message)

    return first


def test_every_restore_has_a_life_of_its_own(bench: Bench) -> None:
    assert restored_of(bench.store) is None
    assert recover(regaining(bench)) is None, "nothing was lacking"
    lives = []
    for seq in (1, 2):
        bench.bus.append(to_record(aggregate_event(LOTS[0], seq), INSIGHT_TOPIC))
        restored = recover(regaining(bench))
        assert restored is not None
        assert restored == recover(regaining(bench)), "a start is none"
        lives.append(restored.life)
    assert len(set(lives)) == 2
