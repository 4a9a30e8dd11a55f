"""What a plant, its pharmacies, hospitals and an analyst do in one case, to closed loops; always the same.

The caller sends everything until it is acknowledged, with the same request id,
and keeps a journal of what was. Names and times follow from the case's number
alone, so two worlds that play the same cases hear the same inputs.
"""

from __future__ import annotations

import csv
import importlib.util
from collections import defaultdict
from collections.abc import Callable, Iterable
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.message import Message

from pharmaloop.alerting.v1 import service_pb2 as alerting
from pharmaloop.alerting.v1 import service_pb2_grpc as alerting_grpc
from pharmaloop.clinical.v1 import events_pb2 as clinical_events
from pharmaloop.clinical.v1 import service_pb2 as clinical
from pharmaloop.clinical.v1 import service_pb2_grpc as clinical_grpc
from pharmaloop.exchange.v1 import service_pb2_grpc as exchange_grpc
from pharmaloop.loops.v1 import service_pb2 as loops
from pharmaloop.loops.v1 import service_pb2_grpc as loops_grpc
from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.production.v1 import service_pb2 as production
from pharmaloop.production.v1 import service_pb2_grpc as production_grpc
from pharmaloop.rnd.v1 import service_pb2_grpc as rnd_grpc
from pharmaloop.traceability.v1 import service_pb2_grpc as traceability_grpc
from services.kit.ids import derived_id
from tests.reliability import facts
from tests.reliability.asking import ACTOR, AGAIN, OPTIONS, Journal, answered, noted
from tests.reliability.moments import START, moment
from tests.reliability.specs import SITE
from tests.reliability.workload_studies import Study, furnish_studies
from tests.reliability.world import World, until

PRODUCT, DRYER, TAG, FAULT = "maker/item/granulate", "plant-1/dryer-1", "JacketTemperature", 40.0
UNITS = {
    "CollectorTankLevel": "%",
    "DifferentialPressure": "mbar",
    "DryerPressure": "mbar",
    "AgitatorPower": "A",
    "AgitatorTorque": "/min",
    "AgitatorSpeed": "%",
    "JacketTemperatureSP": "Cel",
    "JacketTemperature": "Cel",
    "DryerTemperatureSP": "Cel",
    "DryerTemp": "Cel",
}
FAULTY, GOOD = "39", [str(number) for number in range(1, 11)]
CONSENTING, OTHERS = 5, 1
#: The level of an alert that was given to the next role.
_ESCALATED = 2
_CALL_SECONDS, _TRAINING_SECONDS, _CASE_SECONDS = 5.0, 120.0, 150.0
Table = dict[str, list[float]]


@cache
def dryer_runs() -> dict[str, Table]:
    """The real dryer runs by number; found by path, for the package itself needs pandas."""
    spec = importlib.util.find_spec("process_improve")
    assert spec is not None
    assert spec.submodule_search_locations is not None
    path = Path(spec.submodule_search_locations[0], "datasets", "batch", "dryer.csv")
    runs: dict[str, Table] = defaultdict(lambda: defaultdict(list))
    with path.open() as file:
        for row in csv.DictReader(file):
            for tag in (*UNITS, "ClockTime"):
                runs[row["batch_id"]][tag].append(float(row[tag]))
    return runs


def faulty_run() -> Table:
    """A copy of a real run whose jacket is too hot from the middle on."""
    run = dryer_runs()[FAULTY]
    middle = len(run[TAG]) // 2
    return {**run, TAG: [value + (FAULT if n >= middle else 0) for n, value in enumerate(run[TAG])]}


def readings(lot: str, run: Table, first: int = 0, last: int | None = None) -> events.ReadingsRecorded:
    """Rows of a run as a batch; a row is a minute."""
    cut, begin = slice(first, last), run["ClockTime"][first]
    made = events.ReadingsRecorded(equipment=DRYER, lot=lot)
    made.start.at.FromDatetime(START + timedelta(minutes=begin))
    made.offsets_ms[:] = [int((at - begin) * 60_000) for at in run["ClockTime"][cut]]
    for tag, unit in UNITS.items():
        made.tags.add(tag=tag, unit=unit, values=run[tag][cut])
    return made


class Caller:
    """Calls the services of a world as their users do. `times`: everything is sent so often; `seconds`: so
    long a call waits for its answer."""

    #: After these statuses the same request is sent again; every other one is an error of the test.
    again = AGAIN

    def __init__(self, world: World, *, times: int = 1, seconds: float = _CALL_SECONDS) -> None:
        self.world = world
        self.journal = Journal()
        self.times = times
        self.seconds = seconds
        self._channels = {
            name: grpc.insecure_channel(world.address(name), options=OPTIONS)
            for name in ("production", "traceability", "clinical", "alerting", "loops", "rnd", "exchange")
        }
        self.production = production_grpc.ProductionServiceStub(self._channels["production"])
        self.traceability = traceability_grpc.TraceabilityServiceStub(self._channels["traceability"])
        self.clinical = clinical_grpc.ClinicalServiceStub(self._channels["clinical"])
        self.alerting = alerting_grpc.AlertingServiceStub(self._channels["alerting"])
        self.loops = loops_grpc.LoopsServiceStub(self._channels["loops"])
        self.rnd = rnd_grpc.RndServiceStub(self._channels["rnd"])
        self.exchange = exchange_grpc.ExchangeServiceStub(self._channels["exchange"])

    def close(self) -> None:
        for channel in self._channels.values():
            channel.close()

    def ask(
        self, call: Callable[..., Any], request: Message, seconds: float = 0.0, actor: str = ACTOR
    ) -> Any:
        """Ask until there is an answer; a refusal is an error of the test."""
        return answered(
            call,
            request,
            self.journal,
            seconds=seconds or self.seconds,
            patience=_CASE_SECONDS,
            actor=actor,
            again=self.again,
        )

    def do(
        self,
        call: Callable[..., Any],
        request: Any,
        expects: Iterable[tuple[str, str, str]] = (),
        actor: str = ACTOR,
    ) -> Any:
        """A command or a batch of facts: until it is acknowledged, and then written down."""
        for _ in range(self.times):
            # Training takes its time, and would begin anew with every try.
            is_training = isinstance(request, production.TrainModelRequest)
            patience = _TRAINING_SECONDS if is_training else self.seconds
            answer = self.ask(call, request, patience, actor)
        self.journal.acknowledged.append(noted(request, answer, expects, actor))
        return answer


class Case:
    """One case: a faulty lot, its packs, its patients, four lots that are good, and a study beside.

    `patience`: so many seconds it waits for what the platform has to do next.
    """

    patience = _CASE_SECONDS

    def __init__(self, number: int) -> None:
        self.number = number
        self.lot = f"{PRODUCT}/R{number}"
        self.packs = [f"maker/gtin/09506000134352/P{number}{side}" for side in "ab"]
        self.patients = [f"c{number}-p{n}" for n in range(CONSENTING + OTHERS)]
        self.study = Study(f"study-{number}", self.patience)

    def play(self, caller: Caller) -> None:
        """From the first fact to the closed loops."""
        self.study.ask(caller)
        self._facts(caller)
        self._good_lots(caller)
        self._faulty_lot(caller)
        run = self._run(caller)
        self._tell_patients(caller, run)
        self._answer(caller, run)
        self._approve(caller, run)
        until("the loop closes", lambda: self._closed(caller), self.patience)
        self.study.wait(caller)

    def _id(self, name: str) -> str:
        return f"case-{self.number}/{name}"

    # -- facts --------------------------------------------------------------

    def _order(self, n: int) -> str:
        return f"order-{self.number}-{n}"

    def _facts(self, caller: Caller) -> None:
        facts.record_packs(caller, self._id("material"), self.packs, self.lot)
        consents = {name: n < CONSENTING for n, name in enumerate(self.patients)}
        facts.record_patients(caller, self._id("subjects"), consents)
        given = [facts.Given(self._order(n), name, self.packs[n % 2]) for n, name in enumerate(self.patients)]
        facts.record_medications(caller, self._id("medications"), given)
        # The last one is known to the hospital alone: the site has to tell the trace.
        facts.record_dispenses(caller, self._id("dispenses"), given[:-1], given[-1:])

    # -- the plant ----------------------------------------------------------

    def _start(self, caller: Caller, lot: str) -> None:
        request = production.StartLotRequest(
            request_id=f"start {lot}", lot=lot, equipment=DRYER, at=moment(0).at
        )
        while True:
            receipt = caller.do(caller.production.StartLot, request, [("production", "lot", lot)]).receipt
            if not receipt.pending:
                break
        # What follows is heard after the start by everybody: which of two inputs on two topics comes
        # second is chance, and the cause that its effects name.
        asked = production.GetLotRequest(lot=lot, min_position=receipt.positions)
        caller.ask(caller.production.GetLot, asked)

    def _good_lots(self, caller: Caller) -> None:
        for n in range(4):
            lot = f"maker/item/tablet/G{self.number}.{n}"
            self._start(caller, lot)
            caller.do(
                caller.production.CompleteLot,
                production.CompleteLotRequest(request_id=f"complete {lot}", lot=lot, at=moment(1).at),
            )
            caller.do(
                caller.production.ReleaseLot,
                production.ReleaseLotRequest(request_id=f"release {lot}", lot=lot),
            )

    def _faulty_lot(self, caller: Caller) -> None:
        self._start(caller, self.lot)
        run = faulty_run()
        rows = len(run[TAG])
        for first, last in ((0, 60), (60, rows)):
            request = production.RecordReadingsRequest(
                request_id=self._id(f"readings {first}"), batches=[readings(self.lot, run, first, last)]
            )
            caller.do(
                caller.production.RecordReadings, request, [("production", "run", f"{self.lot}|{DRYER}")]
            )
        until("the deviation is detected", lambda: self._deviation(caller), self.patience)
        self._acknowledge_alert(caller)
        confirm = production.ConfirmDeviationRequest(
            request_id=self._id("confirm"), lot=self.lot, deviation=self._deviation(caller), reason="seen"
        )
        caller.do(caller.production.ConfirmDeviation, confirm)

    def _deviation(self, caller: Caller) -> str:
        answer = caller.ask(caller.production.ListDeviations, production.ListDeviationsRequest(lot=self.lot))
        wanted = derived_id("deviation", self.lot, TAG)
        return wanted if any(d.detected.deviation == wanted for d in answer.deviations) else ""

    # -- the loop -----------------------------------------------------------

    def _runs(self, caller: Caller) -> list[loops.Run]:
        answer = caller.ask(caller.loops.ListRuns, loops.ListRunsRequest(lot=self.lot))
        return list(answer.runs)

    def _run(self, caller: Caller) -> str:
        until("a run is opened", lambda: self._runs(caller), self.patience)
        return str(self._runs(caller)[-1].run)

    def _closed(self, caller: Caller) -> bool:
        runs = self._runs(caller)
        return bool(runs) and all(run.state == loops.RUN_STATE_CLOSED for run in runs)

    def _tell_patients(self, caller: Caller, run: str) -> None:
        """A person evaluates the hazard, and the hospital tells everybody.

        The loop shows a run before the plant has heard of it, and a refusal is kept as the answer.
        """
        until("the plant knows the run", lambda: run in self._implicated(caller), self.patience)
        evaluate = production.EvaluateHazardRequest(
            request_id=self._id("hazard"),
            run=run,
            hazard_class=events.HAZARD_CLASS_II,
            text="It may make you dizzy.",
            instruction="Bring it back.",
            meaning="I evaluated it",
        )
        caller.do(caller.production.EvaluateHazard, evaluate)
        # Whoever was told already counts too: after a restore the case is played once more.
        asked = clinical.ListNoticesRequest(site=SITE, run=run, page_size=1000)
        until(
            "everybody is to be told",
            lambda: len(caller.ask(caller.clinical.ListNotices, asked).notices) == len(self.patients),
            self.patience,
        )
        told = [
            clinical_events.NoticeRecorded(
                run=run, pseudonym=name, outcome=clinical_events.NOTICE_OUTCOME_NOTIFIED, at=moment(50)
            )
            for name in self.patients
        ]
        request = clinical.RecordNoticesRequest(
            request_id=self._id("notices"), site=SITE, notices=told, all_or_nothing=True
        )
        caller.do(caller.clinical.RecordNotices, request)

    def _implicated(self, caller: Caller) -> list[str]:
        answer = caller.ask(caller.production.GetLot, production.GetLotRequest(lot=self.lot))
        return list(answer.lot.runs)

    def _answer(self, caller: Caller, run: str) -> None:
        """Every consenting patient answers; every other one has a complaint."""
        asked = clinical.ListPlansRequest(site=SITE, run=run)
        until(
            "all plans are open",
            lambda: len(caller.ask(caller.clinical.ListPlans, asked).plans) == CONSENTING,
            self.patience,
        )
        views = caller.ask(caller.clinical.ListPlans, asked).plans
        for view in sorted(views, key=lambda view: str(view.plan.pseudonym)):
            name = view.plan.pseudonym
            request = clinical.RecordResponseRequest(
                request_id=self._id(f"response {name}"),
                site=SITE,
                plan=view.plan.plan,
                pseudonym=name,
                affected=int(name[-1]) % 2 == 0,
                words="planted words",
                at=moment(60),
            )
            caller.do(caller.clinical.RecordResponse, request, [("clinical", "plan", view.plan.plan)])

    def _capa(self, caller: Caller, run: str) -> str:
        asked = production.ListCapasRequest(page_size=1000)
        capas = caller.ask(caller.production.ListCapas, asked).capas
        return next((str(capa.proposed.capa) for capa in capas if capa.proposed.run == run), "")

    def _approve(self, caller: Caller, run: str) -> None:
        until("an action is proposed", lambda: self._capa(caller, run), self.patience)
        request = production.ApproveCapaRequest(
            request_id=self._id("approve"), capa=self._capa(caller, run), meaning="I approve the new limit"
        )
        caller.do(caller.production.ApproveCapa, request)
        validation = production.RecordValidationRequest(
            request_id=self._id("validate"), capa=request.capa, record="V-1", statement="judged again"
        )
        caller.do(caller.production.RecordValidation, validation)
        filing = production.RecordFilingAssessmentRequest(
            request_id=self._id("file"),
            capa=request.capa,
            category=events.FILING_CATEGORY_NOT_REPORTED,
            statement="inside the range",
        )
        caller.do(caller.production.RecordFilingAssessment, filing)

    def _acknowledge_alert(self, caller: Caller) -> None:
        """Somebody takes the alert before the deviation is judged: then it is over, and nobody takes it.

        The lot's day is weeks ago, so the next role is asked at once: it is waited for, or who is killed
        meanwhile would decide whether it was. The one after it is asked when the case is long over.
        """
        wanted = derived_id("alert", "deviation", derived_id("deviation", self.lot, TAG))

        def raised() -> bool:
            answer = caller.ask(caller.alerting.ListAlerts, alerting.ListAlertsRequest(page_size=1000))
            return any(alert.raised.alert == wanted and alert.level == _ESCALATED for alert in answer.alerts)

        until("the alert is raised and escalated", raised, self.patience)
        request = alerting.AcknowledgeAlertRequest(
            request_id=self._id("acknowledge"), alert=wanted, note="seen"
        )
        caller.do(caller.alerting.AcknowledgeAlert, request, [("alerting", "alert", wanted)])


class Patient(Case):
    """A case that takes its time: whatever it waits for may be restarted just then, everything one by one."""

    patience = 600.0


def furnish(caller: Caller) -> None:
    """What stands before the first case: equipment, and a model learnt from real runs."""
    tags = [events.Tag(name=name, unit=unit, set_point=name.endswith("SP")) for name, unit in UNITS.items()]
    caller.do(
        caller.production.RegisterEquipment,
        production.RegisterEquipmentRequest(
            request_id="equipment", equipment=DRYER, plant="plant-1", tags=tags
        ),
        [("production", "equipment", DRYER)],
    )
    lots = [f"{PRODUCT}/T{number}" for number in GOOD]
    batches = [readings(f"{PRODUCT}/T{number}", dryer_runs()[number]) for number in GOOD]
    recorded = caller.do(
        caller.production.RecordReadings,
        production.RecordReadingsRequest(request_id="training", batches=batches, all_or_nothing=True),
        [("production", "run", f"{lot}|{DRYER}") for lot in lots],
    )
    caller.do(
        caller.production.TrainModel,
        production.TrainModelRequest(
            request_id="train", product=PRODUCT, lots=lots, min_position=recorded.receipt.positions
        ),
        [("production", "model", PRODUCT)],
    )
    furnish_studies(caller)
