"""A platform with the dossier's rows beside the fold, and the story of a lot that is told to it."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import timedelta
from itertools import groupby

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
from services.kit.metrics import Metrics
from services.kit.runners.batch import BatchRunner, Surroundings
from services.kit.runners.letters import LETTERS
from services.kit.runners.reactor import projector
from services.kit.store.memory import AsyncMemoryStore
from services.traceability import dossiers
from services.traceability.dossier_rows import ROWS
from tests.unit.traceability.driver import (
    START,
    Service,
    dispense,
    fact_id,
    lot,
    material,
    moment,
    opened,
    registered,
)

A, B, RUN = "hospital-a", "hospital-b", "run-1"
PEOPLE = {A: 40, B: 25}
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


# -- a story: a raw lot, two packs, two hospitals, one run from its trigger to its close ---------


def plant() -> list[Told]:
    raw, deviation = lot("raw"), "dev-1"
    found = production.DeviationDetected(
        deviation=deviation, lot=raw, product="maker/gtin/04012345678901", equipment="dryer", tag="Temp",
        unit="Cel", phase="heat", magnitude=7.5, limit=4.0, rule="3 in a row", model_version="m1",
        first_out=moment(2).at, detected=moment(3).at, samples_out=3,
        proposed_severity=production.SEVERITY_MINOR,
    )  # fmt: skip
    grown, ended = (
        production.DeviationUpdated(
            deviation=deviation, lot=raw, tag="Temp", last_out=moment(at).at, samples_out=samples,
            magnitude=magnitude, lasting=lasting, proposed_severity=production.SEVERITY_MAJOR,
        )
        for at, samples, magnitude, lasting in ((3.25, 30, 8.0, True), (3.5, 60, 9.5, False))
    )  # fmt: skip
    critical = production.SEVERITY_CRITICAL
    classified = production.DeviationClassified(
        deviation=deviation, lot=raw, severity=critical, impact="dizzy", actor="qa"
    )
    held = production.IMPLICATION_DECISION_HELD
    said: list[tuple[Message, float]] = [
        (production.LotStarted(lot=raw, product="maker/gtin/04012345678901", at=moment(1).at), 1),
        (found, 3),
        (grown, 3.25),
        (ended, 3.5),
        (production.LotCompleted(lot=raw, at=moment(4).at), 4),
        (
            production.DeviationInvestigationStarted(deviation=deviation, lot=raw, actor="qa", reason="logs"),
            4.5,
        ),
        (production.DeviationConfirmed(deviation=deviation, lot=raw, tag="Temp", actor="qa", reason="r"), 5),
        (production.LotHeld(lot=raw, reason="confirmed", actor="qa"), 5),
        (production.LotImplicationAnswered(lot=raw, run=RUN, decision=held, reason="held before"), 6),
        (production.DeviationCapaRequired(deviation=deviation, lot=raw, capa="capa-1"), 20),
        (production.LotRejected(lot=raw, reason="destroyed", actor="qa"), 30),
        (classified, 31),
        (production.DeviationClosed(deviation=deviation, lot=raw, actor="qa2", reason="capa-1 closed"), 32),
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
            capa="capa-1", run=RUN, lot=raw, deviation="dev-1", product=product, tag="Temp",
            limit_before=4, limit_after=3, reason="7 of 8 patients with a plan answered", answered=7,
            affected=3, evidence=attached(),
        ),
        production.CapaApproved(capa="capa-1", run=RUN, actor="qa", meaning="I approve"),
        production.ChangeFilingAssessed(
            capa="capa-1", run=RUN, category=production.FILING_CATEGORY_PRIOR_APPROVAL, reference="A-7",
            statement="outside what is filed", actor="regulatory",
        ),
        production.ChangeValidated(
            capa="capa-1", run=RUN, record="V-3", statement="three runs inside", actor="engineer",
            meaning="It is valid",
        ),
        production.ProcessLimitChanged(
            product=product, tag="Temp", limit_before=4, limit_after=2.5, capa="capa-1", run=RUN, version=2
        ),
        production.InsightPublished(insight="insight-1", run=RUN, lot=raw, statement="Counts are withheld."),
        production.CapaEffectivenessChecked(
            capa="capa-1", run=RUN, outcome=production.EFFECTIVENESS_OUTCOME_EFFECTIVE, statement="20 lots",
            actor="qa",
        ),
    ]  # fmt: skip
    return [("hazard", hazard, 8), *(("capa", message, 20.0 + n) for n, message in enumerate(said))]


def attached() -> production.CapaEvidence:
    """What production makes of the releases: one site told its sums, the other withholds its comparators."""
    row = production.CapaEvidenceRow
    found = production.CapaEvidence()
    found.sites.add(site=A, exposed=row(patients=40, cases=20), comparators=row(patients=60, cases=15))
    found.sites[0].pooled = True
    found.sites.add(site=B, exposed=row(patients=25, cases=10), comparators=row(withheld=True))
    found.risk_ratio.CopyFrom(common.Estimate(value=2, lower=1.17, upper=3.42))
    found.rate_difference.CopyFrom(common.Estimate(value=0.01, lower=0.002, upper=0.018))
    return found


def releases(site: str) -> list[Message]:
    """Two releases, the second one final."""
    prompted, row = clinical.OUTCOME_KIND_PROMPTED, clinical.ReleasedRow
    few = clinical.EvidenceReleased(
        run=RUN, site=site, lot=lot("raw"), kind=prompted, number=1, exposed=row(patients=12, withheld=True),
        comparators=row(withheld=True),
    )  # fmt: skip
    n, cases, others = {A: (40, 20, row(patients=60, cases=15)), B: (25, 10, row(withheld=True))}[site]
    whole = clinical.EvidenceReleased(
        run=RUN, site=site, lot=lot("raw"), kind=prompted, number=2, exposed=row(patients=n, cases=cases),
        comparators=others, final=True, plans=n,
    )  # fmt: skip
    return [few, whole]


def hospital(site: str) -> list[Told]:
    n = PEOPLE[site]
    said: list[Message] = [
        clinical.ExposureReceived(run=RUN, site=site, epoch=1, n=n, patients=n),
        clinical.PlansOpened(run=RUN, site=site, patients=n, plans=10),
        clinical.PlansOpened(run=RUN, site=site, patients=n, plans=n),
        clinical.NoticesSummarised(run=RUN, site=site, patients=n, notified=n),
        clinical.FollowUpSummarised(run=RUN, site=site, plans=n, answered=n - 10),
        clinical.FollowUpSummarised(run=RUN, site=site, plans=n, answered=n, complete=True),
    ]
    told = [(f"exposure-{site}", message, 10.0 + number) for number, message in enumerate(said)]
    return [*told, *((f"evidence-{site}", message, 15.0 + n) for n, message in enumerate(releases(site)))]


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


def measured(name: str, value: float, at: float, low: float | None = 90) -> production.TestResultRecorded:
    return production.TestResultRecorded(
        lot=lot(name),
        test="assay",
        value=value,
        unit="%",
        low=low,
        at=moment(at),
        record=f"R-{at}",
        source="lims",
    )


def laboratory() -> list[Told]:
    """A result out of specification, its retest, one out of trend, and one that is as it should be."""
    raw = lot("raw")
    facts = [measured("raw", value, at) for value, at in ((88, 40), (95, 41), (99.9, 42), (95, 43))]
    out, retest, trend, _ = (fact_id(fact) for fact in facts)
    error = production.INVESTIGATION_OUTCOME_LABORATORY_ERROR
    said: list[Message] = [
        production.LaboratoryInvestigationOpened(
            lot=raw, investigation="inv-1", result=out, test="assay", at=moment(40).at, rule="88 below 90"
        ),
        production.RetestPassed(lot=raw, investigation="inv-1", result=retest),
        production.InvestigationClosed(
            lot=raw, investigation="inv-1", result=out, outcome=error, actor="lab", reason="wrong column"
        ),
        production.TrendReviewOpened(lot=raw, result=trend, test="assay", rule="99.9 far from 95", earlier=9),
    ]
    told = [("lot-raw", message, 50.0 + n) for n, message in enumerate(said)]
    return [*(("", fact, 0.0) for fact in facts), *told]


def story() -> list[Told]:
    taken = rnd.InsightRecorded(insight="insight-1", run=RUN)
    return [
        *plant(),
        *laboratory(),
        *trace(),
        *loop(),
        *quality(),
        *hospital(A),
        *hospital(B),
        ("taken", taken, 25.0),
    ]


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
