"""The dossier of a lot: whole, the same in any order, bounded, and without small counts."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

import pytest
from google.protobuf.message import Message

from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.production.v1 import events_pb2 as production
from pharmaloop.traceability.v1 import dossier_pb2 as page
from services.kit.errors import Invalid, Unknown
from services.kit.ids import lot_key, product_of
from services.kit.store.memory import AsyncMemoryStore
from services.traceability import dossiers
from services.traceability.domain.dossier import bounds
from services.traceability.domain.dossier.newest import KEPT
from tests.unit.traceability.dossier_story import (
    RUN,
    A,
    B,
    Platform,
    loop,
    mixed,
    plant,
    quality,
    releases,
    story,
)
from tests.unit.traceability.driver import dispense, lot, material, moment, opened, registered

SECTIONS = [field.name for field in page.LotDossier.DESCRIPTOR.fields if field.message_type]


@pytest.fixture
def whole(played: Platform) -> page.LotDossier:
    return played.dossier("raw")


def test_every_section_appears(whole: page.LotDossier) -> None:
    assert not [name for name in SECTIONS if not whole.HasField(name)]
    assert (whole.lot, whole.key.lot) == (lot("raw"), "raw")
    assert (whole.process.state, [s.what for s in whole.process.steps]) == (
        "rejected", ["STARTED", "COMPLETED", "HELD", "REJECTED"],
    )  # fmt: skip
    (deviation,) = whole.deviations.deviations
    assert (deviation.tag, deviation.state, deviation.who, deviation.magnitude) == (
        "Temp",
        "closed",
        "qa2",
        9.5,
    )
    assert list(whole.material.outputs) == [lot("bulk")]
    assert [(a.value, a.unit) for a in whole.material.amount_used] == [(50, "kg")]
    assert [(p.place, p.received) for p in whole.distribution.places if p.received] == [
        ("pharmacy-1", 0.1), ("pharmacy-2", 1.1),
    ]  # fmt: skip
    (run,) = whole.exposed.runs
    assert (run.root, run.depth, run.outcome, run.deviation) == (lot("raw"), 0, "closed", "dev-1")
    assert set(run.lots) == {lot(name) for name in ("raw", "bulk", "pack1", "pack2")}
    assert [(s.name, s.seconds) for s in run.stages] == [("trace", 2)]
    assert run.waiting_for == ""
    assert {s.site: (s.told, s.people.patients.value) for s in run.sites} == {A: (True, 40), B: (True, 25)}
    assert (run.people.dispenses.value, run.people.notified.value, run.unattributed) == (65, 65, 1)
    (evidence,) = whole.evidence.runs
    assert (evidence.complete, evidence.people.answered.value) == (True, 65)
    assert (evidence.capa.limit_before, evidence.capa.limit_after, evidence.capa.state) == (4, 2.5, "closed")
    assert (evidence.insight.statement, evidence.insight.recorded) == ("Counts are withheld.", True)


def test_complaints_are_those_that_sites_released_and_production_pooled(whole: page.LotDossier) -> None:
    (evidence,) = whole.evidence.runs
    assert not evidence.people.HasField("affected"), "no site tells them with its answers"
    a, b = (one.released for one in evidence.sites)
    assert (a.number, a.final, a.exposed.patients, a.exposed.cases) == (2, True, 40, 20)
    assert (a.comparators.patients, a.comparators.cases, a.comparators.withheld) == (60, 15, False)
    assert (b.exposed.cases, b.comparators.withheld, b.comparators.cases) == (10, True, 0)
    at = evidence.pooled
    assert (at.sites_pooled, at.sites) == (1, 2)
    assert (at.risk_ratio.value, at.risk_ratio.lower, at.rate_difference.upper) == (2, 1.17, 0.018)


def test_an_older_release_and_one_of_another_kind_change_nothing(platform: Platform) -> None:
    few, final = releases(A)
    routine = clinical.EvidenceReleased(
        run=RUN, site=A, kind=clinical.OUTCOME_KIND_ROUTINE, number=3, exposed=clinical.ReleasedRow(cases=99)
    )
    platform.tell("", material("pack1", "raw"), 0)
    platform.tell("loop", opened(RUN, "raw"), 1)
    for number, message in enumerate([final, few, routine]):
        platform.tell(f"teller-{number}", message, 2)
    platform.settle()
    (evidence,) = platform.dossier("raw").evidence.runs
    assert [(one.released.number, one.released.exposed.cases) for one in evidence.sites] == [(2, 20)]


def test_complaints_of_a_recorded_run_are_shown_as_they_may_be_published(platform: Platform) -> None:
    """As sites told them before they released anything; shown only while every site tells it so."""
    platform.tell("", material("pack1", "raw"), 0)
    platform.tell("loop", opened(RUN, "raw"), 1)
    for site, n in {A: 40, B: 25}.items():
        old = clinical.ResponsesSummarised(
            run=RUN, site=site, plans=n, answered=n, affected=10, complete=True
        )
        platform.tell(f"exposure-{site}", old, 2)
    platform.settle()
    (evidence,) = platform.dossier("raw").evidence.runs
    assert (evidence.complete, evidence.people.answered.value, evidence.people.affected.value) == (
        True, 65, 20,
    )  # fmt: skip
    newer = clinical.FollowUpSummarised(run=RUN, site=A, plans=40, answered=40, complete=True)
    platform.tell(f"exposure-{A}", newer, 3)
    platform.settle()
    (evidence,) = platform.dossier("raw").evidence.runs
    assert not evidence.people.HasField("affected")
    assert evidence.people.answered.value == 65


def test_exact_numbers_that_a_proposal_once_rested_on_are_not_shown(platform: Platform) -> None:
    platform.tell("", material("pack1", "raw"), 0)
    platform.tell("loop", opened(RUN, "raw"), 1)
    old = production.CapaProposed(capa="capa-1", run=RUN, lot=lot("raw"), answered=7, affected=3)
    row = production.CapaEvidenceRow
    old.evidence.sites.add(site=A, exposed=row(patients=7, cases=3), comparators=row(withheld=True))
    platform.tell("capa", old, 2)
    platform.settle()
    (evidence,) = platform.dossier("raw").evidence.runs
    assert evidence.capa.capa == "capa-1"
    assert not evidence.HasField("pooled")
    assert not [one for one in evidence.sites if one.HasField("released")]


def test_decisions_say_who_and_why_in_order_of_time(whole: page.LotDossier) -> None:
    told = [(d.what, d.who) for d in whole.decisions.decisions]
    assert told == [
        ("DEVIATION_UNDER_INVESTIGATION", "qa"),
        ("DEVIATION_CONFIRMED", "qa"),
        ("HELD", "qa"),
        ("IMPLICATION_HELD", "platform"),
        ("HAZARD_EVALUATED", "physician"),
        ("UNATTRIBUTED_EXPLAINED", "pharmacist"),
        ("CAPA_APPROVED", "qa"),
        ("CHANGE_FILING_PRIOR_APPROVAL", "regulatory"),
        ("CHANGE_VALIDATED", "engineer"),
        ("CAPA_EFFECTIVE", "qa"),
        ("REJECTED", "qa"),
        ("DEVIATION_CLASSIFIED_CRITICAL", "qa"),
        ("DEVIATION_CLOSED", "qa2"),
        ("OOS_LABORATORY_ERROR", "lab"),
    ]
    times = [d.at.ToDatetime() for d in whole.decisions.decisions]
    assert times == sorted(times)
    meanings = {d.what: d.meaning for d in whole.decisions.decisions}
    assert (meanings["CAPA_APPROVED"], meanings["CHANGE_VALIDATED"]) == ("I approve", "It is valid")
    assert meanings["CHANGE_FILING_PRIOR_APPROVAL"] == "", "one of before there were meanings"
    hazard = whole.decisions.decisions[4]
    assert (hazard.subject, hazard.why) == ("class II", "It may make you dizzy. Bring it back.")


@pytest.mark.parametrize("seed", range(8))
def test_any_order_and_any_repetition_give_the_same_dossier(played: Platform, seed: int) -> None:
    other = Platform()
    try:
        draw = random.Random(seed)
        for number, one in enumerate(mixed(story(), seed)):
            other.tell(*one, times=draw.choice([1, 1, 2, 3]))
            if number % 40 == seed:
                other.settle()
        other.settle()
        for name in ("raw", "pack1"):
            assert str(other.dossier(name)) == str(played.dossier(name))
    finally:
        other.close()


def test_a_lot_made_from_the_root_has_the_run_of_its_root(played: Platform) -> None:
    pack = played.dossier("pack1")
    assert pack.process.state == ""
    assert (pack.exposed.runs[0].root, pack.exposed.runs[0].depth) == (lot("raw"), 2)
    assert pack.distribution.dispensed
    assert not played.dossier("raw").distribution.dispensed
    assert [d.what for d in pack.decisions.decisions] == [
        "HAZARD_EVALUATED", "UNATTRIBUTED_EXPLAINED", "CAPA_APPROVED", "CHANGE_FILING_PRIOR_APPROVAL",
        "CHANGE_VALIDATED", "CAPA_EFFECTIVE",
    ]  # fmt: skip


def test_the_page_of_a_blinded_kit_names_nothing_that_is_inside(platform: Platform) -> None:
    """The same story as everywhere here, with a kit made from its pack."""
    kit = lot_key("maker", "kit", "STUDY-1", "K001")
    packed = material("kit", "pack1")
    packed.lot = kit
    platform.tell("sponsor", packed, 0)
    for one in story():
        platform.tell(*one)
    platform.settle()
    shown = asyncio.run(dossiers.read(AsyncMemoryStore(platform.database), kit))
    assert shown.inputs_withheld
    assert [run.run for run in shown.exposed.runs] == [run.run for run in shown.evidence.runs] == [RUN]
    assert shown.exposed.runs[0].people.dispenses.value > 0
    assert shown.decisions.left_out == len(platform.dossier("pack1").decisions.decisions)
    inside = {item for item in platform.dossier("raw").exposed.runs[0].lots if item != kit}
    assert inside > {lot("raw"), lot("pack1")}
    products = {product_of(name) for name in inside}
    tags = {one.tag for one in platform.dossier("raw").deviations.deviations}
    text = shown.SerializeToString()
    assert not [name for name in inside | products | tags if name.encode() in text]


def test_a_lot_that_nobody_told_of_is_refused(platform: Platform) -> None:
    with pytest.raises(Unknown) as unknown:
        platform.dossier("never")
    assert (unknown.value.reason, unknown.value.field) == ("UNKNOWN_LOT", "lot")
    with pytest.raises(Invalid):
        asyncio.run(dossiers.read(AsyncMemoryStore(platform.database), "no lot"))


def test_what_only_the_plant_told_of_has_a_dossier(platform: Platform) -> None:
    platform.tell("lot-x", production.LotStarted(lot=lot("x"), equipment="dryer", at=moment(1).at), 1)
    platform.fold_rows()
    found = platform.dossier("x")
    assert (found.process.state, found.process.equipment, found.material.known) == ("started", "dryer", False)


def as_once_told(site: str, count: int) -> Message:
    return clinical.ResponsesSummarised(run=RUN, site=site, plans=count, answered=count, affected=3)


def as_told(site: str, count: int) -> Message:
    return clinical.FollowUpSummarised(run=RUN, site=site, plans=count, answered=3 if site == B else 0)


@pytest.mark.parametrize("said", [as_once_told, as_told])
def test_small_counts_are_never_shown_nor_told_in_words(
    platform: Platform, said: Callable[[str, int], Message]
) -> None:
    for teller, message, at in [*plant(), *loop(), *quality()]:
        platform.tell(teller, message, at)
    platform.tell("", material("pack1", "raw"), 0)
    for site, count in {A: 7, B: 31}.items():
        platform.tell(f"site-{site}", registered(site), 0)
        for n in range(count):
            platform.tell("", dispense(f"{site}-{n}", "pack1", site, f"P{n}"), 0)
        platform.tell(f"exposure-{site}", clinical.ExposureReceived(run=RUN, site=site, patients=count), 10)
        platform.tell(f"exposure-{site}", said(site, count), 12)
    platform.settle()
    found = platform.dossier("raw")
    (run,) = found.exposed.runs
    assert (run.people.patients.value, run.people.patients.withheld) == (38, False)
    assert {site.site: site.people.patients.withheld for site in run.sites} == {A: True, B: True}
    (evidence,) = found.evidence.runs
    assert evidence.people.answered.withheld
    assert evidence.people.affected.withheld == (said is as_once_told)
    assert "7 of 8" not in str(found), "the reason of a proposal has counts in it"


def test_a_large_lot_has_a_small_dossier(platform: Platform) -> None:
    """Sixty packs, ten thousand patients, a lot that was held again and again, and many runs."""
    packs = [f"pack{n:03d}" for n in range(160)]
    for name in packs:
        platform.tell("", material(name, "raw"), 0)
    held = [production.LotHeld(lot=lot("raw"), reason=f"{n}", actor="qa") for n in range(KEPT + 30)]
    for n, message in enumerate(held):
        platform.tell("lot-raw", message, n)
    runs = [f"r{n:02d}" for n in range(13)]
    for n, run in enumerate(runs):
        platform.tell(f"loop-{run}", opened(run, "raw"), n)
        done = clinical.ExposureReceived(run=run, site=A, n=10_000, patients=10_000)
        platform.tell(f"exposure-{run}", done, n)
    platform.settle()
    found = platform.dossier("raw")
    assert (len(found.material.outputs), found.material.outputs_left_out) == (bounds.LOTS, 60)
    assert (len(found.process.steps), found.process.left_out) == (KEPT, 30)
    assert found.process.steps[-1].why == held[-1].reason
    assert ([r.run for r in found.exposed.runs], found.exposed.left_out) == (runs[3:], 3)
    assert [r.run for r in found.evidence.runs] == runs[3:]
    assert all((len(r.lots), r.lots_left_out) == (bounds.LOTS, 61) for r in found.exposed.runs)
    shown = len(found.decisions.decisions)
    assert (shown, found.decisions.left_out) == (bounds.DECISIONS, 30)
    assert found.ByteSize() < 100_000
