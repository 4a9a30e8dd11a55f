"""The dossier of a lot: whole, the same in any order, bounded, and without small counts."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import timedelta
from itertools import groupby

import pytest
from google.protobuf.message import Message

from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.loops.v1 import events_pb2 as loops
from pharmaloop.production.v1 import events_pb2 as production
from pharmaloop.rnd.v1 import events_pb2 as rnd
from pharmaloop.traceability.v1 import dossier_pb2 as page
from pharmaloop.traceability.v1 import events_pb2 as events
from services.kit.contracts import contract
from services.kit.envelope import Event, to_record
from services.kit.errors import Invalid, Unknown
from services.kit.metrics import Metrics
from services.kit.runners.batch import BatchRunner, Surroundings
from services.kit.runners.letters import LETTERS
from services.kit.runners.reactor import projector
from services.kit.store.memory import AsyncMemoryStore
from services.traceability import dossiers
from services.traceability.domain.dossier import page as pages
from services.traceability.domain.dossier.newest import KEPT
from services.traceability.dossier_rows import ROWS
from tests.unit.traceability.driver import (
    START,
    Service,
    dispense,
    lot,
    material,
    moment,
    opened,
    registered,
)

A, B, RUN = "hospital-a", "hospital-b", "run-1"
PEOPLE = {A: 40, B: 25}
SECTIONS = [field.name for field in page.LotDossier.DESCRIPTOR.fields if field.message_type]
#: Who says something, what, and after how many hours; the order within one teller is kept.
Told = tuple[str, Message, float]


class Platform(Service):
    """Traceability with its dossier beside the fold, fed with what every service tells."""

    def __init__(self) -> None:
        super().__init__()
        around = Surroundings(
            "traceability", "", contract(), self.bus, self.store, Metrics("traceability"), lambda: None
        )
        self._rows = BatchRunner(projector("dossier", ROWS), around)
        self._numbers: dict[str, int] = defaultdict(int)

    def tell(self, teller: str, message: Message, hours: float, times: int = 1) -> None:
        """Put an event of a teller on its topic; a fact has no teller."""
        if not teller:
            for _ in range(times):
                self.publish(message)
            return
        self._numbers[teller] += 1
        number = self._numbers[teller]
        topic, key = contract().route(message)
        run = getattr(message, "run", "")
        at = START + timedelta(hours=hours)
        id = f"{teller}-{number:03d}"
        event = Event(id, f"/svc/{teller}", teller, at, message, key, number, case=lot("raw"), run=run)
        for _ in range(times):
            self.bus.append(to_record(event, topic))

    def fold_all(self) -> None:
        super().fold_all()
        self.fold_rows()

    def fold_rows(self) -> None:
        """What the dossier's own runner has not taken yet, and nothing of the fold."""
        for topic in self._rows.topics:
            for place in self.bus.partitions_of(topic):
                start = self._rows.positions().get(place, 0)
                if records := self.bus.records[place][start:]:
                    self._rows.process(records)

    def dossier(self, name: str) -> page.LotDossier:
        assert not self.states(LETTERS)
        return asyncio.run(dossiers.read(AsyncMemoryStore(self.database), lot(name)))


@pytest.fixture
def platform() -> Iterator[Platform]:
    made = Platform()
    yield made
    made.close()


# -- a story: a raw lot, two packs, two hospitals, one run from its trigger to its close ---------


def plant() -> list[Told]:
    raw, deviation = lot("raw"), "dev-1"
    found = production.DeviationDetected(
        deviation=deviation, lot=raw, product="maker/gtin/04012345678901", equipment="dryer", tag="Temp",
        unit="Cel", phase="heat", magnitude=7.5, limit=4.0, rule="3 in a row", model_version="m1",
        first_out=moment(2).at, detected=moment(3).at,
    )  # fmt: skip
    held = production.IMPLICATION_DECISION_HELD
    said: list[tuple[Message, float]] = [
        (production.LotStarted(lot=raw, product="maker/gtin/04012345678901", at=moment(1).at), 1),
        (found, 3),
        (production.LotCompleted(lot=raw, at=moment(4).at), 4),
        (production.DeviationConfirmed(deviation=deviation, lot=raw, tag="Temp", actor="qa", reason="r"), 5),
        (production.LotHeld(lot=raw, reason="confirmed", actor="qa"), 5),
        (production.LotImplicationAnswered(lot=raw, run=RUN, decision=held, reason="held before"), 6),
        (production.LotRejected(lot=raw, reason="destroyed", actor="qa"), 30),
    ]
    return [("lot-raw", message, at) for message, at in said]


def stage(name: str, start: float, seconds: float) -> loops.StageCompleted:
    began, ended = moment(start).at, moment(start + seconds / 3600).at
    return loops.StageCompleted(run=RUN, case=lot("raw"), stage=name, began=began, ended=ended)


def loop() -> list[Told]:
    run = opened(RUN, "raw")
    run.deviation, run.tag = "dev-1", "Temp"
    late = loops.LoopStalled(run=RUN, case=lot("raw"), stage="hold", waiting_for="a lot's owner")
    ended = loops.LoopClosed(run=RUN, case=lot("raw"), outcome=loops.RUN_OUTCOME_CLOSED, patients=65)
    return [("loop", message, 6 + n) for n, message in enumerate((run, stage("trace", 6, 2), late, ended))]


def quality() -> list[Told]:
    raw, product = lot("raw"), "maker/gtin/04012345678901"
    hazard = production.HazardEvaluated(
        run=RUN, lot=raw, hazard_class=production.HAZARD_CLASS_II, text="It may make you dizzy.",
        instruction="Bring it back.", actor="physician", meaning="I evaluated it",
    )  # fmt: skip
    said: list[Message] = [
        production.CapaProposed(
            capa="capa-1", run=RUN, lot=raw, product=product, tag="Temp", limit_before=4, limit_after=3,
            reason="7 of 8 patients with a plan answered", answered=7, affected=3,
        ),
        production.CapaApproved(capa="capa-1", run=RUN, actor="qa", meaning="I approve"),
        production.ProcessLimitChanged(
            product=product, tag="Temp", limit_before=4, limit_after=2.5, capa="capa-1", run=RUN
        ),
        production.InsightPublished(insight="insight-1", run=RUN, lot=raw, statement="Counts are withheld."),
    ]  # fmt: skip
    return [("hazard", hazard, 8), *(("capa", message, 20.0 + n) for n, message in enumerate(said))]


def hospital(site: str) -> list[Told]:
    n = PEOPLE[site]
    said: list[Message] = [
        clinical.ExposureReceived(run=RUN, site=site, epoch=1, n=n, patients=n),
        clinical.PlansOpened(run=RUN, site=site, patients=n, plans=10),
        clinical.PlansOpened(run=RUN, site=site, patients=n, plans=n),
        clinical.NoticesSummarised(run=RUN, site=site, patients=n, notified=n),
        clinical.ResponsesSummarised(run=RUN, site=site, plans=n, answered=n, affected=10, complete=True),
    ]
    return [(f"exposure-{site}", message, 10.0 + number) for number, message in enumerate(said)]


def trace() -> list[Told]:
    quantity = common.Quantity(value=50, unit="kg")
    made = material("bulk", "raw", at=2)
    made.quantity.CopyFrom(quantity)
    made.inputs[0].quantity.CopyFrom(quantity)
    raw = events.MaterialRecorded(lot=lot("raw"), quantity=quantity, at=moment(0), record="raw")
    facts: list[Message] = [raw, made, material("pack1", "bulk"), material("pack2", "bulk")]
    for n, to_place in enumerate(("pharmacy-1", "pharmacy-2")):
        went = events.ShipmentRecorded(
            lot=lot("raw"), from_place="maker", to_place=to_place, record=str(n), at=moment(7),
            quantity=common.Quantity(value=0.1 + n, unit="kg"),
        )  # fmt: skip
        facts.append(went)
    for site, count in PEOPLE.items():
        facts += [dispense(f"{site}-{n}", f"pack{1 + n % 2}", site, f"P{n}") for n in range(count)]
    facts.append(dispense("lost", "pack1"))
    sites = [(f"site-{site}", registered(site), 0.0) for site in PEOPLE]
    explained = events.UnattributedExplained(
        run=RUN, dispense="lost", reason="sold", actor="pharmacist", meaning="asked"
    )
    sealed = events.ExposureSealed(run=RUN, version=2)
    journal = [("journal", explained, 9.0), ("journal", sealed, 11.0)]
    return [*sites, *(("", fact, 0.0) for fact in facts), *journal]


def story() -> list[Told]:
    taken = rnd.InsightRecorded(insight="insight-1", run=RUN)
    return [*plant(), *trace(), *loop(), *quality(), *hospital(A), *hospital(B), ("taken", taken, 25.0)]


def mixed(told: Iterable[Told], seed: int) -> Iterator[Told]:
    """In any order; what one teller says stays in its own."""
    draw = random.Random(seed)
    queues = {
        teller: list(said) for teller, said in groupby(sorted(told, key=lambda t: t[0]), lambda t: t[0])
    }
    draw.shuffle(queues.get("", []))
    while queues:
        teller = draw.choice(sorted(queues))
        yield queues[teller].pop(0)
        if not queues[teller]:
            del queues[teller]


# -- tests ---------------------------------------------------------------------------------------


@pytest.fixture
def played(platform: Platform) -> Platform:
    for one in story():
        platform.tell(*one)
    platform.settle()
    return platform


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
        "confirmed",
        "qa",
        7.5,
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
    assert (evidence.complete, evidence.people.answered.value, evidence.people.affected.value) == (
        True,
        65,
        20,
    )
    assert (evidence.capa.limit_before, evidence.capa.limit_after, evidence.capa.approved) == (4, 2.5, True)
    assert (evidence.insight.statement, evidence.insight.recorded) == ("Counts are withheld.", True)


def test_decisions_say_who_and_why_in_order_of_time(whole: page.LotDossier) -> None:
    told = [(d.what, d.who) for d in whole.decisions.decisions]
    assert told == [
        ("DEVIATION_CONFIRMED", "qa"),
        ("HELD", "qa"),
        ("IMPLICATION_HELD", "platform"),
        ("HAZARD_EVALUATED", "physician"),
        ("UNATTRIBUTED_EXPLAINED", "pharmacist"),
        ("CAPA_APPROVED", "qa"),
        ("REJECTED", "qa"),
    ]
    times = [d.at.ToDatetime() for d in whole.decisions.decisions]
    assert times == sorted(times)
    hazard = whole.decisions.decisions[3]
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
        "HAZARD_EVALUATED", "UNATTRIBUTED_EXPLAINED", "CAPA_APPROVED",
    ]  # fmt: skip


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


def test_small_counts_are_never_shown_nor_told_in_words(platform: Platform) -> None:
    for teller, message, at in [*plant(), *loop(), *quality()]:
        platform.tell(teller, message, at)
    platform.tell("", material("pack1", "raw"), 0)
    for site, count in {A: 7, B: 31}.items():
        platform.tell(f"site-{site}", registered(site), 0)
        for n in range(count):
            platform.tell("", dispense(f"{site}-{n}", "pack1", site, f"P{n}"), 0)
        said = clinical.ResponsesSummarised(run=RUN, site=site, plans=count, answered=count, affected=3)
        platform.tell(f"exposure-{site}", clinical.ExposureReceived(run=RUN, site=site, patients=count), 10)
        platform.tell(f"exposure-{site}", said, 12)
    platform.settle()
    found = platform.dossier("raw")
    (run,) = found.exposed.runs
    assert (run.people.patients.value, run.people.patients.withheld) == (38, False)
    assert {site.site: site.people.patients.withheld for site in run.sites} == {A: True, B: True}
    (evidence,) = found.evidence.runs
    assert evidence.people.answered.withheld
    assert evidence.people.affected.withheld
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
    assert (len(found.material.outputs), found.material.outputs_left_out) == (pages.LOTS, 60)
    assert (len(found.process.steps), found.process.left_out) == (KEPT, 30)
    assert found.process.steps[-1].why == held[-1].reason
    assert ([r.run for r in found.exposed.runs], found.exposed.left_out) == (runs[3:], 3)
    assert [r.run for r in found.evidence.runs] == runs[3:]
    assert all((len(r.lots), r.lots_left_out) == (pages.LOTS, 61) for r in found.exposed.runs)
    shown = len(found.decisions.decisions)
    assert (shown, found.decisions.left_out) == (pages.DECISIONS, 30)
    assert found.ByteSize() < 100_000
