"""Facts of the tests' own, told to running services as plants, pharmacies and hospitals tell them.

A world that has ended has judged, asked and signed everything. What people are to decide in a story is
therefore told here: a product of its own with a model that was trained on real dryer runs, a lot whose
jacket drifts, and patients of one hospital who were given tablets made from it.
"""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from importlib import import_module
from typing import Any

from grpc import RpcError

from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.clinical.v1 import service_pb2 as clinical_api
from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.production.v1 import events_pb2 as production
from pharmaloop.traceability.v1 import events_pb2 as trace
from services.kit.clock import load_clock
from services.kit.rpc.client import metadata, sync_channel
from services.world.recipes import content
from tests.integration.test_production import FAULT, FAULTY, GOOD, TAG, UNITS, dryer_runs, with_fault
from tests.loops.stack import Stack

SITE = "hospital-a"
#: Who answers to plans; one more never does, and one more stands in the pharmacy's record alone.
ANSWERING = 14
#: Hours of the platform's clock that a follow-up lasts: some seconds of the wall's.
_HOURS = 3
_WAIT_SECONDS = 60.0
_SERVICES = {
    "production": "ProductionService",
    "traceability": "TraceabilityService",
    "clinical": "ClinicalService",
    "rnd": "RndService",
    "loops": "LoopsService",
    "alerting": "AlertingService",
}
Table = dict[str, list[float]]


def until(ask: Callable[[], Any], what: str, seconds: float = _WAIT_SECONDS) -> Any:
    """The first true answer."""
    deadline = time.monotonic() + seconds
    while not (answer := ask()):
        assert time.monotonic() < deadline, f"not within {seconds:g} s: {what}"
        time.sleep(0.2)
    return answer


@dataclass
class Services:
    """The services of a platform, asked under any name."""

    stack: Stack
    _stubs: dict[str, Any] = field(default_factory=dict)

    def call(self, service: str, method: str, actor: str = "story", **fields: Any) -> Any:
        """The answer; a command has an id of its own, and a refused fact fails."""
        messages = import_module(f"pharmaloop.{service}.v1.service_pb2")
        kind = getattr(messages, f"{method}Request")
        if "request_id" in kind.DESCRIPTOR.fields_by_name:
            fields.setdefault("request_id", str(uuid.uuid4()))
        answer = getattr(self._stub(service), method)(kind(**fields), timeout=30, metadata=metadata(actor))
        receipt = getattr(answer, "receipt", None)
        assert not getattr(receipt, "refused", None), receipt
        return answer

    def now(self) -> datetime:
        """The platform's time."""
        return load_clock(self.stack.state_dir).now()

    def _stub(self, service: str) -> Any:
        if service not in self._stubs:
            endpoints = json.loads((self.stack.state_dir / "endpoints.json").read_text())["grpc"]
            stubs = import_module(f"pharmaloop.{service}.v1.service_pb2_grpc")
            made = getattr(stubs, f"{_SERVICES[service]}Stub")(sync_channel(endpoints[service]))
            self._stubs[service] = made
        return self._stubs[service]


@cache
def _runs() -> dict[str, Table]:
    return dryer_runs()


def _moment(at: datetime) -> common.Moment:
    made = common.Moment()
    made.at.FromDatetime(at)
    return made


@dataclass
class Recall:
    """One lot that drifts, and those who were given what was made from it."""

    services: Services
    name: str

    def __post_init__(self) -> None:
        self._begun = self.services.now() - timedelta(days=10)

    @property
    def _product(self) -> str:
        return f"maker-1/item/{self.name}"

    @property
    def lot(self) -> str:
        """The lot that drifts."""
        return f"{self._product}/D-1"

    @property
    def tablets(self) -> str:
        """The finished lot that was made from it."""
        return f"maker-1/item/tablets-{self.name}/T-1"

    @property
    def silent(self) -> str:
        """The patient who never answers."""
        return self._patient(ANSWERING)

    @property
    def unrecorded(self) -> str:
        """The patient whose pack stands in the pharmacy's record alone."""
        return self._patient(ANSWERING + 1)

    def happen(self) -> None:
        """Everything up to the moment in which the deviation waits to be judged."""
        self._train()
        self._make()
        self._hand_out()
        self._drift()
        until(self._deviations, "the drift is detected")

    def alarm(self) -> str:
        """The drift alone, which concerns nobody: the alert of it, which nobody has taken."""
        self._train()
        self._drift()

        def calling() -> Any:
            return self.services.call("alerting", "ListAlerts", lot=self.lot, only_open=True).alerts

        return str(until(calling, "the drift alarms")[0].raised.alert)

    def open_run(self) -> str:
        """The run of the safety loop, once it is there."""
        found = until(
            lambda: self.services.call("loops", "ListRuns", lot=self.lot).runs, "a run of the safety loop"
        )
        return str(found[0].run)

    def answer(self) -> None:
        """The hospital tells its patients, and all but one answer; who took the last pack feels well."""
        run = self.open_run()
        owed = until(lambda: self._owed(run), "patients are to be told")
        at = _moment(self.services.now())
        notices = [
            clinical.NoticeRecorded(
                run=run, pseudonym=one.pseudonym, outcome=clinical.NOTICE_OUTCOME_NOTIFIED, at=at
            )
            for one in owed
        ]
        self.services.call("clinical", "RecordNotices", SITE, site=SITE, notices=notices)
        for plan in until(lambda: self._asked(run), "patients are asked"):
            if plan.plan.pseudonym != self.silent:
                self._respond(plan.plan)

    # -- what happened -------------------------------------------------------------

    def _patient(self, number: int) -> str:
        return f"P-{self.name}-{number:02}"

    @property
    def _equipment(self) -> str:
        return f"plant-1/dryer-{self.name}"

    def _train(self) -> None:
        call = self.services.call
        tags = [production.Tag(name=n, unit=u, set_point=n.endswith("SP")) for n, u in UNITS.items()]
        call("production", "RegisterEquipment", equipment=self._equipment, plant="plant-1", tags=tags)
        lots = {f"{self._product}/{number}": _runs()[number] for number in GOOD}
        batches = [self._batch(lot, run, 0, len(run[TAG])) for lot, run in lots.items()]
        receipt = call("production", "RecordReadings", batches=batches).receipt
        trained: dict[str, Any] = {
            "product": self._product,
            "lots": list(lots),
            "min_position": receipt.positions,
        }
        call("production", "TrainModel", **trained)

    def _batch(self, lot: str, run: Table, first: int, last: int) -> production.ReadingsRecorded:
        """Rows of a run; a row is a minute."""
        cut, clock = slice(first, last), run["ClockTime"]
        made = production.ReadingsRecorded(equipment=self._equipment, lot=lot)
        made.start.at.FromDatetime(self._begun + timedelta(minutes=clock[first]))
        made.offsets_ms[:] = [int((minute - clock[first]) * 60_000) for minute in clock[cut]]
        for tag, unit in UNITS.items():
            made.tags.add(tag=tag, unit=unit, values=run[tag][cut])
        return made

    def _make(self) -> None:
        at = _moment(self.services.now() - timedelta(days=9))
        materials = [
            trace.MaterialRecorded(
                lot=self.lot, quantity=common.Quantity(value=40, unit="kg"), at=at, source="maker-1"
            ),
            trace.MaterialRecorded(
                lot=self.tablets,
                inputs=[trace.MaterialInput(lot=self.lot)],
                quantity=common.Quantity(value=900, unit="{tablet}"),
                at=at,
                source="maker-1",
            ),
        ]
        for number, one in enumerate(materials):
            one.record = f"{self.name}-{number}"
        self.services.call("traceability", "RecordMaterial", materials=materials)

    def _hand_out(self) -> None:
        call, at = self.services.call, _moment(self.services.now() - timedelta(days=5))
        patients = [self._patient(number) for number in range(ANSWERING + 2)]
        subjects = [
            clinical_api.Subject(
                pseudonym=one,
                consent=True,
                profile=clinical.SubjectProfile(age_years=40 + place, sex="F" if place % 2 else "M"),
                at=at,
            )
            for place, one in enumerate(patients)
        ]
        call("clinical", "RecordSubjects", SITE, site=SITE, subjects=subjects)
        question = clinical.FollowUpQuestion(
            id="complaint",
            text=clinical.Wording(en="How do you feel?", zh="您感觉如何？"),
            answer=clinical.ANSWER_KIND_WORDS,
        )
        template = clinical.FollowUpTemplate(
            product=self.tablets.rpartition("/")[0], duration_hours=_HOURS, questions=[question]
        )
        call("clinical", "RegisterFollowUpTemplate", SITE, site=SITE, template=template)
        given: dict[str, dict[str, Any]] = {
            one: {
                "lot": self.tablets,
                "site": SITE,
                "pseudonym": one,
                "at": at,
                "quantity": common.Quantity(value=28, unit="{tablet}"),
                "order": f"RX-{one}",
            }
            for one in patients
        }
        dispensed = [trace.DispenseRecorded(source="pharmacy-1", **one) for one in given.values()]
        call("traceability", "RecordDispense", "pharmacy-1", dispenses=dispensed)
        known = [clinical.MedicationRecorded(**one) for who, one in given.items() if who != self.unrecorded]
        call("clinical", "RecordMedications", SITE, site=SITE, medications=known)

    def _drift(self) -> None:
        run = with_fault(_runs()[FAULTY], TAG, FAULT)
        rows = len(run[TAG])
        call = self.services.call
        call("production", "RecordReadings", batches=[self._batch(self.lot, run, 0, 20)])
        call("production", "StartLot", lot=self.lot, equipment=self._equipment)
        for first in range(20, rows, 40):
            call("production", "RecordReadings", batches=[self._batch(self.lot, run, first, first + 40)])
        call("production", "CompleteLot", lot=self.lot)

    def _deviations(self) -> list[Any]:
        found = self.services.call("production", "ListDeviations", lot=self.lot).deviations
        return [one for one in found if one.detected.tag == TAG]

    def _owed(self, run: str) -> list[Any]:
        asked: dict[str, Any] = {"site": SITE, "run": run, "only_open": True}
        try:
            found = list(self.services.call("clinical", "ListNotices", **asked).notices)
        except RpcError:
            return []  # the evaluation has not reached the hospital yet
        return found if len(found) == ANSWERING + 2 else []

    def _asked(self, run: str) -> list[Any]:
        found = self.services.call("clinical", "ListPlans", site=SITE, run=run, only_open=True).plans
        return [one for one in found if not one.draft]

    def _respond(self, plan: Any) -> None:
        number = int(plan.pseudonym.rpartition("-")[2])
        self.services.call(
            "clinical",
            "RecordResponse",
            SITE,
            site=SITE,
            plan=plan.plan,
            pseudonym=plan.pseudonym,
            affected=number % 4 != 3,
            words="My skin itches." if number % 4 != 3 else "I feel as always.",
            at=_moment(self.services.now()),
        )


@dataclass(frozen=True)
class Draft:
    """A version of a parameter set that somebody drafted and nobody has reviewed."""

    set: str
    version: int
    plant: str

    @property
    def label(self) -> str:
        """As lists write it."""
        return f"{self.set} / {self.version}"


def draft(services: Services, name: str, like: str = "anticoagulant") -> Draft:
    """A set of another name for the product and the plant of a set that the world left."""
    found = services.call("rnd", "GetParameterSet", set=like).version
    said = content(found.product, found.trial, "A story of a transfer.")
    answer = services.call("rnd", "DraftParameterSet", "drafter", set=name, content=said)
    return Draft(name, int(answer.version), found.releases[0].plant)
