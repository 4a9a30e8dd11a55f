"""Production's part of the safety loop: holds, answers, evidence, one proposal, one approval."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import pytest
from google.protobuf.message import Message
from hypothesis import given, settings
from hypothesis import strategies as st

from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.loops.v1 import events_pb2 as loops
from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.production.v1 import service_pb2 as api
from pharmaloop.traceability.v1 import events_pb2 as traceability
from services.kit.envelope import Event
from services.kit.errors import Invalid, Rejected, Unknown
from services.kit.runners.reactor import Reactor
from services.production.domain.equipment import Tag
from services.production.handlers import LISTS, QUALITY
from services.production.views import CAPA_ROWS, CAPAS, DEVIATION_ROWS, EVIDENCE, LIMITS, LOTS
from tests.unit.production.memory import START, Memory, minutes, said

PRODUCT, OVEN, TEMP = "maker/item/API", "plant-1/oven-1", Tag("Temp", "Cel")
ROOT, CHILD, FINISHED = f"{PRODUCT}/1", f"{PRODUCT}/2", "maker/gtin/09506000134352/7"
REACT = Reactor("quality", QUALITY)
LIST = Reactor("lists", LISTS, emits=False)
Said = tuple[Event, str]


def plant(memory: Memory, *lots: str) -> None:
    """Equipment is registered and the lots are started."""
    memory.ask(
        "RegisterEquipment",
        api.RegisterEquipmentRequest(
            equipment=OVEN, plant="plant-1", tags=[events.Tag(name=TEMP.name, unit=TEMP.unit)]
        ),
    )
    for lot in lots:
        memory.ask("StartLot", api.StartLotRequest(lot=lot, equipment=OVEN))


def of_run(message: Message, seq: int, run: str = "r1") -> Said:
    return said(message, minutes(seq), seq=seq, case=ROOT, run=run, subject=f"{type(message).__name__}/{run}")


def implicated(lot: str, seq: int, run: str = "r1") -> Said:
    return of_run(traceability.LotImplicated(run=run, lot=lot, root=ROOT, depth=seq - 1), seq, run)


def answers(site: str, answered: int, seq: int, complete: bool = True, run: str = "r1") -> Said:
    message = clinical.FollowUpSummarised(run=run, site=site, plans=30, answered=answered, complete=complete)
    return said(message, minutes(seq), seq=seq, case=ROOT, run=run, subject=f"{run}/{site}")


def told(site: str, number: int, answered: int, final: bool = True, run: str = "r1") -> Said:
    message = clinical.EvidenceReleased(
        run=run,
        site=site,
        lot=ROOT,
        number=number,
        final=final,
        plans=30,
        exposed=clinical.ReleasedRow(patients=answered, cases=answered // 2),
        comparators=clinical.ReleasedRow(withheld=True),
    )
    return said(message, minutes(number), seq=number, case=ROOT, run=run, subject=f"evidence/{run}/{site}")


def announced(version: int, *sites: str, run: str = "r1") -> Said:
    message = traceability.ExposureAnnounced(run=run, version=version, root=ROOT)
    for site in sites:
        message.sites[site].epoch = version
    return of_run(message, version, run)


def opened(run: str = "r1", follows: str = "") -> Said:
    message = loops.SafetyRunOpened(run=run, case=ROOT, lot=ROOT, follows=follows)
    if not follows:
        message.MergeFrom(loops.SafetyRunOpened(deviation="d1", product=PRODUCT, tag="Temp"))
    return of_run(message, 1, run)


def story() -> list[list[Said]]:
    """A run as the log keeps it: one sequence for each topic and key."""
    return [
        [opened()],
        [implicated(ROOT, 1), implicated(CHILD, 2), implicated(FINISHED, 3)],
        [announced(1, "a"), announced(2, "a", "b"), of_run(sealed(2), 9)],
        [answers("a", 10, 1, complete=False), answers("a", 30, 2)],
        [answers("b", 25, 1)],
        [told("a", 1, 10, final=False), told("a", 2, 30)],
        [told("b", 1, 25)],
    ]


def sealed(version: int) -> traceability.ExposureSealed:
    return traceability.ExposureSealed(run="r1", version=version)


def tell(sequences: list[list[Said]], order: list[int]) -> Memory:
    memory = Memory()
    plant(memory, ROOT)
    rest = [iter(sequence) for sequence in sequences]
    for place in order:
        memory.give(REACT, [next(rest[place])])
    return memory


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_every_interleaving_of_a_run_ends_alike(data: st.DataObject) -> None:
    sequences = story()
    places = [place for place, sequence in enumerate(sequences) for _ in sequence]
    memory = tell(sequences, data.draw(st.permutations(places)))
    plain = tell(sequences, places)
    for kind in (LOTS, EVIDENCE, CAPAS):
        assert memory.states(kind) == plain.states(kind)
    (capa,) = memory.out(events.CapaProposed)
    assert isinstance(capa.message, events.CapaProposed)
    assert (capa.message.answered, capa.message.affected) == (55, 27)
    assert (capa.message.lot, capa.message.deviation, capa.message.tag) == (ROOT, "d1", "Temp")
    answered: list[Any] = [event.message for event in memory.out(events.LotImplicationAnswered)]
    assert {answer.lot: answer.decision for answer in answered} == {
        ROOT: events.IMPLICATION_DECISION_HELD,
        CHILD: events.IMPLICATION_DECISION_HELD_WHEN_KNOWN,
        FINISHED: events.IMPLICATION_DECISION_HELD_WHEN_KNOWN,
    }
    for event in memory.out():
        if not isinstance(event.message, events.EquipmentRegistered | events.LotStarted):
            assert (event.case, event.run) == (ROOT, "r1"), type(event.message)


def test_a_remembered_lot_is_held_when_it_starts_in_the_name_of_its_run(memory: Memory) -> None:
    memory.give(REACT, [implicated(CHILD, 1)])
    plant(memory, CHILD)
    (held,) = memory.out(events.LotHeld)
    assert (held.subject, held.case, held.run) == (CHILD, ROOT, "r1")
    (began,) = memory.out(events.LotStarted)
    assert (began.case, began.run) == ("", "")
    assert memory.states(LOTS)[CHILD].state == "held"


def test_a_lot_that_is_held_or_rejected_is_answered_and_left_as_it_is(memory: Memory) -> None:
    plant(memory, ROOT, CHILD)
    memory.ask("HoldLot", api.HoldLotRequest(lot=ROOT, reason="by hand"))
    memory.ask("HoldLot", api.HoldLotRequest(lot=CHILD, reason="by hand"))
    memory.ask("RejectLot", api.RejectLotRequest(lot=CHILD, reason="spoiled"))
    memory.give(REACT, [implicated(ROOT, 1), implicated(CHILD, 2)])
    assert len(memory.out(events.LotHeld)) == 2
    answered: list[Any] = [event.message for event in memory.out(events.LotImplicationAnswered)]
    assert {answer.decision for answer in answered} == {
        events.IMPLICATION_DECISION_HELD,
        events.IMPLICATION_DECISION_REJECTED,
    }


def test_a_lot_answers_again_for_every_run(memory: Memory) -> None:
    plant(memory, ROOT)
    memory.give(REACT, [implicated(ROOT, 1), implicated(ROOT, 1, run="r2"), implicated(ROOT, 2, run="r2")])
    assert len(memory.out(events.LotImplicationAnswered)) == 3
    assert memory.states(LOTS)[ROOT].runs == ("r1", "r2")


@pytest.mark.parametrize("first", ["before", "after"])
def test_a_successor_run_is_about_the_same_deviation(memory: Memory, first: str) -> None:
    successor = [
        opened("r2", follows="r1"),
        announced(1, run="r2"),
        of_run(traceability.ExposureSealed(run="r2", version=1), 2, "r2"),
    ]
    for event in [opened(), *successor] if first == "before" else [*successor, opened()]:
        memory.give(REACT, [event])
    (capa,) = memory.out(events.CapaProposed)
    assert isinstance(capa.message, events.CapaProposed)
    assert (capa.message.run, capa.message.deviation, capa.message.tag) == ("r2", "d1", "Temp")


def answered_run() -> tuple[Memory, str]:
    """A run that brought its evidence about a confirmed deviation of its root, and the proposed action."""
    memory = Memory()
    plant(memory, ROOT)
    found = events.DeviationDetected(deviation="d1", lot=ROOT, product=PRODUCT, tag="Temp")
    memory.apply(LOTS, ROOT, found)
    memory.ask("ConfirmDeviation", api.ConfirmDeviationRequest(lot=ROOT, deviation="d1", reason="seen"))
    for event in (event for sequence in story() for event in sequence):
        memory.give(REACT, [event])
    (id,) = memory.states(CAPAS)
    return memory, id


def control(memory: Memory, id: str) -> None:
    """Take a signed action through change control."""
    shown = {"record": "V-1", "statement": "judged again"}
    memory.ask("RecordValidation", api.RecordValidationRequest(capa=id, **shown), minutes(60))
    assert not memory.states(LIMITS), "not before it is assessed"
    filing = api.RecordFilingAssessmentRequest(
        capa=id, category=events.FILING_CATEGORY_NOT_REPORTED, statement="inside the range"
    )
    memory.ask("RecordFilingAssessment", filing, minutes(70))


def test_an_action_goes_through_change_control_and_moves_the_limit_once() -> None:
    memory, id = answered_run()
    asked = api.ApproveCapaRequest(capa=id, meaning="I approve")
    memory.ask("ApproveCapa", asked, minutes(50))
    with pytest.raises(Rejected, match="ILLEGAL_TRANSITION"):
        memory.ask("ApproveCapa", asked)
    control(memory, id)
    told = [event for event in memory.out() if event.subject == id]
    assert [type(event.message) for event in told] == [
        events.CapaProposed,
        events.CapaApproved,
        events.ChangeValidated,
        events.ChangeFilingAssessed,
        events.ProcessLimitChanged,
        events.InsightPublished,
    ]
    assert {(event.case, event.run) for event in told} == {(ROOT, "r1")}
    limits = memory.states(LIMITS)[PRODUCT]
    assert (list(limits.now()), limits.version) == (["Temp"], 1)


def _refuse(memory: Memory, id: str) -> None:
    asked = api.RefuseCapaRequest(capa=id, reason="one site alone", meaning="I refuse")
    memory.ask("RefuseCapa", asked, minutes(50), "li")


def _close(memory: Memory, at: datetime) -> None:
    """A person classifies and closes the deviation."""
    of: dict[str, Any] = {"lot": ROOT, "deviation": "d1"}
    classified = api.ClassifyDeviationRequest(**of, severity=events.SEVERITY_MINOR, impact="none")
    memory.ask("ClassifyDeviation", classified, at)
    memory.ask("CloseDeviation", api.CloseDeviationRequest(**of, reason="judged without it"), at)


def test_a_refused_action_changes_no_limit_and_leaves_its_deviation_to_a_person() -> None:
    memory, id = answered_run()
    _refuse(memory, id)
    asked = api.ApproveCapaRequest(capa=id, meaning="I approve")
    with pytest.raises(Rejected, match="ILLEGAL_TRANSITION"):
        memory.ask("ApproveCapa", asked, minutes(51))
    told = [event for event in memory.out() if event.run == "r1" and event.time == minutes(50)]
    assert [type(event.message) for event in told] == [events.CapaRefused, events.DeviationCapaRefused]
    assert {event.case for event in told} == {ROOT}
    assert not memory.states(LIMITS)
    assert not memory.out(events.InsightPublished)
    (held,) = memory.states(LOTS)[ROOT].deviations
    assert (held.state, held.capa) == ("confirmed", "")
    assert memory.states(LOTS)[ROOT].state == "held", "lots are judged one by one"
    _close(memory, minutes(60))
    memory.give(LIST, memory.told())
    (capa,) = memory.states(CAPA_ROWS).values()
    assert events.CapaRefused.FromString(capa.refused).actor == "li"
    (row,) = memory.states(DEVIATION_ROWS).values()
    assert (row.state, row.capa) == ("closed", "")
    assert [one.event for one in row.history][1:4] == [
        "DeviationConfirmed",
        "DeviationCapaRequired",
        "DeviationCapaRefused",
    ]


def test_what_is_told_of_a_run_after_the_refusal_proposes_nothing_again() -> None:
    memory, id = answered_run()
    _refuse(memory, id)
    before = len(memory.out())
    memory.give(REACT, [told("a", 3, 60)])
    assert len(memory.out()) == before
    (held,) = memory.states(LOTS)[ROOT].deviations
    assert held.state == "confirmed"


def test_a_run_that_follows_a_refused_one_may_propose_for_the_deviation_again() -> None:
    memory, id = answered_run()
    _refuse(memory, id)
    for event in (
        opened("r2", follows="r1"),
        announced(1, run="r2"),
        of_run(traceability.ExposureSealed(run="r2", version=1), 2, "r2"),
    ):
        memory.give(REACT, [event])
    (held,) = memory.states(LOTS)[ROOT].deviations
    assert held.state == "capa_required"
    assert held.capa in memory.states(CAPAS).keys() - {id}


def test_a_deviation_that_a_person_closed_before_stays_closed_when_its_action_is_refused() -> None:
    memory, id = answered_run()
    _close(memory, minutes(45))
    _refuse(memory, id)
    (held,) = memory.states(LOTS)[ROOT].deviations
    assert (held.state, held.reason) == ("closed", "judged without it")
    assert not memory.out(events.DeviationCapaRefused)


@pytest.mark.parametrize(
    ("outcome", "deviation"),
    [
        (events.EFFECTIVENESS_OUTCOME_EFFECTIVE, "closed"),
        (events.EFFECTIVENESS_OUTCOME_NOT_EFFECTIVE, "capa_required"),
    ],
)
def test_an_effective_action_closes_its_deviation_and_another_leaves_it_to_quality(
    outcome: events.EffectivenessOutcome, deviation: str
) -> None:
    memory, id = answered_run()
    (held,) = memory.states(LOTS)[ROOT].deviations
    assert (held.state, held.capa) == ("capa_required", id)
    memory.ask("ApproveCapa", api.ApproveCapaRequest(capa=id, meaning="I approve"), minutes(50))
    control(memory, id)
    checked = api.RecordEffectivenessCheckRequest(capa=id, outcome=outcome, statement="20 lots since")
    memory.ask("RecordEffectivenessCheck", checked, minutes(90))
    (held,) = memory.states(LOTS)[ROOT].deviations
    assert held.state == deviation
    assert memory.states(CAPAS)[id].state == "closed"
    memory.give(LIST, memory.told())
    (row,) = memory.states(CAPA_ROWS).values()
    assert row.state == "closed"
    assert events.ChangeValidated.FromString(row.validated).record == "V-1"
    assert events.CapaEffectivenessChecked.FromString(row.check).outcome == outcome


def test_the_lists_show_what_was_judged_and_by_whom(memory: Memory) -> None:
    detected = events.DeviationDetected(deviation="d1", lot=ROOT, product=PRODUCT, tag="Temp")
    detected.detected.FromDatetime(START)
    confirmed = events.DeviationConfirmed(deviation="d1", lot=ROOT, actor="qa", reason="seen")
    proposed = events.CapaProposed(capa="c1", run="r1")
    approved = events.CapaApproved(capa="c1", run="r1", actor="qa")
    told = [
        said(detected, minutes(3), seq=1, subject=ROOT),
        said(confirmed, minutes(4), seq=2, subject=ROOT),
        said(proposed, minutes(5), seq=1, subject="c1"),
        said(approved, minutes(6), seq=2, subject="c1"),
    ]
    memory.give(LIST, told)
    memory.give(LIST, told)
    (row,) = memory.states(DEVIATION_ROWS).values()
    assert (row.state, row.actor, row.reason, row.at) == (
        "confirmed",
        "qa",
        "seen",
        "2026-03-01T00:00:00.000000+00:00",
    )
    (capa,) = memory.states(CAPA_ROWS).values()
    assert (capa.state, capa.actor, capa.at[:16]) == ("approved", "qa", "2026-03-01T00:05")


@pytest.mark.parametrize(
    ("method", "request_", "error", "told"),
    [
        ("StartLot", api.StartLotRequest(lot="x", equipment=OVEN), Invalid, ("NOT_CANONICAL", "lot")),
        (
            "StartLot",
            api.StartLotRequest(lot=CHILD, equipment="none"),
            Unknown,
            ("UNKNOWN_EQUIPMENT", "equipment"),
        ),
        (
            "StartLot",
            api.StartLotRequest(lot=CHILD, product="a/b/c", equipment=OVEN),
            Invalid,
            ("WRONG_PRODUCT", "product"),
        ),
        ("StartLot", api.StartLotRequest(lot=ROOT, equipment=OVEN), Rejected, ("ILLEGAL_TRANSITION", "lot")),
        ("CompleteLot", api.CompleteLotRequest(lot=CHILD), Unknown, ("UNKNOWN_LOT", "lot")),
        ("HoldLot", api.HoldLotRequest(lot=ROOT), Invalid, ("REQUIRED", "reason")),
        ("ReleaseLot", api.ReleaseLotRequest(lot=ROOT), Rejected, ("ILLEGAL_TRANSITION", "lot")),
        ("RejectLot", api.RejectLotRequest(lot=ROOT, reason="x"), Rejected, ("ILLEGAL_TRANSITION", "lot")),
        (
            "ConfirmDeviation",
            api.ConfirmDeviationRequest(lot=ROOT, deviation="x", reason="x"),
            Unknown,
            ("UNKNOWN_DEVIATION", "deviation"),
        ),
        ("ApproveCapa", api.ApproveCapaRequest(capa="x", meaning="x"), Unknown, ("UNKNOWN_CAPA", "capa")),
        ("RecordValidation", api.RecordValidationRequest(capa="x"), Unknown, ("UNKNOWN_CAPA", "capa")),
        (
            "RecordFilingAssessment",
            api.RecordFilingAssessmentRequest(capa="x"),
            Unknown,
            ("UNKNOWN_CAPA", "capa"),
        ),
        (
            "RecordEffectivenessCheck",
            api.RecordEffectivenessCheckRequest(capa="x"),
            Unknown,
            ("UNKNOWN_CAPA", "capa"),
        ),
    ],
)
def test_a_command_is_refused_with_the_platforms_error(
    memory: Memory, method: str, request_: Any, error: type[Rejected], told: tuple[str, str]
) -> None:
    plant(memory, ROOT)
    before = len(memory.database.outbox)
    with pytest.raises(error) as refused:
        memory.ask(method, request_)
    assert (refused.value.reason, refused.value.field) == told
    assert len(memory.database.outbox) == before, "nothing half-written"
