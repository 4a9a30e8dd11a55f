"""Parking in a loop: whatever is sent again, given up or delivered twice, nothing of a source overtakes."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.kit.bus.protocol import Record
from services.kit.envelope import Event, headers_of
from services.kit.runners.limit import PARKED_REASON as PARKED
from services.kit.runners.loop import DISCARD, REDRIVE, Case, Effect, Loop, Turn, place_of, source_in
from tests.unit.kit.support import lot_event

TOPIC = "pharmaloop.loops.case.v1"
RUNNER = "loops.test"


@dataclass(frozen=True)
class Heard:
    ids: tuple[str, ...] = ()


@dataclass
class World:
    """A case topic, the loop on it, and what became of each record that failed."""

    log: list[Record] = field(default_factory=list)
    case: Case[Heard] | None = None
    bugs: set[str] = field(default_factory=set)
    #: Records that became letters, by offset; taken out once settled.
    waits: dict[int, Record] = field(default_factory=dict)
    given_up: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.loop: Loop[Heard] = Loop("test", Heard, self.react)

    def react(self, state: Heard | None, event: Event) -> tuple[Heard, list[Effect]]:
        if event.id in self.bugs:
            raise RuntimeError("a bug")
        return Heard((*(state or Heard()).ids, event.id)), []

    def say(self, name: str, seq: int, *headers: tuple[str, str]) -> Turn[Heard]:
        event = lot_event(name, seq)._replace(case="A", trace="00-aa-bb-01")
        pairs = (*headers_of(event), *((name, value.encode()) for name, value in headers))
        return self.add(event.message.SerializeToString(), pairs)

    def add(
        self, value: bytes | None, headers: tuple[tuple[str, bytes], ...], key: bytes = b"A"
    ) -> Turn[Heard]:
        record = Record(TOPIC, 0, len(self.log), key, value, headers, 0)
        self.log.append(record)
        turn = self.take(record)
        if turn.letter is not None and not any(name == REDRIVE for name, _ in headers):
            self.waits[record.offset] = record
        return turn

    def take(self, record: Record) -> Turn[Heard]:
        """As the driver does: through the table's bytes."""
        turn = self.loop.take(RUNNER, self.case, record)
        self.case = self.loop.load(self.loop.dump(turn.case))
        return turn

    def redrive(self, offset: int) -> Turn[Heard]:
        """Send a letter's record again, in its turn or not; it is settled if it succeeds."""
        record = self.waits[offset]
        turn = self.add(record.value, (*record.headers, (REDRIVE, place_of(record).encode())))
        if turn.letter is None:
            del self.waits[offset]
        return turn

    def discard(self, offset: int) -> Turn[Heard]:
        record = self.waits.pop(offset)
        self.given_up.add(_id(record))
        marks = [pair for pair in record.headers if pair[0] in ("ce_source", "ce_subject")]
        return self.add(None, (*marks, (DISCARD, place_of(record).encode())))

    @property
    def heard(self) -> tuple[str, ...]:
        return self.case.state.ids if self.case and self.case.state else ()

    @property
    def parked(self) -> dict[str, tuple[int, ...]]:
        return self.case.parked if self.case else {}


def _id(record: Record) -> str:
    return dict(record.headers)["ce_id"].decode()


@pytest.fixture
def world() -> World:
    return World()


def test_only_the_first_letter_of_a_source_is_tried(world: World) -> None:
    world.bugs = {"x-1"}
    assert [world.say("x", n).reason for n in (1, 2, 3)] == ["HANDLER_FAILED", PARKED, PARKED]
    world.bugs = set()
    assert world.redrive(1).reason == PARKED
    assert world.redrive(0).reason == ""
    assert world.redrive(2).reason == PARKED, "x-2 stands before it"
    assert world.say("x", 4).reason == PARKED
    assert (world.redrive(1).reason, world.redrive(2).reason) == ("", "")
    assert world.parked == {"/svc/production/lot|x": (6,)}, "x-4 came meanwhile and is not forgotten"
    assert world.redrive(6).reason == ""
    assert world.say("x", 5).reason == ""
    assert world.heard == ("x-1", "x-2", "x-3", "x-4", "x-5")


def test_a_record_that_was_parked_while_the_last_redrive_was_under_way_keeps_the_parking(
    world: World,
) -> None:
    world.bugs = {"x-1"}
    world.say("x", 1)
    world.bugs = set()
    # Whoever sends x-1 again knows of no other letter; x-2 is ahead of it on the topic.
    world.say("x", 2)
    assert world.redrive(0).reason == ""
    assert world.say("x", 3).reason == PARKED
    assert world.parked == {"/svc/production/lot|x": (1, 3)}


def test_a_letter_is_given_up_wherever_it_stands_and_nothing_else_of_the_record_is_read(world: World) -> None:
    world.bugs = {"x-1"}
    for n in (1, 2, 3):
        world.say("x", n)
    assert (world.discard(1).reason, world.parked["/svc/production/lot|x"]) == ("", (0, 2))
    turn = world.discard(0)
    assert (turn.reason, turn.letter, turn.effects, turn.fresh) == ("", None, (), False)
    assert world.redrive(2).reason == ""
    assert (world.parked, world.heard) == ({}, ("x-3",))
    assert world.add(b"\xff", ((DISCARD, b"nonsense"),)).letter is None
    assert world.say("x", 4, (DISCARD, f"{TOPIC}/0/77")).letter is None
    assert world.heard == ("x-3",), "it only gives up"


def test_places_of_other_topics_and_sources_settle_nothing(world: World) -> None:
    world.bugs = {"x-1", "y-1"}
    world.say("x", 1)
    world.say("y", 1)
    stands = world.parked
    world.bugs = set()
    for place in (f"{TOPIC}/0/1", f"{TOPIC}/1/0", "other/0/0", f"{TOPIC}/0/", "1"):
        assert world.say("x", 1, (REDRIVE, place)).reason == PARKED
        world.say("x", 1, (DISCARD, place))
    assert {source: waiting[0] for source, waiting in world.parked.items()} == {
        source: waiting[0] for source, waiting in stands.items()
    }
    assert world.heard == ()


def test_what_tells_no_source_or_no_case_parks_nothing(world: World) -> None:
    good = headers_of(lot_event("x", 1)._replace(case="A"))
    assert world.add(b"", tuple(pair for pair in good if pair[0] != "ce_source")).reason == "NO_HEADER"
    assert world.add(b"", tuple(good), key=b"").reason == "NO_KEY"
    assert world.parked == {}


def test_a_letter_of_nothing_stays_nothing(world: World) -> None:
    turn = world.add(None, tuple(headers_of(lot_event("x", 1)._replace(case="A"))))
    assert turn.letter is not None
    assert turn.letter.value is None, "an empty value would be an event when it is sent again"


def test_what_was_given_up_is_not_tried_when_it_is_delivered_again(world: World) -> None:
    world.bugs = {"x-1"}
    world.say("x", 1)
    world.say("x", 2)
    world.discard(0)
    world.discard(1)
    assert world.take(world.log[1]).letter is None
    assert world.heard == ()


Actions = st.lists(
    st.tuples(
        st.sampled_from(["new", "new", "again", "redrive", "redrive", "discard", "repeat", "bug", "mend"]),
        st.sampled_from("xy"),
        st.integers(0, 30),
    ),
    max_size=60,
)


@settings(max_examples=400, deadline=None)
@given(Actions)
def test_events_of_a_source_are_never_out_of_order_and_none_is_lost(
    actions: list[tuple[str, str, int]],
) -> None:
    world, sent = World(), {"x": 0, "y": 0}
    for what, name, n in actions:
        mine = [offset for offset, one in world.waits.items() if source_in(one).endswith(f"|{name}")]
        match what:
            case "new":
                sent[name] += 1
                world.say(name, sent[name])
            case "again" if sent[name]:  # whoever published it does so twice
                world.say(name, 1 + n % sent[name])
            case "redrive" if mine:  # mostly in order, as it should be, and sometimes not
                world.redrive(mine[0] if n % 3 else mine[n % len(mine)])
            case "discard" if mine:
                world.discard(mine[n % len(mine)])
            case "repeat" if world.log:
                world.take(world.log[n % len(world.log)])
            case "bug":
                world.bugs.add(f"{name}-{sent[name] + 1 + n % 2}")
            case "mend":
                world.bugs.clear()
        _check(world, sent)
    world.bugs.clear()
    for offset in sorted(world.waits):
        assert world.redrive(offset).reason == "", "in order each goes through"
    _check(world, sent)
    assert world.parked == {}
    for name in "xy":
        assert world.say(name, sent[name] + 1).reason == "", "the source is free"


def _check(world: World, sent: dict[str, int]) -> None:
    waiting = {_id(one) for one in world.waits.values()}
    for name, newest in sent.items():
        heard = [int(id.partition("-")[2]) for id in world.heard if id.startswith(name)]
        assert heard == sorted(set(heard)), "once, and in order"
        for seq in range(1, newest + 1):
            known = f"{name}-{seq}" in waiting | world.given_up
            assert known or seq in heard, f"{name}-{seq} is lost"
        offsets = [offset for offset, one in world.waits.items() if source_in(one).endswith(f"|{name}")]
        assert world.parked.get(f"/svc/production/lot|{name}", ()) == tuple(sorted(offsets))
