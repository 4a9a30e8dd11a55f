"""The study of hospital A stays blinded through recalls: its people hear of kits, and nobody is missed.

Everything that the world's actors send goes through the real trace and the real hospital, in memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any, cast

import pytest
from google.protobuf.message import Message

from pharmaloop.clinical.v1 import service_pb2 as api
from pharmaloop.clinical.v1.service_pb2 import DESCRIPTOR
from pharmaloop.exchange.v1 import cohort_pb2 as cohort
from pharmaloop.traceability.v1 import events_pb2 as trace_events
from services.kit.errors import Rejected
from services.kit.ids import in_kit, parse_lot, product_of
from services.world.actors.desk import Desk
from services.world.actors.hospital import HospitalClerk
from services.world.actors.pharmacy import PharmacyClerk
from services.world.actors.supply import Supply
from services.world.exposure import CORRECTED, ancestors, exposures
from services.world.names import HIGH, LOW, PLACEBO
from services.world.platform_api import Platform
from services.world.progress import Progress
from services.world.records import World
from tests.unit.clinical.memory_site import SITE
from tests.unit.world.blinded_hospital import BlindedHospital
from tests.unit.world.support import ANCHOR, CLOCK, Recorder

DeskFor = Callable[[str], Desk]
ARMS = (PLACEBO, LOW, HIGH)


def kits_of(world: World) -> dict[str, frozenset[str]]:
    """Each kit with everything that is inside."""
    above = ancestors(world.materials)
    return {kit: lots - {kit} for kit, lots in above.items() if in_kit(kit)}


def telling(world: World) -> set[bytes]:
    """What tells an arm: the lots inside the kits, their items, and what the arms are called."""
    lots = frozenset.union(*kits_of(world).values())
    assert len(lots) > 60
    names = {*lots, *(product_of(lot) for lot in lots), *(parse_lot(lot).item for lot in lots)}
    names |= {product.gtin for product in ARMS} | {product.arm for product in ARMS}
    return {name.encode() for name in names}


def told_in(text: bytes, names: set[bytes]) -> set[bytes]:
    return {name for name in names if name in text}


async def _send(world: World, desk_for: DeskFor) -> None:
    supply = Supply(desk_for, world.materials, ())
    await supply.record_past()
    await supply.record_late()
    clerk = HospitalClerk(desk_for(f"{SITE}/clerk"), next(h for h in world.hospitals if h.site == SITE))
    await clerk.send_records()
    await clerk.send_late()
    for pharmacy in world.pharmacies:
        shop = PharmacyClerk(desk_for(pharmacy.name), pharmacy)
        await shop.send_records()
        await shop.send_late()


@pytest.fixture(scope="module")
def recalled(
    world: World, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[BlindedHospital, dict[str, str]]]:
    """The hospital after recalls of two placebo lots and a lot of the line, with the lot of each run."""
    recorder, folder = Recorder(), tmp_path_factory.mktemp("study")
    progress = Progress(folder, 7, "small", ANCHOR)

    def desk_for(actor: str) -> Desk:
        return Desk(actor, 7, cast(Platform, recorder), CLOCK, progress, lambda text: None)

    asyncio.run(_send(world, desk_for))
    hospital = BlindedHospital(recorder, folder / "keys")
    try:
        yield hospital, _recall(hospital, world)
    finally:
        hospital.trace.close()


def _only_at_the_hospital(world: World) -> set[str]:
    """Some dispenses of every run that no pharmacy sends here."""
    feed = next(hospital.feed for hospital in world.hospitals if hospital.site == SITE)
    came_back = {item.dispense.dispense for item in world.returns()}
    return {item.dispense for item in feed.on_time[::7]} - came_back


def _recall(hospital: BlindedHospital, world: World) -> dict[str, str]:
    hospital.record(_only_at_the_hospital(world))
    inside = frozenset.union(*kits_of(world).values())
    placebo = sorted(lot for lot in inside if parse_lot(lot).item == PLACEBO.gtin)[:2]
    line = next(lot.lot for line in world.lines for lot in line.lots if lot.lot in inside and lot.faulty)
    runs = {f"run-{number}": lot for number, lot in enumerate([*placebo, line])}
    for run, lot in runs.items():
        hospital.recall(run, lot)
    hospital.settle()
    hospital.follow_up(runs, complain=True)
    return runs


def test_recalls_find_everybody_and_no_answer_or_topic_tells_the_arm(
    recalled: tuple[BlindedHospital, dict[str, str]], world: World
) -> None:
    hospital, runs = recalled
    _finds_everybody(hospital, runs, world)
    names = telling(world)
    announced = [m.SerializeToString() for m in hospital.trace.announced("run-0")]
    assert told_in(b"".join(announced), names), "what is told to all does name lots: the search finds them"
    records = list(hospital.on_its_topics())
    assert len(records) > 1000
    assert not [found for record in records if (found := told_in(record, names))]
    answers = dict(_answers(hospital, runs, kits_of(world)))
    queries = [m.name for m in DESCRIPTOR.services_by_name["ClinicalService"].methods]
    # A cohort is refused: see below.
    assert {name for name in queries if name.startswith(("List", "Get"))} == {*answers, "GetCohort"}
    assert not {name: found for name, text in answers.items() if (found := told_in(text, names))}
    for name in ("ListPlans", "ListNotices", "ListExposures", "GetEvidence", "GetLotSummary"):
        assert b"maker-1/kit/study-1" in answers[name]


def _finds_everybody(hospital: BlindedHospital, runs: dict[str, str], world: World) -> None:
    """By the world's own truth: recall and precision are 1 for every run."""
    truth: dict[str, set[tuple[str, str]]] = {lot: set() for lot in runs.values()}
    wrong: dict[str, set[tuple[str, str]]] = {lot: set() for lot in runs.values()}
    for item in exposures(world):
        if item.lot in truth and item.site == SITE and item.pseudonym:
            kind = wrong if item.disposition == CORRECTED else truth
            kind[item.lot].add((item.dispense, item.pseudonym))
    for run, lot in runs.items():
        request = api.ListExposuresRequest(run=run)
        listed = hospital.all("ListExposures", request, "exposures")
        named = {(item.dispense, item.pseudonym) for item in listed if item.disposition != CORRECTED}
        assert named == truth[lot] != set()
        assert {(item.dispense, item.pseudonym) for item in listed} - named <= wrong[lot]
        assert {item.lot for item in listed} <= kits_of(world).keys()


def _answers(
    hospital: BlindedHospital, runs: dict[str, str], kits: dict[str, Any]
) -> Iterator[tuple[str, bytes]]:
    """Every answer that a person of the hospital can have, by what was asked."""
    of_run: dict[str, list[Message]] = {
        "ListExposures": [api.ListExposuresRequest(run=run) for run in runs],
        "ListNotices": [api.ListNoticesRequest(run=run) for run in runs],
        "GetEvidence": [api.GetEvidenceRequest(run=run) for run in runs],
        "GetLotSummary": [api.GetLotSummaryRequest(lot=kit) for kit in sorted(kits)[::10]],
        "ListPlans": [api.ListPlansRequest(run=run) for run in runs],
        "ListAdverseEvents": [api.ListAdverseEventsRequest()],
        "ListResponses": [api.ListResponsesRequest(run=run) for run in runs],
        "ListFollowUpTemplates": [api.ListFollowUpTemplatesRequest()],
        "GetSiteBoard": [api.GetSiteBoardRequest()],
        "GetVocabulary": [api.GetVocabularyRequest()],
    }
    for method, requests in of_run.items():
        for request in requests:
            if "page_size" in request.DESCRIPTOR.fields_by_name:
                request.page_size = 1000  # type: ignore[attr-defined]
        shown = [hospital.ask(method, request).SerializeToString() for request in requests]
        yield method, b"".join(shown)


def test_a_study_of_kits_gets_no_cohort_and_one_of_what_is_inside_gets_nobody(
    recalled: tuple[BlindedHospital, dict[str, str]], world: World
) -> None:
    """Rows by lot would tell the arms apart; of the lots inside, the hospital's own records name none."""
    hospital, _ = recalled
    kits = {product_of(kit) for kit in kits_of(world)}
    inside = {product_of(lot) for lot in frozenset.union(*kits_of(world).values())}
    assert len(kits) == 1
    for product in kits:
        with pytest.raises(Rejected) as refused:
            hospital.ask("GetCohort", api.GetCohortRequest(definition=cohort_of(product)))
        assert (refused.value.reason, refused.value.field) == ("BLINDED", "definition.product")
    for product in inside:
        found = hospital.ask("GetCohort", api.GetCohortRequest(definition=cohort_of(product)))
        assert (len(found.members), found.eligible, found.without_consent, found.incomplete) == (0, 0, 0, 0)


def cohort_of(product: str) -> cohort.CohortDefinition:
    """Who bled within four weeks of the product, by the temperature that its lots were made at."""
    found = cohort.CohortDefinition(definition="arms", version=1, product=product)
    getattr(found, "from").FromDatetime(ANCHOR - timedelta(days=3650))
    found.until.FromDatetime(ANCHOR)
    found.exposure.CopyFrom(
        cohort.CohortExposure(kind=cohort.EXPOSURE_KIND_PARAMETER_BAND, tag="DryerTemp", low=60.0, unit="Cel")
    )
    found.outcome.CopyFrom(
        cohort.CohortOutcome(kind=cohort.OUTCOME_KIND_ADVERSE_EVENT, terms=["PL1003"], days=28)
    )
    return found


def test_a_kit_tells_its_site_no_comparison_of_arms(
    recalled: tuple[BlindedHospital, dict[str, str]],
) -> None:
    hospital, runs = recalled
    for run in runs:
        shown = hospital.ask("GetEvidence", api.GetEvidenceRequest(run=run))
        assert [lot.whole for lot in shown.lots] == [True, True]  # prompted and routine, by no lot
        strata = [stratum for lot in shown.lots for stratum in lot.strata]
        assert sum(stratum.exposed for stratum in strata) > 0
        assert not any(stratum.comparators for stratum in strata)
        assert shown.comparators == 0
        assert shown.HasField("released"), "a run without comparators comes to its end"
        assert shown.released.final


def test_what_a_hospital_alone_knows_of_a_kit_reaches_the_run(
    recalled: tuple[BlindedHospital, dict[str, str]], world: World
) -> None:
    """Pharmacies did not send them: the hospital tells the trace, by the kit, and they are members."""
    hospital, runs = recalled
    lost = _only_at_the_hospital(world)
    told = [m for m in hospital.site.all(trace_events.DispenseRecorded) if m.dispense in lost]
    assert len(told) >= 10
    assert all(in_kit(item.lot) for item in told)
    members = {name for run in runs for name in hospital.trace.members(run)}
    assert {item.dispense for item in told} <= members
