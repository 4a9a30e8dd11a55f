"""Single incidents: exactly one thing goes wrong in each, and what the platform should answer is known."""

from __future__ import annotations

from typing import Any, cast

import pytest

from pharmaloop.clinical.v1 import service_pb2 as clinical
from pharmaloop.loops.v1 import events_pb2 as loops_events
from pharmaloop.loops.v1 import service_pb2 as loops
from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.production.v1 import service_pb2 as production
from services.kit.ids import parse_lot
from services.world.answers import Answer, Examiner
from services.world.dryer_runs import sample_counts
from services.world.exposure import exposures
from services.world.incidents import INCIDENTS, PATIENTS
from services.world.mishap_rows import incidents
from services.world.names import SITES
from services.world.platform_api import Platform
from services.world.records import World
from services.world.worldgen import generate
from services.world.worldgen.cdisc import Pilot
from tests.unit.world.support import ANCHOR, Recorder
from tests.unit.world.test_quality_rule import alarmed


@pytest.fixture(scope="module", params=sorted(INCIDENTS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def small_world(name: str, pilot: Pilot, sites: tuple[str, ...] = tuple(SITES)) -> World:
    return generate(7, ANCHOR, pilot, sample_counts(), INCIDENTS[name].size(sites), f"{name}-7")


def root(world: World) -> str:
    return next(lot.lot for lot in world.lines[0].lots if lot.fault)


@pytest.mark.parametrize("sites", [("hospital-a",), tuple(SITES)])
def test_it_is_small_and_has_names_of_its_own(name: str, pilot: Pilot, sites: tuple[str, ...]) -> None:
    world = small_world(name, pilot, sites)
    assert world.sites == sites
    assert sum(len(hospital.bodies) for hospital in world.hospitals) == PATIENTS
    assert sum(lot.live for lot in world.lines[0].lots) == 1
    assert all(name in parse_lot(item.lot).lot for item in world.materials)
    assert name in world.lines[0].product
    exposed = {item.pseudonym for item in exposures(world) if item.lot == root(world)}
    assert 20 <= len(exposed) < PATIENTS


def test_exactly_this_goes_wrong(name: str, pilot: Pilot) -> None:
    kinds = {row.kind for row in incidents(small_world(name, pilot))}
    expected: dict[str, set[str]] = {
        "late-data": {"late", "late material"},
        "mix-up": {"wrong lot"},
    }
    assert kinds == expected.get(name, set())


def test_the_detector_finds_it_and_the_rule_judges_it_as_the_story_says(name: str, pilot: Pilot) -> None:
    ((_, alarm, confirmed),) = alarmed(small_world(name, pilot).lines[0])
    assert alarm
    assert confirmed is not INCIDENTS[name].harmless


def test_a_mix_up_is_of_two_makers_lots_of_one_number(pilot: Pilot) -> None:
    for _, item in small_world("mix-up", pilot).corrections():
        wrong, right = parse_lot(item.wrong.lot), parse_lot(item.right.lot)
        assert wrong.lot == right.lot
        assert {wrong.owner, right.owner} == {"maker-1", "maker-2"}


# -- what the platform answered -----------------------------------------------------


def answer_perfectly(world: World, recorder: Recorder, state: Any, closed: bool = True) -> None:
    """A platform that found everything."""
    lot = root(world)
    fault = next(item.fault for item in world.lines[0].lots if item.fault)
    seen = production.Deviation(detected=events.DeviationDetected(lot=lot, tag=fault.tag), state=state)
    run = loops.Run(
        run="run-1",
        state=loops.RUN_STATE_CLOSED if closed else loops.RUN_STATE_OPEN,
        opened=loops_events.SafetyRunOpened(run="run-1", lot=lot),
        closed=loops_events.LoopClosed(answered=30),
    )
    bodies = {body.pseudonym: body for hospital in world.hospitals for body in hospital.bodies}

    def plans(request: clinical.ListPlansRequest) -> clinical.ListPlansResponse:
        """Everybody at the site; who has not answered after a day, and after three, was reminded."""
        found = clinical.ListPlansResponse()
        for name in {
            item.pseudonym for item in exposures(world) if (item.lot, item.site) == (lot, request.site)
        }:
            plan = found.plans.add(answered=bodies[name].answers)
            plan.plan.pseudonym = name
            for _ in range(bodies[name].reminders if bodies[name].answers else 2):
                plan.reminded.add()
        return found

    members: dict[str, list[clinical.Exposure]] = {}
    for item in exposures(world):
        if item.lot == lot:
            shown = clinical.Exposure(dispense=item.dispense, disposition=item.disposition)
            members.setdefault(item.site, []).append(shown)
    runs = [] if state == production.DEVIATION_STATE_REJECTED else [run]
    recorder.answers = {
        "ListDeviations": lambda request: production.ListDeviationsResponse(deviations=[seen]),
        "ListRuns": lambda request: loops.ListRunsResponse(runs=runs),
        "ListExposures": lambda request: clinical.ListExposuresResponse(exposures=members[request.site]),
        "ListPlans": plans,
        "GetEvidence": lambda request: clinical.GetEvidenceResponse(),
    }


async def ask(world: World, recorder: Recorder, *, harmless: bool = False) -> list[Answer]:
    return await Examiner(world, cast(Platform, recorder)).ask(harmless=harmless)


async def test_a_platform_that_found_everything_is_right(name: str, pilot: Pilot, recorder: Recorder) -> None:
    world, harmless = small_world(name, pilot), INCIDENTS[name].harmless
    # What was confirmed goes on to its corrective action, and is closed with it.
    confirmed = (
        production.DEVIATION_STATE_CONFIRMED,
        production.DEVIATION_STATE_CAPA_REQUIRED,
        production.DEVIATION_STATE_CLOSED,
    )
    for state in (production.DEVIATION_STATE_REJECTED,) if harmless else confirmed:
        answer_perfectly(world, recorder, state)
        answers = await ask(world, recorder, harmless=harmless)
        assert [answer for answer in answers if not answer.right] == []
        assert len(answers) == (3 if harmless else 9 if name == "silence" else 7)


@pytest.mark.parametrize("fault", ["missed", "wrong", "not corrected", "open", "not detected", "rejected"])
async def test_a_platform_that_erred_is_wrong(pilot: Pilot, recorder: Recorder, fault: str) -> None:
    world = small_world("mix-up", pilot)
    closed = fault != "open"
    state = (
        production.DEVIATION_STATE_REJECTED if fault == "rejected" else production.DEVIATION_STATE_CONFIRMED
    )
    answer_perfectly(world, recorder, state, closed)
    right = recorder.answers["ListExposures"]

    def erring(request: clinical.ListExposuresRequest) -> clinical.ListExposuresResponse:
        found = right(request)
        if fault == "missed":
            found.exposures.sort(key=lambda item: item.disposition)
            del found.exposures[0]
        if fault == "wrong":
            found.exposures.add(dispense="nobody's")
        if fault == "not corrected":
            for item in found.exposures:
                item.disposition = ""
        return cast(clinical.ListExposuresResponse, found)

    recorder.answers["ListExposures"] = erring
    if fault == "not detected":
        recorder.answers["ListDeviations"] = lambda request: production.ListDeviationsResponse()
    assert not all(answer.right for answer in await ask(world, recorder))


async def test_a_false_alarm_that_opened_a_run_is_wrong(pilot: Pilot, recorder: Recorder) -> None:
    world = small_world("false-alarm", pilot)
    answer_perfectly(world, recorder, production.DEVIATION_STATE_CONFIRMED)
    answers = await ask(world, recorder, harmless=True)
    assert [answer.right for answer in answers] == [True, False, False]


@pytest.mark.parametrize("fault", ["nobody was reminded", "somebody was reminded who had answered"])
async def test_a_wrong_reminder_is_wrong(pilot: Pilot, recorder: Recorder, fault: str) -> None:
    world = small_world("silence", pilot)
    answer_perfectly(world, recorder, production.DEVIATION_STATE_CONFIRMED)
    right = recorder.answers["ListPlans"]
    assert any(body.reminders == 2 for hospital in world.hospitals for body in hospital.bodies)

    def erring(request: clinical.ListPlansRequest) -> clinical.ListPlansResponse:
        found: clinical.ListPlansResponse = right(request)
        for plan in found.plans:
            if fault == "nobody was reminded":
                del plan.reminded[:]
            else:
                plan.reminded.add()
        return found

    recorder.answers["ListPlans"] = erring
    wrong = [answer.question for answer in await ask(world, recorder) if not answer.right]
    assert "who was reminded after 24 hours" in wrong
