"""The actors against a platform that only writes down what it is told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from pharmaloop.clinical.v1 import events_pb2 as clinical_events
from pharmaloop.clinical.v1 import service_pb2 as clinical
from pharmaloop.loops.v1 import service_pb2 as loops
from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.production.v1 import service_pb2 as production
from services.world.actors.desk import Desk
from services.world.actors.dryers import Dryers, Pace
from services.world.actors.hospital import HospitalClerk
from services.world.actors.patients import PostRoom
from services.world.actors.pharmacy import Pharmacy
from services.world.actors.quality import HeadOfQuality, QualityAssurance
from services.world.actors.supply import record_materials
from services.world.dryer_runs import TAGS, Model
from services.world.entities import World
from services.world.worldgen.cdisc import Pilot
from tests.unit.world.support import Recorder

MODEL = Model({tag.name: (1.0,) for tag in TAGS})
DeskFor = Callable[[str], Desk]


async def send_everything(world: World, desk_for: DeskFor) -> Dryers:
    """All that the world sends by itself, as the simulation does it."""
    dryers = Dryers(desk_for("plant-1/historian"), world.dryer_lots, TAGS, lambda lot: None)
    pharmacy = Pharmacy(desk_for("pharmacy-1"), world.site, world.pharmacy)
    clerk = HospitalClerk(desk_for("hospital-a/clerk"), world.site, world.subjects, world.hospital)
    await dryers.register()
    await record_materials(desk_for("maker-1/mes"), world.materials)
    for sends in (pharmacy, clerk):
        await sends.send_records()
        await sends.send_late()
    await dryers.record_history()
    await dryers.train()
    await dryers.replay(MODEL, Pace(1000.0, lambda: False))
    return dryers


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits between two looks."""
    for module in ("patients", "quality", "hospital", "pharmacy", "observer"):
        monkeypatch.setattr(f"services.world.actors.{module}.LOOK_SECONDS", 0.001)


async def for_a_while(work: Any, seconds: float = 0.1) -> None:
    """Let an actor that never ends act for a moment."""
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(work, seconds)


async def test_what_is_sent_names_no_subject_of_the_study(
    world: World, pilot: Pilot, desk_for: DeskFor, recorder: Recorder
) -> None:
    await send_everything(world, desk_for)
    sent = b"".join(message.SerializeToString() for _, _, message in recorder.sent)
    for subject in pilot.subjects:
        assert subject.usubjid.encode() not in sent
        assert subject.usubjid.split("-", 1)[1].encode() not in sent
    assert len(recorder.of("RecordReadings")) > 40
    assert sum(len(request.dispenses) for request in recorder.of("RecordDispense")) > 580
    assert sum(len(request.subjects) for request in recorder.of("RecordSubjects")) == 254


async def test_what_was_sent_is_not_sent_again(world: World, desk_for: DeskFor, recorder: Recorder) -> None:
    await send_everything(world, desk_for)
    recorder.sent.clear()
    await send_everything(world, desk_for)
    assert {name for name, _, _ in recorder.sent} == {"RegisterEquipment", "GetModel"}


async def test_request_ids_are_the_same_after_a_crash(
    world: World, desk_for: DeskFor, recorder: Recorder
) -> None:
    pharmacy = Pharmacy(desk_for("pharmacy-1"), world.site, world.pharmacy)
    await pharmacy._send("dispense:0", world.pharmacy.on_time[:10])
    again = desk_for("pharmacy-1")
    again.progress._done.clear()  # the progress file was lost
    await Pharmacy(again, world.site, world.pharmacy)._send("dispense:0", world.pharmacy.on_time[:10])
    first, second = recorder.of("RecordDispense")
    assert first == second


async def test_a_live_run_goes_on_where_it_stopped(
    world: World, desk_for: DeskFor, recorder: Recorder
) -> None:
    lot = next(lot for lot in world.dryer_lots if lot.live)
    desk = desk_for("plant-1/historian")
    desk.progress.set_count(lot.lot, 50)
    slips: list[str] = []
    await Dryers(desk, [lot], TAGS, slips.append).replay(MODEL, Pace(1000.0, lambda: False))
    batches = [batch for request in recorder.of("RecordReadings") for batch in request.batches]
    assert sum(len(batch.offsets_ms) for batch in batches) == lot.samples - 50
    assert batches[0].start.at.ToDatetime() == (
        lot.started.replace(tzinfo=None) + (lot.completed - lot.started) / (lot.samples - 1) * 50
    )
    assert slips == [lot.lot]


async def test_no_run_is_started_once_there_are_enough_loops(
    world: World, desk_for: DeskFor, recorder: Recorder
) -> None:
    lots = [lot for lot in world.dryer_lots if lot.live]
    await Dryers(desk_for("plant-1/historian"), lots, TAGS, lambda lot: None).replay(
        MODEL, Pace(1000.0, lambda: True)
    )
    assert recorder.sent == []


def plan_for(pseudonym: str, plan: str) -> clinical.PlanView:
    return clinical.PlanView(plan=clinical_events.MonitoringPlan(plan=plan, run="run-1", pseudonym=pseudonym))


async def test_patients_answer_once_from_their_own_body(
    world: World, desk_for: DeskFor, recorder: Recorder, quick: None
) -> None:
    silent = next(body for body in world.bodies if not body.answers)
    well = next(body for body in world.bodies if body.answers and not body.complaint)
    unwell = next(body for body in world.bodies if body.answers and body.complaint)
    views = [plan_for(body.pseudonym, f"plan-{body.pseudonym}") for body in (silent, well, unwell)]
    recorder.answers["ListPlans"] = lambda request: clinical.ListPlansResponse(plans=views)
    await for_a_while(PostRoom(desk_for("hospital-a/patients"), world.site, world.bodies).run())
    answered = {request.pseudonym: request.affected for request in recorder.of("RecordResponse")}
    assert answered == {well.pseudonym: False, unwell.pseudonym: True}
    assert len(recorder.of("RecordResponse")) == 2


def deviation(lot: str, magnitude: float) -> production.Deviation:
    point = events.EvidencePoint(value=9, expected=0, low=-5, high=5)
    return production.Deviation(
        detected=events.DeviationDetected(
            deviation=f"d-{lot}",
            lot=lot,
            tag="T",
            magnitude=magnitude,
            limit=5,
            samples_out=1,
            evidence=[point],
        ),
        state=production.DEVIATION_STATE_OPEN,
    )


@pytest.mark.parametrize("manual", [False, True])
async def test_quality_assurance_judges_unless_a_person_does(
    desk_for: DeskFor, recorder: Recorder, quick: None, manual: bool
) -> None:
    found = [deviation("m/item/g/1", 12.0), deviation("m/item/g/2", 3.1)]
    recorder.answers["ListDeviations"] = lambda request: production.ListDeviationsResponse(deviations=found)
    await for_a_while(QualityAssurance(desk_for("qa"), manual=manual).run())
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
    qa = QualityAssurance(desk_for("qa"), manual=False)
    qa.hand_in("m/item/g/1")
    await for_a_while(qa.run())
    assert bool(recorder.of("ReleaseLot")) is released
    assert qa.waiting() == (1 if deviations else 0)


async def test_the_head_of_quality_signs(desk_for: DeskFor, recorder: Recorder, quick: None) -> None:
    capa = production.Capa(proposed=events.CapaProposed(capa="c-1", limit_after=4.5))
    recorder.answers["ListCapas"] = lambda request: production.ListCapasResponse(capas=[capa])
    await for_a_while(HeadOfQuality(desk_for("head-of-quality")).run())
    signed = recorder.of("ApproveCapa")
    assert {request.capa for request in signed} == {"c-1"}
    assert "4.50" in signed[0].meaning


async def test_the_clerk_enters_what_only_the_trace_shows(
    world: World, desk_for: DeskFor, recorder: Recorder, quick: None
) -> None:
    chart, other = world.hospital.never[0], world.hospital.on_time[0]
    shown = [clinical.Exposure(dispense=item.dispense, pseudonym=item.pseudonym) for item in (chart, other)]
    recorder.answers["ListRuns"] = lambda request: loops.ListRunsResponse(
        runs=[loops.Run(run="run-1", state=loops.RUN_STATE_OPEN)]
    )
    recorder.answers["ListExposures"] = lambda request: clinical.ListExposuresResponse(
        exposures=shown, total=2
    )
    clerk = HospitalClerk(desk_for("hospital-a/clerk"), world.site, world.subjects, world.hospital)
    await for_a_while(clerk.look_up_differences())
    entered = [item.order for request in recorder.of("RecordMedications") for item in request.medications]
    assert entered == [chart.order]
