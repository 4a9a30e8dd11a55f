"""The actors against a platform that only writes down what it is told."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from pharmaloop.clinical.v1 import events_pb2 as clinical_events
from pharmaloop.clinical.v1 import service_pb2 as clinical
from pharmaloop.loops.v1 import events_pb2 as loops_events
from pharmaloop.loops.v1 import service_pb2 as loops
from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.production.v1 import service_pb2 as production
from pharmaloop.traceability.v1 import events_pb2 as trace_events
from pharmaloop.traceability.v1 import service_pb2 as traceability
from services.world.actors.charts import ChartRoom
from services.world.actors.desk import Desk
from services.world.actors.hospital import HospitalClerk
from services.world.actors.laboratory import Laboratory
from services.world.actors.line import Pace, PlantLine
from services.world.actors.notices import NoticeDesk
from services.world.actors.pharmacist import Pharmacist
from services.world.actors.pharmacy import PharmacyClerk
from services.world.actors.quality import HeadOfQuality, QualityAssurance
from services.world.actors.supply import Supply
from services.world.dryer_runs import TAGS
from services.world.entities import Dispense
from services.world.records import Hospital, World
from services.world.signals import Model
from services.world.worldgen.cdisc import Pilot
from tests.unit.world.support import Recorder, for_a_while

MODEL = Model({tag.name: (1.0,) for tag in TAGS})
ROOT = "maker-1/item/granulate/G-0041"
DeskFor = Callable[[str], Desk]


async def send_everything(world: World, desk_for: DeskFor) -> None:
    """All that the world sends by itself, as the simulation does it."""
    supply = Supply(desk_for, world.materials, world.shipments)
    await supply.record_past()
    await supply.record_late()
    for hospital in world.hospitals:
        clerk = HospitalClerk(desk_for(f"{hospital.site}/clerk"), hospital)
        await clerk.send_records()
        await clerk.send_late()
    for pharmacy in world.pharmacies:
        shop = PharmacyClerk(desk_for(pharmacy.name), pharmacy)
        await shop.send_records()
        await shop.send_late()
    for line in world.lines:
        plant = PlantLine(desk_for(f"{line.plant}/historian"), line, lambda lot: None)
        await plant.register()
        await plant.record_history()
        await plant.train()
        await plant.replay(MODEL, Pace(1000.0, lambda: False))


def with_a_run(recorder: Recorder) -> None:
    """A run of the loop on ROOT goes on."""
    run = loops.Run(
        run="run-1", state=loops.RUN_STATE_OPEN, opened=loops_events.SafetyRunOpened(run="run-1", lot=ROOT)
    )
    recorder.answers["ListRuns"] = lambda request: loops.ListRunsResponse(runs=[run])


# -- everything -------------------------------------------------------------------


async def test_what_is_sent_is_the_world_and_names_no_subject_of_the_study(
    world: World, pilot: Pilot, desk_for: DeskFor, recorder: Recorder
) -> None:
    await send_everything(world, desk_for)
    sent = b"".join(message.SerializeToString() for _, _, message in recorder.sent)
    for subject in pilot.subjects:
        assert subject.usubjid.encode() not in sent
        assert subject.usubjid.split("-", 1)[1].encode() not in sent
    told = {item.dispense for request in recorder.of("RecordDispense") for item in request.dispenses}
    told |= {item.dispense for request in recorder.of("RecordMedications") for item in request.medications}
    never = {item.dispense for hospital in world.hospitals for item in hospital.feed.never}
    never |= {item.dispense for pharmacy in world.pharmacies for item in pharmacy.feed.never}
    assert {item.dispense for item in world.dispenses} - told <= never
    people = {item.pseudonym for request in recorder.of("RecordSubjects") for item in request.subjects}
    assert people == {body.pseudonym for hospital in world.hospitals for body in hospital.bodies}
    materials = [item for request in recorder.of("RecordMaterial") for item in request.materials]
    assert len(materials) == len(world.materials)
    assert sum(len(request.shipments) for request in recorder.of("RecordShipments")) == len(world.shipments)
    assert sum(len(request.returns) for request in recorder.of("RecordReturns")) == len(list(world.returns()))


async def test_what_was_sent_is_not_sent_again(world: World, desk_for: DeskFor, recorder: Recorder) -> None:
    await send_everything(world, desk_for)
    recorder.sent.clear()
    await send_everything(world, desk_for)
    assert {name for name, _, _ in recorder.sent} == {"RegisterEquipment", "GetModel"}


async def test_a_correction_takes_back_what_was_said_and_says_what_is_right(
    world: World, desk_for: DeskFor, recorder: Recorder
) -> None:
    await send_everything(world, desk_for)
    calls = [(name, message) for name, _, message in recorder.sent]
    expected = {(source, item.wrong.dispense, item.right.dispense) for source, item in world.corrections()}
    seen = set()
    for place, (name, message) in enumerate(calls):
        if name == "RecordCorrections":
            (one,) = message.corrections  # type: ignore[attr-defined]
            after = {item.dispense for item in calls[place + 1][1].dispenses}  # type: ignore[attr-defined]
            assert after == {one.replaced_by}
            seen.add((one.source, one.dispense, one.replaced_by))
        if name == "RecordMedicationCorrections":
            (one,) = message.corrections  # type: ignore[attr-defined]
            (after_one,) = calls[place + 1][1].medications  # type: ignore[attr-defined]
            seen.add((one.site, one.dispense, after_one.dispense))
    assert seen == expected


async def test_a_returned_pack_says_whether_it_was_opened(
    world: World, desk_for: DeskFor, recorder: Recorder
) -> None:
    await send_everything(world, desk_for)
    told = {
        item.dispense: item.state == trace_events.RETURN_STATE_UNOPENED
        for request in recorder.of("RecordReturns")
        for item in request.returns
    }
    assert told == {item.dispense.dispense: not item.opened for item in world.returns()}


async def test_a_patient_who_is_found_out_is_told_under_the_same_id(
    world: World, desk_for: DeskFor, recorder: Recorder
) -> None:
    await send_everything(world, desk_for)
    told: dict[str, list[str]] = {}
    for request in recorder.of("RecordDispense"):
        for item in request.dispenses:
            told.setdefault(item.dispense, []).append(item.pseudonym)
    for pharmacy in world.pharmacies:
        for late in pharmacy.found_out:
            assert told[late.dispense.dispense] == ["", late.dispense.pseudonym]


async def test_request_ids_are_the_same_after_a_crash(
    world: World, desk_for: DeskFor, recorder: Recorder
) -> None:
    pharmacy = world.pharmacies[0]
    await PharmacyClerk(desk_for(pharmacy.name), pharmacy).send_records()
    first = list(recorder.sent)
    recorder.sent.clear()
    again = desk_for(pharmacy.name)
    again.progress._done.clear()  # the progress file was lost
    await PharmacyClerk(again, pharmacy).send_records()
    assert recorder.sent == first
    ids = [message.request_id for _, _, message in first]  # type: ignore[attr-defined]
    assert len(ids) == len(set(ids))


# -- the plants ---------------------------------------------------------------------


@pytest.mark.parametrize("place", [0, 1])
async def test_a_live_run_goes_on_where_it_stopped(
    world: World, desk_for: DeskFor, recorder: Recorder, place: int
) -> None:
    line = world.lines[place]
    lot = next(lot for lot in line.lots if lot.live)
    step = (lot.completed - lot.started) / (lot.samples - 1)
    desk = desk_for(f"{line.plant}/historian")
    for other in line.lots:
        desk.progress.set_count(other.lot, 50 if other is lot else 0)
        if other is not lot:
            desk.progress.finish(f"live:{other.lot}")
    slips: list[str] = []
    await PlantLine(desk, line, slips.append).replay(MODEL, Pace(1000.0, lambda: False))
    batches = [batch for request in recorder.of("RecordReadings") for batch in request.batches]
    assert sum(len(batch.offsets_ms) for batch in batches) == lot.samples - 50
    assert batches[0].start.at.ToDatetime() == lot.started.replace(tzinfo=None) + step * 50
    assert slips == [lot.lot]


async def test_no_run_is_started_once_there_are_enough_loops(
    world: World, desk_for: DeskFor, recorder: Recorder
) -> None:
    line = PlantLine(desk_for("plant-1/historian"), world.lines[0], lambda lot: None)
    await line.replay(MODEL, Pace(1000.0, lambda: True))
    assert recorder.sent == []


# -- quality ------------------------------------------------------------------------


def deviation(lot: str, magnitude: float) -> production.Deviation:
    """Of a tag whose limits are -5 and 5: five quiet samples, then one far out."""
    values = (0, 0, 0, 0, 0, 9)
    return production.Deviation(
        detected=events.DeviationDetected(
            deviation=f"d-{lot}",
            lot=lot,
            tag="T",
            magnitude=magnitude,
            limit=5,
            samples_out=1,
            evidence=[events.EvidencePoint(value=value, expected=0, low=-5, high=5) for value in values],
        ),
        state=production.DEVIATION_STATE_OPEN,
    )


@pytest.mark.parametrize("manual", [False, True])
async def test_quality_assurance_judges_its_own_lots_unless_a_person_does(
    desk_for: DeskFor, recorder: Recorder, quick: None, manual: bool
) -> None:
    lots = ("m/item/g/1", "m/item/g/2")
    found = [deviation(lots[0], 12.0), deviation(lots[1], 3.1), deviation("m/item/g/another-worlds", 12.0)]
    recorder.answers["ListDeviations"] = lambda request: production.ListDeviationsResponse(deviations=found)
    await for_a_while(QualityAssurance(desk_for("qa"), lots, manual=manual).run())
    confirmed = {request.lot for request in recorder.of("ConfirmDeviation")}
    rejected = {request.lot for request in recorder.of("RejectDeviation")}
    assert confirmed == (set() if manual else {"m/item/g/1"})
    assert rejected == (set() if manual else {"m/item/g/2"})
    assert len({request.request_id for request in recorder.of("ConfirmDeviation")}) <= 1


@pytest.mark.parametrize(
    ("state", "deviations", "released"),
    [
        (production.LOT_STATE_COMPLETED, [], True),
        (production.LOT_STATE_HELD, [], False),
        (production.LOT_STATE_COMPLETED, [deviation("m/item/g/1", 9.0)], False),
    ],
)
async def test_only_sound_lots_are_released(
    desk_for: DeskFor, recorder: Recorder, quick: None, state: Any, deviations: Any, released: bool
) -> None:
    lot = production.Lot(lot="m/item/g/1", state=state, deviations=deviations)
    recorder.answers["GetLot"] = lambda request: production.GetLotResponse(lot=lot)
    qa = QualityAssurance(desk_for("qa"), [lot.lot], manual=False)
    qa.hand_in("m/item/g/1")
    await for_a_while(qa.run())
    assert bool(recorder.of("ReleaseLot")) is released
    assert qa.waiting() == (1 if deviations else 0)


def out_of_specification(lot: str, state: Any = production.LOT_STATE_COMPLETED) -> production.Lot:
    opened = production.Investigation(investigation="i-1", test="assay", rule="assay of 80 % is below")
    return production.Lot(lot=lot, state=state, investigations=[opened])


@pytest.mark.parametrize("manual", [False, True])
@pytest.mark.parametrize("retest", ["", "r-2"])
async def test_what_is_out_of_specification_is_investigated_and_the_lot_decided(
    desk_for: DeskFor, recorder: Recorder, quick: None, retest: str, manual: bool
) -> None:
    """A retest within specification shows an error of the laboratory; without one the lot is rejected."""
    lot = out_of_specification("m/item/g/1")
    lot.investigations[0].retest = retest

    def close(request: production.CloseInvestigationRequest) -> production.CloseInvestigationResponse:
        lot.investigations[0].outcome = request.outcome
        if request.outcome == events.INVESTIGATION_OUTCOME_CONFIRMED:
            lot.state = production.LOT_STATE_HELD
        return production.CloseInvestigationResponse()

    recorder.answers["GetLot"] = lambda request: production.GetLotResponse(lot=lot)
    recorder.answers["CloseInvestigation"] = close
    qa = QualityAssurance(desk_for("qa"), [lot.lot], manual=manual)
    qa.hand_in(lot.lot)
    await for_a_while(qa.run())
    closed = [(one.lot, one.investigation, one.outcome) for one in recorder.of("CloseInvestigation")]
    stands, erred = events.INVESTIGATION_OUTCOME_CONFIRMED, events.INVESTIGATION_OUTCOME_LABORATORY_ERROR
    assert closed == ([] if manual else [(lot.lot, "i-1", erred if retest else stands)])
    assert len(recorder.of("ReleaseLot")) == (1 if retest and not manual else 0)
    assert len(recorder.of("RejectLot")) == (0 if retest or manual else 1)
    assert qa.waiting() == (1 if manual else 0), "a person's lot waits for the person"


async def test_the_laboratory_hands_a_lot_on_when_its_results_are_recorded(
    world: World, desk_for: DeskFor, recorder: Recorder, quick: None
) -> None:
    lot, other = (item.lot for item in world.lines[0].lots[:2])
    handed: list[tuple[str, int]] = []
    lab = Laboratory(
        desk_for("plant-1/laboratory"),
        "plant-1/lims",
        world.lot_tests,
        lambda lot: handed.append((lot, len(recorder.of("RecordTestResults")))),
    )
    lab.hand_in(lot)
    assert lab.waiting() == 1
    await for_a_while(lab.run())
    assert handed == [(lot, 1)]
    assert lab.waiting() == 0
    (request,) = recorder.of("RecordTestResults")
    tests = {test.test: test for test in world.lot_tests if test.lot == lot}
    assert len(request.results) == len(tests) == 4
    for result in request.results:
        test = tests[result.test]
        assert (result.lot, result.unit, result.source) == (lot, test.unit, "plant-1/lims")
        assert (result.value, result.low, result.high) == (test.value, test.low, test.high)
        assert result.at.at.ToDatetime(test.at.tzinfo) == test.at
    await lab.record([lot, other])
    assert {result.lot for result in recorder.of("RecordTestResults")[1].results} == {other}, "each lot once"


async def test_what_is_out_of_specification_is_tested_again(
    world: World, desk_for: DeskFor, recorder: Recorder, quick: None
) -> None:
    """By a record of its own, later: what was misread then is within, what is bad stays out."""
    made = [lot.lot for lot in world.lines[1].lots]
    suspect = [test for test in world.lot_tests if test.lot in made and test.suspect]
    assert {test.misread is None for test in suspect} == {True, False}
    lab = Laboratory(desk_for("plant-2/laboratory"), "plant-2/lims", world.lot_tests, lambda lot: None)
    await lab.record({test.lot for test in suspect})
    first, again = recorder.of("RecordTestResults")
    before = {(one.lot, one.test): one for one in first.results}
    assert [(one.lot, one.test) for one in again.results] == [
        (one.lot, one.test) for one in first.results if not one.low <= one.value <= one.high
    ]
    sound = {(test.lot, test.test) for test in suspect if test.misread is not None}
    for one in again.results:
        old = before[one.lot, one.test]
        assert one.record != old.record
        assert one.at.at.ToDatetime() > old.at.at.ToDatetime()
        assert (one.low <= one.value <= one.high) is ((one.lot, one.test) in sound)


async def test_the_history_of_a_line_does_not_wait_for_lots_of_another(
    desk_for: DeskFor, recorder: Recorder, quick: None
) -> None:
    lot = production.Lot(lot="m/item/g/1", state=production.LOT_STATE_COMPLETED)
    recorder.answers["GetLot"] = lambda request: production.GetLotResponse(lot=lot)
    qa = QualityAssurance(desk_for("qa"), [lot.lot], manual=False)
    judging = asyncio.create_task(qa.run())
    qa.hand_in("m/item/live/1")
    await asyncio.wait_for(qa.release_now([lot.lot]), 5)
    judging.cancel()
    assert {request.lot for request in recorder.of("ReleaseLot")} >= {lot.lot}


async def test_the_head_of_quality_signs_and_controls_the_change(
    desk_for: DeskFor, recorder: Recorder, quick: None
) -> None:
    proposed = production.Capa(proposed=events.CapaProposed(capa="c-1", lot=ROOT, limit_after=4.5))
    proposed.state = production.CAPA_STATE_PROPOSED
    proposed.proposed.limit_before = 6.0
    half = production.Capa(
        proposed=events.CapaProposed(capa="c-2", lot=ROOT), state=production.CAPA_STATE_APPROVED
    )
    half.validated.record = "VAL-1"
    fresh = production.Capa(
        proposed=events.CapaProposed(capa="c-3", lot=ROOT, limit_before=6, limit_after=4.5),
        state=production.CAPA_STATE_APPROVED,
    )
    stays = production.Capa(
        proposed=events.CapaProposed(capa="c-4", lot=ROOT, limit_before=6, limit_after=6),
        state=production.CAPA_STATE_APPROVED,
    )
    approved = [half, fresh, stays]
    shown = {production.CAPA_STATE_PROPOSED: [proposed], production.CAPA_STATE_APPROVED: approved}
    recorder.answers["ListCapas"] = lambda request: production.ListCapasResponse(capas=shown[request.state])
    await for_a_while(HeadOfQuality(desk_for("head-of-quality"), [ROOT]).run())
    signed = recorder.of("ApproveCapa")
    assert {request.capa for request in signed} == {"c-1"}
    assert "4.50" in signed[0].meaning
    shows = {request.capa: request.statement for request in recorder.of("RecordValidation")}
    assert shows.keys() == {"c-3", "c-4"}
    assert "narrower" in shows["c-3"]
    assert "narrower" not in shows["c-4"], "the limit stays, so nothing was narrowed"
    assert {request.capa for request in recorder.of("RecordFilingAssessment")} == {"c-2", "c-3", "c-4"}


# -- differences --------------------------------------------------------------------


def shown(item: Dispense, **more: Any) -> clinical.Exposure:
    return clinical.Exposure(dispense=item.dispense, pseudonym=item.pseudonym, lot=item.lot, **more)


async def look_at(
    hospital: Hospital, exposures: list[clinical.Exposure], desk_for: DeskFor, recorder: Recorder
) -> None:
    """What the chart room does about what a run shows."""
    with_a_run(recorder)
    answer = clinical.ListExposuresResponse(exposures=exposures, total=len(exposures))
    recorder.answers["ListExposures"] = lambda request: answer
    clerk = HospitalClerk(desk_for(f"{hospital.site}/clerk"), hospital)
    room = ChartRoom(desk_for(f"{hospital.site}/charts"), hospital, clerk, [ROOT])
    await for_a_while(room.run())


async def test_what_only_the_trace_shows_is_entered_from_the_charts(
    world: World, desk_for: DeskFor, recorder: Recorder, quick: None
) -> None:
    hospital = world.hospitals[1]
    known = hospital.feed.on_time[0]
    exposures = [*(shown(item) for item in hospital.feed.never), shown(known, at_site=True)]
    await look_at(hospital, exposures, desk_for, recorder)
    entered = [item.dispense for request in recorder.of("RecordMedications") for item in request.medications]
    assert Counter(entered) == Counter(item.dispense for item in hospital.feed.never)
    assert recorder.of("ExplainDifference") == []


async def test_a_chart_of_a_dispense_without_a_site_is_entered_under_the_pharmacys_id(
    world: World, desk_for: DeskFor, recorder: Recorder, quick: None
) -> None:
    found = next(late.dispense for pharmacy in world.pharmacies for late in pharmacy.found_out)
    hospital = next(item for item in world.hospitals if item.site == found.site)
    await look_at(hospital, [shown(found)], desk_for, recorder)
    (entered,) = (item for request in recorder.of("RecordMedications") for item in request.medications)
    assert (entered.dispense, entered.order) == (found.dispense, "")


async def test_what_has_no_chart_is_explained_under_signature(
    world: World, desk_for: DeskFor, recorder: Recorder, quick: None
) -> None:
    """A pharmacy named the wrong lot: the hospital's own record of the order names the right one."""
    wrong = next(item.wrong for pharmacy in world.pharmacies for item in pharmacy.feed.corrections)
    hospital = next(item for item in world.hospitals if item.site == wrong.site)
    exposures = [shown(wrong), shown(wrong, explained=True)]
    await look_at(hospital, exposures, desk_for, recorder)
    assert {request.dispense for request in recorder.of("ExplainDifference")} == {wrong.dispense}
    request = recorder.of("ExplainDifference")[0]
    assert "for this order" in request.reason
    assert request.meaning
    assert recorder.of("RecordMedications") == []


async def test_what_still_lies_in_the_tray_is_waited_for(
    world: World, desk_for: DeskFor, recorder: Recorder, quick: None
) -> None:
    hospital = next(item for item in world.hospitals if item.feed.late)
    late = hospital.feed.late[0].dispense
    await look_at(hospital, [shown(late)], desk_for, recorder)
    assert recorder.of("RecordMedications") == recorder.of("ExplainDifference") == []


async def test_nobody_is_named_only_after_a_search_and_never_while_a_pharmacy_looks(
    desk_for: DeskFor, recorder: Recorder, quick: None
) -> None:
    with_a_run(recorder)
    nameless = [traceability.Unattributed(dispense=name, lot=ROOT, sources=["pharmacy-2"]) for name in "ab"]
    recorder.answers["ListUnattributed"] = lambda request: traceability.ListUnattributedResponse(
        dispenses=nameless
    )
    await for_a_while(Pharmacist(desk_for("pharmacist"), [ROOT], expected={"b"}).run())
    explained = recorder.of("ExplainUnattributed")
    assert {request.dispense for request in explained} == {"a"}
    assert {request.run for request in explained} == {"run-1"}
    assert "pharmacy-2" in explained[0].reason
    assert explained[0].meaning
    assert len({request.request_id for request in explained}) == 1


async def test_everybody_is_told_once_though_the_list_of_open_notices_is_behind(
    desk_for: DeskFor, recorder: Recorder, quick: None
) -> None:
    with_a_run(recorder)
    named = ["P-1", "P-2"]
    recorder.answers["ListNotices"] = lambda request: clinical.ListNoticesResponse(
        notices=[clinical.Notice(pseudonym=name) for name in named]
    )
    asked = 0

    def one_more(request: Any) -> loops.ListRunsResponse:
        nonlocal asked
        asked += 1
        if asked == 3:
            named.append("P-3")
        run = loops.Run(run="run-1", opened=loops_events.SafetyRunOpened(run="run-1", lot=ROOT))
        return loops.ListRunsResponse(runs=[run])

    recorder.answers["ListRuns"] = one_more
    await for_a_while(NoticeDesk(desk_for("notices"), "hospital-b", {"P-2"}, [ROOT]).run(), 0.5)
    assert asked > 5
    told = [
        (one.pseudonym, one.outcome) for request in recorder.of("RecordNotices") for one in request.notices
    ]
    reached, away = clinical_events.NOTICE_OUTCOME_NOTIFIED, clinical_events.NOTICE_OUTCOME_UNREACHABLE
    assert told == [("P-1", reached), ("P-2", away), ("P-3", reached)]


async def test_runs_of_another_world_are_not_ours(
    world: World, desk_for: DeskFor, recorder: Recorder, quick: None
) -> None:
    with_a_run(recorder)
    hospital = world.hospitals[0]
    clerk = HospitalClerk(desk_for("hospital-a/clerk"), hospital)
    await for_a_while(ChartRoom(desk_for("charts"), hospital, clerk, ["m/item/g/mine"]).run())
    await for_a_while(Pharmacist(desk_for("pharmacist"), ["m/item/g/mine"], set()).run())
    assert {name for name, _, _ in recorder.sent} == {"ListRuns"}
