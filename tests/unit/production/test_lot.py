"""The lot's quality state against a small model of its own, and every illegal step by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pharmaloop.production.v1 import events_pb2 as events
from services.production.domain import deviation as deviations
from services.production.domain import lot as lots
from services.production.domain.record import Lot, known
from services.refusals import Absent, Malformed, Refusal

KEY, PRODUCT = "maker/item/API/1", "maker/item/API"
AT = Timestamp()
SEVERITIES = (events.SEVERITY_MINOR, events.SEVERITY_MAJOR, events.SEVERITY_CRITICAL)
AT.FromDatetime(datetime(2026, 3, 1, tzinfo=UTC))


def started() -> events.LotStarted:
    return events.LotStarted(lot=KEY, product=PRODUCT, equipment="plant-1/dryer-1", at=AT)


def completed() -> events.LotCompleted:
    return events.LotCompleted(lot=KEY, at=AT)


def detected(id: str) -> events.DeviationDetected:
    return events.DeviationDetected(deviation=id, lot=KEY, product=PRODUCT, tag=f"tag-{id}")


def fold(lot: Lot | None, decided: list[Message]) -> Lot | None:
    for event in decided:
        lot = lots.evolve(lot, event)
    return lot


@dataclass
class Model:
    """What the rules say, in the plainest words: no shared code with the domain."""

    there: bool = False
    ran: bool = False
    over: bool = False
    quality: str = ""
    deviations: dict[str, str] = field(default_factory=dict)
    classes: dict[str, int] = field(default_factory=dict)

    def may(self, step: str) -> bool:
        if step == "start":
            return not self.there or (self.quality == "held" and not self.ran)
        if step == "complete":
            return self.ran and not self.over and self.quality in ("started", "held")
        if step == "hold":
            return self.quality in ("started", "completed", "released")
        if step == "release":
            clean = all(
                state == "rejected" or (state == "closed" and 0 < self.classes.get(id, 0) < 3)
                for id, state in self.deviations.items()
            )
            return self.quality in ("completed", "held") and clean and (self.over or not self.ran)
        assert step == "reject"
        return self.quality in ("completed", "held", "released")


class LotMachine(RuleBasedStateMachine):
    """Random lives of a lot; after each step the domain and the model agree."""

    def __init__(self) -> None:
        super().__init__()
        self.lot: Lot | None = None
        self.model = Model()

    def step(self, step: str, decided: list[Message] | Refusal) -> bool:
        """Did it go through? It must, exactly when the model says so."""
        allowed = self.model.may(step)
        assert isinstance(decided, Refusal) != allowed, (step, self.model, decided)
        if isinstance(decided, Refusal):
            assert decided.reason
            assert decided.field
            return False
        self.lot = fold(self.lot, decided)
        return True

    @rule()
    def start(self) -> None:
        if self.step("start", attempt(lots.decide_start, self.lot, started())):
            self.model.quality = "held" if self.model.there else "started"
            self.model.there = self.model.ran = True

    @rule()
    def complete(self) -> None:
        if self.step("complete", attempt(lots.decide_complete, self.lot, completed())):
            self.model.over = True
            if self.model.quality == "started":
                self.model.quality = "completed"

    @rule()
    def hold(self) -> None:
        if self.step("hold", attempt(lots.decide_hold, self.lot, "why", "qa")):
            self.model.quality = "held"

    @rule()
    def release(self) -> None:
        if self.step("release", attempt(lots.decide_release, self.lot, "qa")):
            self.model.quality = "released"

    @rule()
    def reject(self) -> None:
        if self.step("reject", attempt(lots.decide_reject, self.lot, "why", "qa")):
            self.model.quality = "rejected"

    @precondition(lambda self: self.model.ran)
    @rule(id=st.sampled_from("abc"))
    def detect(self, id: str) -> None:
        decided = deviations.decide_detect(self.lot, detected(id))
        assert bool(decided) == (id not in self.model.deviations)
        self.lot = fold(self.lot, decided)
        self.model.deviations.setdefault(id, "open")

    @rule(id=st.sampled_from("abc"), real=st.booleans())
    def judge(self, id: str, real: bool) -> None:
        decide = lots.decide_confirm if real else deviations.decide_reject
        decided = attempt(decide, self.lot, id, "why", "qa")
        unjudged = self.model.deviations.get(id) in ("open", "under_investigation")
        assert isinstance(decided, Refusal) != unjudged
        if isinstance(decided, Refusal):
            return
        self.lot = fold(self.lot, decided)
        self.model.deviations[id] = "confirmed" if real else "rejected"
        if real and self.model.quality != "rejected":
            self.model.quality = "held"

    @rule(id=st.sampled_from("abc"))
    def investigate(self, id: str) -> None:
        decided = attempt(deviations.decide_investigate, self.lot, id, "why", "qa")
        assert isinstance(decided, Refusal) == (self.model.deviations.get(id) != "open")
        if not isinstance(decided, Refusal):
            self.lot = fold(self.lot, decided)
            self.model.deviations[id] = "under_investigation"

    @rule(id=st.sampled_from("abc"), severity=st.sampled_from(SEVERITIES))
    def classify(self, id: str, severity: events.Severity) -> None:
        decided = attempt(deviations.decide_classify, self.lot, id, severity, "none", "qa")
        state = self.model.deviations.get(id, "rejected")
        allowed = state != "rejected" and not (state == "closed" and id in self.model.classes)
        assert isinstance(decided, Refusal) != allowed
        if not isinstance(decided, Refusal):
            self.lot = fold(self.lot, decided)
            self.model.classes[id] = severity

    @rule(id=st.sampled_from("abc"), capa=st.sampled_from(["c1", "c2"]))
    def require_capa(self, id: str, capa: str) -> None:
        decided = deviations.decide_require_capa(self.lot, id, capa)
        assert bool(decided) == (self.model.deviations.get(id) == "confirmed")
        self.lot = fold(self.lot, decided)
        if decided:
            self.model.deviations[id] = "capa_required"

    @rule(id=st.sampled_from("abc"))
    def close(self, id: str) -> None:
        decided = attempt(deviations.decide_close, self.lot, id, "why", "qa")
        real = self.model.deviations.get(id) in ("confirmed", "capa_required")
        assert isinstance(decided, Refusal) != (real and id in self.model.classes)
        if not isinstance(decided, Refusal):
            self.lot = fold(self.lot, decided)
            self.model.deviations[id] = "closed"

    @rule(run=st.sampled_from(["r1", "r2"]))
    def implicate(self, run: str) -> None:
        decided = lots.decide_implicate(self.lot, KEY, run, "root")
        answers = [event for event in decided if isinstance(event, events.LotImplicationAnswered)]
        assert len(answers) == 1, "every run is answered, every time"
        self.lot = fold(self.lot, decided)
        self.model.there = True
        if self.model.quality != "rejected":
            self.model.quality = "held"
        expected = events.IMPLICATION_DECISION_HELD
        if self.model.quality == "rejected":
            expected = events.IMPLICATION_DECISION_REJECTED
        elif not self.model.ran and not any(isinstance(e, events.LotHeld) for e in decided):
            expected = events.IMPLICATION_DECISION_HELD_WHEN_KNOWN
        assert answers[0].decision == expected
        assert self.lot is not None
        assert run in self.lot.runs

    @invariant()
    def agree(self) -> None:
        assert (self.lot is not None) == self.model.there
        if self.lot is None:
            return
        assert self.lot.state == self.model.quality
        assert bool(self.lot.started) == self.model.ran
        assert bool(self.lot.completed) == self.model.over
        assert {d.deviation: d.state for d in self.lot.deviations} == self.model.deviations

    @invariant()
    def nothing_suspect_is_released(self) -> None:
        """Whatever a person judged to be real holds the lot until that person has closed it."""
        if self.lot is not None and self.lot.state == "released":
            assert not any(d.state in ("confirmed", "capa_required") for d in self.lot.deviations)


def attempt(decide: object, *arguments: object) -> list[Message] | Refusal:
    try:
        return decide(*arguments)  # type: ignore[operator, no-any-return]
    except Refusal as refusal:
        return refusal


TestLotMachine = LotMachine.TestCase
TestLotMachine.settings = settings(max_examples=150, stateful_step_count=30, deadline=None)


def lot_in(state: str) -> Lot:
    """A lot that came to the state by legal steps."""
    lot = fold(None, [started()])
    if state == "started":
        return known(lot)
    lot = fold(lot, lots.decide_complete(lot, completed()))
    ways: dict[str, Callable[[], list[Message]]] = {
        "completed": lambda: [],
        "held": lambda: lots.decide_hold(lot, "why", "qa"),
        "released": lambda: lots.decide_release(lot, "qa"),
        "rejected": lambda: lots.decide_reject(lot, "why", "qa"),
    }
    return known(fold(lot, ways[state]()))


STATES = ("started", "completed", "held", "released", "rejected")
LEGAL = {
    ("started", "completed"),
    ("started", "held"),
    ("completed", "released"),
    ("completed", "held"),
    ("completed", "rejected"),
    ("held", "released"),
    ("held", "rejected"),
    ("released", "held"),
    ("released", "rejected"),
}


def move(lot: Lot, to: str) -> list[Message]:
    ways = {
        "started": lambda: lots.decide_start(lot, started()),
        "completed": lambda: lots.decide_complete(lot, completed()),
        "held": lambda: lots.decide_hold(lot, "why", "qa"),
        "released": lambda: lots.decide_release(lot, "qa"),
        "rejected": lambda: lots.decide_reject(lot, "why", "qa"),
    }
    return ways[to]()


@pytest.mark.parametrize("to", STATES)
@pytest.mark.parametrize("state", STATES)
def test_every_pair_of_states_is_a_way_or_refused_with_the_reason(state: str, to: str) -> None:
    lot = lot_in(state)
    if (state, to) in LEGAL:
        moved = fold(lot, move(lot, to))
        assert moved is not None
        assert moved.state == to
        return
    with pytest.raises(Refusal) as refused:
        move(lot, to)
    assert (refused.value.reason, refused.value.field) == ("ILLEGAL_TRANSITION", "lot")
    assert state in refused.value.description
    assert to in refused.value.description


def test_a_lot_held_while_it_runs_completes_and_stays_held() -> None:
    held = fold(lot_in("started"), [events.LotHeld(lot=KEY, reason="why")])
    over = known(fold(held, lots.decide_complete(held, completed())))
    assert (over.state, over.completed) == ("held", "2026-03-01T00:00:00.000000+00:00")
    assert lots.decide_release(over, "qa")


def test_a_lot_held_while_it_runs_is_not_released_before_its_run_is_over() -> None:
    held = fold(lot_in("started"), [events.LotHeld(lot=KEY, reason="why")])
    with pytest.raises(Refusal, match="RUN_NOT_COMPLETE"):
        lots.decide_release(held, "qa")


@pytest.mark.parametrize(("real", "reason"), [(None, "DEVIATION_OPEN"), (True, "DEVIATION_CONFIRMED")])
def test_nothing_is_released_with_a_deviation_that_is_no_false_alarm(real: bool | None, reason: str) -> None:
    lot = fold(lot_in("completed"), [detected("d")])
    if real:
        lot = fold(lot, lots.decide_confirm(lot, "d", "seen", "qa"))
    with pytest.raises(Refusal) as refused:
        lots.decide_release(lot, "qa")
    assert refused.value.reason == reason


def test_a_confirmed_deviation_holds_a_released_lot_and_names_its_tag() -> None:
    lot = fold(lot_in("released"), [detected("d")])
    decided = lots.decide_confirm(lot, "d", "seen", "qa")
    assert [type(event) for event in decided] == [events.DeviationConfirmed, events.LotHeld]
    assert isinstance(decided[0], events.DeviationConfirmed)
    assert (decided[0].product, decided[0].tag, decided[0].actor) == (PRODUCT, "tag-d", "qa")


def test_a_rejected_lots_deviation_may_be_confirmed_for_patients_may_have_it() -> None:
    lot = fold(lot_in("rejected"), [detected("d")])
    decided = lots.decide_confirm(lot, "d", "seen", "qa")
    assert [type(event) for event in decided] == [events.DeviationConfirmed]


@pytest.mark.parametrize(
    ("deviation", "reason", "error", "told"),
    [
        ("x", "why", Absent, ("UNKNOWN_DEVIATION", "deviation")),
        ("d", " ", Malformed, ("REQUIRED", "reason")),
        ("e", "why", Refusal, ("ALREADY_JUDGED", "deviation")),
    ],
)
def test_a_judgement_is_refused_with_the_reason(
    deviation: str, reason: str, error: type[Refusal], told: tuple[str, str]
) -> None:
    lot = fold(lot_in("completed"), [detected("d"), detected("e"), events.DeviationRejected(deviation="e")])
    for decide in (lots.decide_confirm, deviations.decide_reject):
        with pytest.raises(error) as refused:
            decide(lot, deviation, reason, "qa")
        assert (refused.value.reason, refused.value.field) == told


@pytest.mark.parametrize("to", ["completed", "held", "released", "rejected"])
def test_a_lot_that_is_not_known_is_absent(to: str) -> None:
    with pytest.raises(Absent) as refused:
        move(None, to)  # type: ignore[arg-type]
    assert (refused.value.reason, refused.value.field) == ("UNKNOWN_LOT", "lot")


def test_a_lot_implicated_before_it_is_known_is_held_as_soon_as_it_starts() -> None:
    lot = fold(None, lots.decide_implicate(None, KEY, "r1", "root"))
    assert known(lot).state == "held"
    again = lots.decide_implicate(lot, KEY, "r2", "root")
    assert [e.decision for e in again if isinstance(e, events.LotImplicationAnswered)] == [
        events.IMPLICATION_DECISION_HELD_WHEN_KNOWN
    ]
    lot = fold(lot, again)
    decided = lots.decide_start(lot, started())
    assert [type(event) for event in decided] == [events.LotStarted, events.LotHeld]
    held = known(fold(lot, decided))
    assert (held.state, held.product, held.runs) == ("held", PRODUCT, ("r1", "r2"))
