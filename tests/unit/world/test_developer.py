"""The developer's people against a platform that only writes down what it is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, cast

import grpc
import pytest

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.exchange.v1 import events_pb2 as exchange_events
from pharmaloop.exchange.v1 import service_pb2 as exchange
from pharmaloop.loops.v1 import events_pb2 as loops_events
from pharmaloop.loops.v1 import service_pb2 as loops
from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.production.v1 import service_pb2 as production
from pharmaloop.rnd.v1 import events_pb2 as rnd_events
from pharmaloop.rnd.v1 import service_pb2 as rnd
from services.world.actors.analyst import Analyst, Owner, Question
from services.world.actors.campaign import Campaign
from services.world.actors.desk import Desk
from services.world.actors.plant_manager import PlantManager
from services.world.actors.registry import Registry
from services.world.actors.scientists import Programme, Scientists
from services.world.plans import BAND, GENOTYPE, MARKETING, WRONG_REQUESTS, study_id
from services.world.platform_api import Refused
from services.world.recipes import MISTAKES, plant_vessel
from services.world.records import World
from services.world.treatment import INR, INR_UNIT, TAG, Treatment
from tests.unit.world.support import Recorder, for_a_while

DeskFor = Callable[[str], Desk]
PLANT, WEAK, SET = "plant-3", "plant-4", "set-1"
SITE = "hospital-b"


@pytest.fixture
def medicine(world: World) -> Treatment:
    assert world.treatment
    return world.treatment


def refusal(reason: str) -> Refused:
    return Refused("a method", grpc.StatusCode.INVALID_ARGUMENT, reason, "a.field", "no")


# -- the past -------------------------------------------------------------------------------


async def test_the_campaign_is_recorded_once_and_released(
    medicine: Treatment, desk_for: DeskFor, recorder: Recorder
) -> None:
    for _ in range(2):  # a second start finds it done
        await Campaign(desk_for(f"{PLANT}/historian"), PLANT, medicine.product, medicine.lots[:4]).record()
    lots = [lot.lot for lot in medicine.lots[:4]]
    for name in ("StartLot", "CompleteLot", "ReleaseLot"):
        assert sorted(request.lot for request in recorder.of(name)) == sorted(lots)
    assert {request.product for request in recorder.of("StartLot")} == {medicine.product}
    read = {batch.lot: batch for request in recorder.of("RecordReadings") for batch in request.batches}
    for lot in medicine.lots[:4]:
        (tag,) = read[lot.lot].tags
        assert (tag.tag, tag.unit) == (TAG, "K")
        assert sum(tag.values) / len(tag.values) == pytest.approx(lot.mean, abs=0.1)
        assert len(set(tag.values)) == len(tag.values), "a sensor has noise"
    made = {item.lot for request in recorder.of("RecordMaterial") for item in request.materials}
    assert set(lots) < made


async def test_a_registry_sends_what_its_hospital_knows_of_its_own_patients(
    medicine: Treatment, desk_for: DeskFor, recorder: Recorder
) -> None:
    takers = medicine.at(SITE)
    for _ in range(2):
        await Registry(desk_for(f"{SITE}/registry"), SITE, takers).record()
    subjects = [one for request in recorder.of("RecordSubjects") for one in request.subjects]
    assert [one.pseudonym for one in subjects] == [taker.pseudonym for taker in takers]
    assert {one.pseudonym for one in subjects if not one.research} == {
        taker.pseudonym for taker in takers if not taker.research
    }
    given = [one for request in recorder.of("RecordMedications") for one in request.medications]
    assert {one.pseudonym: one.lot for one in given} == {taker.pseudonym: taker.lot for taker in takers}
    reports = [one for request in recorder.of("RecordAdverseEvents") for one in request.reports]
    assert {one.pseudonym for one in reports} == {taker.pseudonym for taker in takers if taker.bled}
    texts = [text for request in recorder.of("RecordFhirResources") for text in request.resources]
    assert len(texts) == 2 * len(takers)
    first = json.loads(texts[0])
    assert (first["resourceType"], first["code"]["coding"][0]["code"]) == ("Observation", INR)
    assert first["valueQuantity"]["code"] == INR_UNIT
    sites = {request.site for _, _, request in recorder.sent if hasattr(request, "site")}
    assert sites == {SITE}


# -- the scientists -------------------------------------------------------------------------


class Research:
    """A platform on which trials with enough patients say go, and runs end as `outcomes` says."""

    def __init__(self, recorder: Recorder) -> None:
        self.rules = {f"{SET}-{mistake.name}": mistake.rule for mistake in MISTAKES}
        self.outcomes: dict[int, int] = {}
        self._versions: dict[str, int] = {}
        self._released: list[rnd.ReleaseParameterSetRequest] = []
        recorder.answers |= {
            "RunTrial": self._trial,
            "DraftParameterSet": self._draft,
            "ReleaseParameterSet": self._release,
            "ListRuns": self._runs,
        }

    def _trial(self, request: rnd.RunTrialRequest) -> rnd.RunTrialResponse:
        patients = request.design.patients_each
        verdict = rnd_events.TRIAL_VERDICT_GO if patients > 100 else rnd_events.TRIAL_VERDICT_NO_GO
        return rnd.RunTrialResponse(
            trial=rnd_events.TrialCompleted(trial=f"trial-{patients}", verdict=verdict)
        )

    def _draft(self, request: rnd.DraftParameterSetRequest) -> rnd.DraftParameterSetResponse:
        if rule := self.rules.get(request.set):
            raise refusal(rule)
        self._versions[request.set] = self._versions.get(request.set, 0) + 1
        return rnd.DraftParameterSetResponse(version=self._versions[request.set])

    def _release(self, request: rnd.ReleaseParameterSetRequest) -> rnd.ReleaseParameterSetResponse:
        self._released.append(request)
        return rnd.ReleaseParameterSetResponse()

    def _runs(self, request: loops.ListRunsRequest) -> loops.ListRunsResponse:
        found = loops.ListRunsResponse()
        for one in self._released:
            run = found.runs.add(state=loops.RUN_STATE_CLOSED)
            run.opened_transfer.version = one.version
            run.closed.outcome = cast(Any, self.outcomes.get(one.version, loops_events.RUN_OUTCOME_CLOSED))
        return found


def scientists(desk_for: DeskFor, versions: int = 2) -> Scientists:
    programme = Programme("maker-3/gtin/A", SET, PLANT, WEAK, versions)
    return Scientists(desk_for("drafter"), desk_for("reviewer"), desk_for("head"), programme)


async def test_scientists_bring_one_version_after_the_other_to_the_plant(
    desk_for: DeskFor, recorder: Recorder, quick: None
) -> None:
    Research(recorder)
    people = scientists(desk_for)
    await people.work()
    assert (people.done, people.wrong) == (True, [])
    assert [request.design.patients_each for request in recorder.of("RunTrial")] == [60, 240]
    drafts = [request for request in recorder.of("DraftParameterSet") if request.set == SET]
    assert {request.content.trial for request in drafts} == {"trial-240"}, "one that says go supports it"
    feeds = [one.set_point for said in drafts for one in said.content.parameters if one.parameter == "feed"]
    assert len(set(feeds)) == 2
    who = {name: actor for name, actor, _ in recorder.sent if name.endswith("ParameterSet")}
    assert who == {
        "DraftParameterSet": "drafter",
        "ReviewParameterSet": "reviewer",
        "ReleaseParameterSet": "head",
    }
    released = [(request.set, request.version, list(request.plants)) for request in _releases(recorder)]
    assert released == [(f"{SET}-misfit", 1, [WEAK]), (SET, 1, [PLANT]), (SET, 2, [PLANT])]
    order = [name for name, _, request in recorder.sent if name in ("ReleaseParameterSet", "ListRuns")]
    assert order == ["ReleaseParameterSet", *["ReleaseParameterSet", "ListRuns"] * 2]


def _releases(recorder: Recorder) -> list[rnd.ReleaseParameterSetRequest]:
    return recorder.of("ReleaseParameterSet")


async def test_a_second_start_releases_nothing_again(
    desk_for: DeskFor, recorder: Recorder, quick: None
) -> None:
    Research(recorder)
    await scientists(desk_for).work()
    before = len([one for one in _releases(recorder) if one.set == SET])
    await scientists(desk_for).work()
    assert len([one for one in _releases(recorder) if one.set == SET]) == before


async def test_what_research_lets_pass_or_refuses_by_another_rule_is_wrong(
    desk_for: DeskFor, recorder: Recorder, quick: None
) -> None:
    research = Research(recorder)
    passed, other = MISTAKES[0], MISTAKES[1]
    del research.rules[f"{SET}-{passed.name}"]
    research.rules[f"{SET}-{other.name}"] = "NO_CHANGE"
    people = scientists(desk_for, versions=0)
    await people.work()
    assert people.wrong == [
        f"the draft {passed.name} was not refused ({passed.rule})",
        f"the draft {other.name} was refused by NO_CHANGE, and not by {other.rule}",
    ]


async def test_a_version_whose_run_ends_otherwise_than_closed_is_wrong(
    desk_for: DeskFor, recorder: Recorder, quick: None
) -> None:
    Research(recorder).outcomes[1] = loops_events.RUN_OUTCOME_REFUSED
    people = scientists(desk_for)
    await people.work()
    assert people.wrong == ["the transfer of version 1 ended refused, and had to be closed"]


# -- the plant ------------------------------------------------------------------------------


class Vessels:
    """A plant's vessels whose laboratory finds what the feed made, and whose twin is heard."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, float, float]] = []

    def ferment(self, lot: str, points: Any) -> tuple[list[float], dict[str, list[float]]]:
        hours = [0.0, 100.0, 200.0, 300.0, 400.0]
        return hours, {"Temperature": [points["temperature"]] * len(hours)}

    def test(self, lot: str, points: Any) -> dict[str, float]:
        return {"titre": points["feed"] * 30, "impurity": 0.5}

    def hear(self, lot: str, hour: float, biomass: float) -> str:
        self.heard.append((lot, hour, biomass))
        return "off by nothing"


def manager(desk_for: DeskFor) -> PlantManager:
    lines = {(PLANT, "fermentation-1"): plant_vessel()}
    desks = desk_for(f"{PLANT}/manager"), desk_for(f"{PLANT}/regulatory-affairs")
    return PlantManager(
        *desks, "maker-3/gtin/A", f"{PLANT}/fermenter-1", lines, "maker-3/gtin/A/T", Vessels()
    )


def transfer(state: int, **fields: Any) -> production.Transfer:
    found = production.Transfer(transfer=f"transfer:{SET}/{PLANT}", set=SET, version=3, plant=PLANT, **fields)
    found.state = cast(Any, state)
    return found


def shows(recorder: Recorder, *transfers: production.Transfer) -> None:
    recorder.answers["ListTransfers"] = lambda request: production.ListTransfersResponse(transfers=transfers)


def proposed(lower: float | None, moved: tuple[str, ...] = ("feed",)) -> production.Transfer:
    gain = common.Estimate(value=0.2)
    if lower is not None:
        gain.lower = lower
    said = events.OptimisationProposed(proposal="p-1", moved=moved, gain=gain)
    return transfer(production.TRANSFER_STATE_PROPOSED, proposed=said)


@pytest.mark.parametrize(
    ("one", "accepted"),
    [(proposed(0.1), True), (proposed(-0.1), False), (proposed(None), False), (proposed(0.1, ()), False)],
)
async def test_a_manager_accepts_what_gains_for_sure_and_keeps_the_recipe_otherwise(
    desk_for: DeskFor, recorder: Recorder, quick: None, one: production.Transfer, accepted: bool
) -> None:
    shows(recorder, one)
    await for_a_while(manager(desk_for).run())
    decided = recorder.of("DecideTransfer")
    assert {(request.proposal, request.accepted) for request in decided} == {("p-1", accepted)}
    assert all(request.reason and request.meaning for request in decided)
    assert len({request.request_id for request in decided}) == 1, "a repeat has one effect"


async def test_a_manager_records_what_change_control_lacks(
    desk_for: DeskFor, recorder: Recorder, quick: None
) -> None:
    half = transfer(production.TRANSFER_STATE_IN_CHANGE_CONTROL)
    half.validated.SetInParent()
    shows(recorder, half)
    await for_a_while(manager(desk_for).run())
    assert recorder.of("RecordRecipeFiling")
    assert not recorder.of("RecordRecipeValidation")


async def test_validation_and_filing_are_signed_by_two_people_for_the_version(
    desk_for: DeskFor, recorder: Recorder, quick: None
) -> None:
    shows(recorder, transfer(production.TRANSFER_STATE_IN_CHANGE_CONTROL))
    await for_a_while(manager(desk_for).run())
    signed = {(name, actor) for name, actor, _ in recorder.sent if name.startswith("RecordRecipe")}
    assert signed == {
        ("RecordRecipeValidation", f"{PLANT}/manager"),
        ("RecordRecipeFiling", f"{PLANT}/regulatory-affairs"),
    }
    asked = [*recorder.of("RecordRecipeValidation"), *recorder.of("RecordRecipeFiling")]
    assert {request.version for request in asked} == {3}


async def test_a_first_lot_is_made_by_the_recipe_measured_tested_and_packed_once(
    desk_for: DeskFor, recorder: Recorder, quick: None
) -> None:
    shows(recorder, transfer(production.TRANSFER_STATE_EFFECTIVE))
    answer = production.GetTransferResponse()
    for name, value in (("feed", 0.125), ("temperature", 298.4)):
        answer.recipe.add(parameter=name, value=value)
    recorder.answers["GetTransfer"] = lambda request: answer
    biomass = production.TwinState(name="biomass", unit="g/L", value=12.5)
    recorder.answers["GetTwin"] = lambda request: production.GetTwinResponse(states=[biomass])
    await for_a_while(manager(desk_for).run())
    (start,) = recorder.of("StartLot")
    assert (start.lot, start.transfer) == ("maker-3/gtin/A/T-T003", f"transfer:{SET}/{PLANT}")
    sent = recorder.of("RecordReadings")
    assert {value for one in sent for value in one.batches[0].tags[0].values} == {298.4}
    assert len(recorder.of("GetTwin")) == len(sent), "the twin is asked after each part"
    (tested,) = recorder.of("RecordTestResults")
    assert {one.test: one.value for one in tested.results} == {"titre": 3.75, "impurity": 0.5}
    order = [name for name, _, _ in recorder.sent if name in ("StartLot", "CompleteLot", "RecordTestResults")]
    assert order == ["StartLot", "CompleteLot", "RecordTestResults"]
    (material,) = recorder.of("RecordMaterial")
    assert [one.lot for one in material.materials if start.lot in [used.lot for used in one.inputs]] == [
        f"{start.lot}-P"
    ]


async def test_a_manager_minds_his_own_plants(desk_for: DeskFor, recorder: Recorder, quick: None) -> None:
    other = proposed(0.1)
    other.plant = "plant-9"
    shows(recorder, other)
    await for_a_while(manager(desk_for).run())
    assert {name for name, _, _ in recorder.sent} == {"ListTransfers"}


# -- the analyst and the owners -------------------------------------------------------------


class Exchange:
    """Refuses wrong requests by their rule, and answers every study the second time it is looked at."""

    def __init__(self, recorder: Recorder) -> None:
        self.rules = {study_id(7, name): rule for name, rule in WRONG_REQUESTS}
        self._looks: dict[str, int] = {}
        recorder.answers |= {"RequestStudy": self._request, "GetStudy": self._study}

    def _request(self, request: exchange.RequestStudyRequest) -> exchange.RequestStudyResponse:
        if rule := self.rules.get(request.study):
            raise refusal(rule)
        return exchange.RequestStudyResponse()

    def _study(self, request: exchange.GetStudyRequest) -> exchange.GetStudyResponse:
        self._looks[request.study] = looks = self._looks.get(request.study, 0) + 1
        state = exchange.STUDY_STATE_COMPUTING if looks == 1 else exchange.STUDY_STATE_ANSWERED
        return exchange.GetStudyResponse(study=exchange.Study(state=state))


def analyst(medicine: Treatment, desk_for: DeskFor) -> Analyst:
    begun = [taker.begun for taker in medicine.takers]
    lots, sites = [lot.lot for lot in medicine.lots], ["hospital-a", "hospital-b", "hospital-c"]
    return Analyst(desk_for("analyst"), Question(medicine.product, lots, sites, min(begun), max(begun)))


async def test_an_analyst_asks_one_study_after_the_other_and_gives_what_owners_need_to_decide(
    medicine: Treatment, desk_for: DeskFor, recorder: Recorder, quick: None
) -> None:
    Exchange(recorder)
    person = analyst(medicine, desk_for)
    await person.work()
    assert (person.done, person.wrong) == (True, [])
    right = [request for request in recorder.of("RequestStudy") if request.study in _right()]
    assert [request.study for request in right] == _right()
    for request in right:
        assert request.purpose
        assert request.ethics.reference
        assert len(request.datasets) == 3
    clusters = json.loads(right[0].specification)["clusters"]
    assert set(clusters["shared"]) == {lot.lot for lot in medicine.lots}
    order = [(name, request.study) for name, _, request in cast(Any, recorder.sent)]
    asked = [order.index(("RequestStudy", study)) for study in _right()]
    over = [max(place for place, one in enumerate(order) if one == ("GetStudy", s)) for s in _right()]
    assert all(end < begin for end, begin in zip(over, asked[1:], strict=False))


def _right() -> list[str]:
    return [study_id(7, name) for name in (BAND, GENOTYPE, MARKETING)]


async def test_what_the_exchange_lets_pass_or_refuses_by_another_rule_is_wrong(
    medicine: Treatment, desk_for: DeskFor, recorder: Recorder, quick: None
) -> None:
    platform = Exchange(recorder)
    (passed, rule), (other, right) = WRONG_REQUESTS[:2]
    del platform.rules[study_id(7, passed)]
    platform.rules[study_id(7, other)] = "UNAVAILABLE"
    person = analyst(medicine, desk_for)
    await person.work()
    assert person.wrong == [
        f"the study {passed} was not refused ({rule})",
        f"the study {other} was refused by UNAVAILABLE, and not by {right}",
    ]


async def test_an_owner_lets_research_pass_and_refuses_marketing(
    medicine: Treatment, desk_for: DeskFor, recorder: Recorder, quick: None
) -> None:
    Exchange(recorder)
    await analyst(medicine, desk_for).work()
    asked = {request.study: request.purpose for request in recorder.of("RequestStudy")}
    waiting = exchange.ListStudiesResponse()
    for study in _right():
        waiting.studies.add().requested.CopyFrom(
            exchange_events.StudyRequested(study=study, purpose=asked[study])
        )
    signed = waiting.studies.add()
    signed.requested.study = "signed"
    signed.approvals.add(site=SITE)
    recorder.answers["ListStudies"] = lambda request: waiting
    await for_a_while(Owner(desk_for(f"{SITE}/owner"), SITE).run())
    assert {request.study for request in recorder.of("ApproveStudy")} == set(_right()[:2])
    assert {request.study for request in recorder.of("RefuseStudy")} == {_right()[2]}
    assert all(request.meaning for request in recorder.of("ApproveStudy"))
    assert all(request.reason for request in recorder.of("RefuseStudy"))
