"""The loop protocol: a repeat changes nothing, and says again what it said."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pharmaloop.loops.v1 import events_pb2 as loops
from services.kit.envelope import Event
from services.kit.errors import Poison
from services.kit.runners.loop import Case, Effect, Loop, MemoryLoop
from tests.unit.kit.support import NOON, lot_event


@dataclass(frozen=True)
class Heard:
    """Which events a case has heard, in order."""

    ids: tuple[str, ...] = ()
    digest: bytes = b"\x00\xff"


def react(state: Heard | None, event: Event) -> tuple[Heard, list[Effect]]:
    before = state or Heard()
    after = Heard((*before.ids, event.id))
    n = len(after.ids)
    effects: list[Effect] = []
    if event.actor != "silent":
        stage = loops.StageCompleted(run="run-1", stage=f"stage-{n}")
        effects = [Effect(stage, "run-1", n), Effect(loops.SealRequested(run="run-1", version=n), "run-1", n)]
    return after, effects


LOOP: Loop[Heard] = Loop("cases", Heard, react)


def cased(name: str, seq: int | None, **fields: str) -> Event:
    return lot_event(name, seq)._replace(case="case-1", **fields)  # type: ignore[arg-type]


def heard(driver: MemoryLoop[Heard], case: str = "case-1") -> tuple[str, ...]:
    state = driver.cases[case].state
    assert state is not None
    return state.ids


@pytest.fixture
def driver() -> MemoryLoop[Heard]:
    return MemoryLoop(LOOP)


def test_effects_follow_from_their_cause(driver: MemoryLoop[Heard]) -> None:
    stage, seal = driver.take(cased("a", 1, trace="00-aa-bb-01"))
    assert stage.message == loops.StageCompleted(run="run-1", stage="stage-1")
    assert (stage.source, stage.subject, stage.key, stage.seq) == ("/svc/loops/cases", "run-1", "run-1", 1)
    assert (stage.cause, stage.case, stage.run) == ("a-1", "case-1", "run-1")
    assert (stage.time, stage.actor, stage.trace) == (NOON, "service:loops", "00-aa-bb-01")
    assert stage.id != seal.id


def test_a_repeat_changes_nothing_and_the_latest_sends_again_under_the_same_ids(
    driver: MemoryLoop[Heard],
) -> None:
    # A crash between table and log loses the effects; the repeat is their second chance.
    first = driver.take(cased("a", 1))
    assert driver.take(cased("a", 1)) == first
    second = driver.take(cased("b", 1))
    before = driver.cases["case-1"]
    assert driver.take(cased("b", 1)) == second
    assert driver.take(cased("a", 1)) == [], "b was taken, so the log has the effects of a"
    assert driver.cases["case-1"] == before
    for event in (cased("a", 1), cased("b", 1)):
        assert LOOP.step(before, event)[0] is before, "the table is not written"


def test_effects_due_go_out_again_after_a_restart_whole_and_alone(driver: MemoryLoop[Heard]) -> None:
    driver.take(cased("a", 1))
    latest = driver.take(cased("b", 1, trace="00-aa-bb-01"))
    assert driver.restart() == latest, "ids, causes, times, traces: everything as it was"
    driver.take(cased("c", 1, actor="silent"))
    assert driver.restart() == [], "the latest event has no effects, and those before it are confirmed"


def test_an_event_without_a_version_is_refused(driver: MemoryLoop[Heard]) -> None:
    with pytest.raises(Poison, match="pl_seq is missing") as caught:
        driver.take(cased("a", None))
    assert caught.value.reason == "NO_VERSION"
    assert driver.cases == {}


def test_an_older_version_of_a_source_is_dropped(driver: MemoryLoop[Heard]) -> None:
    driver.take(cased("a", 3))
    assert driver.take(cased("a", 2)) == []
    assert heard(driver) == ("a-3",)


def test_sources_count_for_themselves(driver: MemoryLoop[Heard]) -> None:
    driver.take(cased("a", 5))
    driver.take(cased("b", 1))
    driver.take(cased("a", 1, source="/svc/elsewhere")._replace(id="other"))
    assert heard(driver) == ("a-5", "b-1", "other")


def test_an_event_without_effects_repeats_none(driver: MemoryLoop[Heard]) -> None:
    assert driver.take(cased("a", 1, actor="silent")) == []
    assert driver.take(cased("a", 1, actor="silent")) == []
    assert heard(driver) == ("a-1",)


def test_cases_are_apart(driver: MemoryLoop[Heard]) -> None:
    driver.take(cased("a", 1))
    driver.take(cased("a", 1)._replace(case="case-2"))
    assert {case: heard(driver, case) for case in driver.cases} == {"case-1": ("a-1",), "case-2": ("a-1",)}


def test_a_case_keeps_the_effects_of_its_latest_event_alone(driver: MemoryLoop[Heard]) -> None:
    sent = {n: driver.take(cased("a", n)) for n in range(1, 301)}
    case = driver.cases["case-1"]
    assert case.latest is not None
    assert (case.latest.id, len(case.latest.sent)) == ("a-300", 2)
    assert driver.take(cased("a", 300)) == sent[300]
    assert [driver.take(cased("a", n)) for n in (1, 100, 299)] == [[], [], []]
    assert len(heard(driver)) == 300, "and none is taken twice"


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(1, 5)), max_size=20))
def test_the_table_keeps_a_case_as_it_is(deliveries: list[tuple[str, int]]) -> None:
    case: Case[Heard] | None = None
    stored: Case[Heard] | None = None
    for name, seq in deliveries:
        event = cased(name, seq)
        case, out = LOOP.step(case, event)
        kept, again = LOOP.step(stored, event)
        stored = LOOP.load(LOOP.dump(kept))
        assert again == out
        assert (stored, LOOP.due(stored)) == (case, LOOP.due(case))
