"""A platform behind the fake services of the command line: it judges as the real one does.

Facts go through the services' own intake and are kept by id, commands through
their own decisions, and the answer to a request id is kept, a refusal too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from google.protobuf.message import Message

from pharmaloop.clinical.v1 import service_pb2 as clinical
from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.production.v1 import service_pb2 as production
from pharmaloop.traceability.v1 import service_pb2 as traceability
from services.clinical.intake import Intake, check_site
from services.kit.errors import Invalid, Rejected, Unknown
from services.kit.facts import Fact
from services.kit.ids import product_of
from services.kit.refused import refusals
from services.kit.sealing import LocalKeys, Sealer
from services.production.domain import equipment as equipments
from services.production.domain import lot as lots
from services.production.domain.record import Lot
from services.production.intake import readings_fact, result_fact
from services.traceability import intake
from tests.unit.cli.support import SITE, Bench


class Platform:
    """What the fakes of a bench have taken."""

    def __init__(self, bench: Bench, keys: Path) -> None:
        self.bench = bench
        self.facts: dict[str, Message] = {}
        self.equipment: dict[str, equipments.Equipment] = {}
        self.lots: dict[str, Lot] = {}
        #: Raised instead of an answer, once the given number of calls was answered.
        self.failing: tuple[int, Exception] | None = None
        self._answers: dict[tuple[str, str], Message | Rejected] = {}
        self._site = Intake(SITE, Sealer(LocalKeys(keys)))
        bench.fake.answers = {
            "RecordMaterial": self._materials,
            "RecordDispense": self._dispenses,
            "RecordSubjects": self._subjects,
            "RecordMedications": self._medications,
            "RecordReadings": self._readings,
            "RecordTestResults": self._results,
            "RegisterEquipment": lambda request: self._once("RegisterEquipment", request, self._register),
            "StartLot": lambda request: self._once("StartLot", request, self._start),
            "CompleteLot": lambda request: self._once("CompleteLot", request, self._complete),
            "TrainModel": self._train,
        }

    def of(self, kind: type[Message]) -> list[Any]:
        """The facts of a kind, in the order in which they first came."""
        return [fact for fact in self.facts.values() if isinstance(fact, kind)]

    def calls(self, *methods: str) -> list[str]:
        """The request ids of the calls of some methods."""
        return [request.request_id for name, request in self.bench.fake.requests if name in methods]

    # -- facts --------------------------------------------------------------

    def _materials(self, request: traceability.RecordMaterialRequest) -> Message:
        receipt = self._record(
            request.materials, lambda record: intake.material_fact(record, "me", ""), "materials"
        )
        return traceability.RecordMaterialResponse(receipt=receipt)

    def _dispenses(self, request: traceability.RecordDispenseRequest) -> Message:
        receipt = self._record(
            request.dispenses, lambda record: intake.dispense_fact(record, "me", [SITE]), "dispenses"
        )
        return traceability.RecordDispenseResponse(receipt=receipt)

    def _subjects(self, request: clinical.RecordSubjectsRequest) -> Message:
        check_site(request.site, SITE)
        return clinical.RecordSubjectsResponse(
            receipt=self._record(request.subjects, self._site.subject, "subjects")
        )

    def _medications(self, request: clinical.RecordMedicationsRequest) -> Message:
        check_site(request.site, SITE)
        return clinical.RecordMedicationsResponse(
            receipt=self._record(request.medications, self._site.medication, "medications")
        )

    def _readings(self, request: production.RecordReadingsRequest) -> Message:
        judge = readings_fact(self.equipment)
        receipt = self._record(request.batches, lambda batch: judge(0, batch), "batches")
        return production.RecordReadingsResponse(receipt=receipt)

    def _results(self, request: production.RecordTestResultsRequest) -> Message:
        units = {(product_of(one.lot), one.test): one.unit for one in self.of(events.TestResultRecorded)}
        judge = result_fact(units, "me")
        receipt = self._record(request.results, lambda result: judge(0, result), "results")
        return production.RecordTestResultsResponse(receipt=receipt)

    def _record(
        self, records: Iterable[Any], to_fact: Callable[[Any], Fact], field: str
    ) -> common.FactReceipt:
        if self.failing:
            left, error = self.failing
            if not left:
                raise error
            self.failing = left - 1, error
        receipt = common.FactReceipt()
        for index, record in enumerate(records):
            try:
                fact = to_fact(record)
            except Invalid as error:
                receipt.refused.add(
                    index=index,
                    reason=error.reason,
                    field=f"{field}[{index}].{error.field}",
                    description=error.description,
                )
            else:
                self.facts.setdefault(fact.id, fact.message)
                receipt.accepted += 1
        position = receipt.positions.positions.add(topic=field, partition=0)
        position.offset = len(self.facts) - 1
        return receipt

    # -- commands -------------------------------------------------------------

    def _once(self, method: str, request: Any, decide: Callable[[Any], Message]) -> Message:
        """The answer to a request id, made once."""
        key = (method, request.request_id)
        if key not in self._answers:
            try:
                with refusals():
                    self._answers[key] = decide(request)
            except Rejected as error:
                self._answers[key] = error
        answer = self._answers[key]
        if isinstance(answer, Rejected):
            raise answer
        return answer

    def _register(self, request: production.RegisterEquipmentRequest) -> Message:
        asked = events.EquipmentRegistered(
            equipment=request.equipment, plant=request.plant, tags=request.tags
        )
        held = self.equipment.get(request.equipment)
        for event in equipments.decide_register(held, asked):
            self.equipment[request.equipment] = equipments.evolve(held, event)
        return production.RegisterEquipmentResponse()

    def _start(self, request: production.StartLotRequest) -> Message:
        if request.equipment not in self.equipment:
            raise Unknown("UNKNOWN_EQUIPMENT", "register it first", "equipment")
        asked = events.LotStarted(
            lot=request.lot, product=product_of(request.lot), equipment=request.equipment, at=request.at
        )
        for event in lots.decide_start(self.lots.get(request.lot), asked):
            self.lots[request.lot] = lots.evolve(self.lots.get(request.lot), event)
        return production.StartLotResponse()

    def _complete(self, request: production.CompleteLotRequest) -> Message:
        asked = events.LotCompleted(lot=request.lot, at=request.at)
        for event in lots.decide_complete(self.lots.get(request.lot), asked):
            self.lots[request.lot] = lots.evolve(self.lots[request.lot], event)
        return production.CompleteLotResponse()

    def _train(self, request: production.TrainModelRequest) -> Message:
        if len(request.lots) < 2:
            raise Rejected("TOO_FEW_RUNS", "give at least 2 good ones", "lots")
        return production.TrainModelResponse(version="v-1")
