"""A plant that takes a parameter set: research, the loop, the twin's steps and people, in memory."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from types import SimpleNamespace
from typing import Any

from google.protobuf.message import Message

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.loops.v1 import events_pb2 as loops
from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.production.v1 import service_pb2 as api
from pharmaloop.rnd.v1 import events_pb2 as rnd
from pharmaloop.rnd.v1 import parameter_set_pb2 as sets
from services.kit import hpke
from services.kit.bus.protocol import Partition
from services.kit.clock import ManualClock
from services.kit.errors import Unknown
from services.kit.ids import product_key, transfer_case
from services.kit.metrics import Metrics
from services.kit.runners.decider import Decision
from services.kit.runners.reactor import Reactor, projector
from services.kit.runners.step import StepRunner
from services.kit.store.memory import AsyncMemoryStore
from services.kit.work import STEPS, Step
from services.production import handlers, steps
from services.production.api import ProductionApi
from services.production.payloads import Payloads, payload_info
from services.production.twins import Adapted, Advice, Place, Refusals
from services.production.views import TRANSFERS
from tests.unit.production.memory import START, Memory, minutes, said

PLANT, LINE, EQUIPMENT = "plant-1", "line-a", "plant-1/fermenter-1"
PRODUCT = product_key("maker", "item", "PENG")
LOT = f"{PRODUCT}/L-1"
SET = "PS-7"
TRANSFER = transfer_case(SET, PLANT)
READINGS = "pharmaloop.production.readings.v1"
TRANSFER_EVENTS = Reactor("transfers", handlers.TRANSFERS)
LISTS = projector("lists", handlers.LISTS)
HISTORY = projector("history", handlers.HISTORY)

#: The pilot vessel of the twin's reference process, and the plant's.
PILOT: dict[str, Any] = {
    "volume_m3": 0.15,
    "liquid_m3": 0.10,
    "tank_diameter_m": 0.48,
    "impeller_diameter_m": 0.16,
    "blade_width_m": 0.032,
    "impellers": 2,
    "power_number": 5.0,
    "stirrer_min_per_s": 0.5,
    "stirrer_max_per_s": 10.0,
    "power_max_w": 500.0,
    "gas_max_m3_per_s": 0.001,
    "kla_calibration": 1.05,
}
VESSEL: dict[str, Any] = {
    "volume_m3": 1.5,
    "liquid_m3": 1.0,
    "tank_diameter_m": 1.034,
    "impeller_diameter_m": 0.3447,
    "blade_width_m": 0.06894,
    "impellers": 2,
    "power_number": 5.0,
    "stirrer_min_per_s": 0.5,
    "stirrer_max_per_s": 5.8,
    "power_max_w": 5000.0,
    "gas_max_m3_per_s": 0.01,
    "kla_calibration": 0.90,
}


def range_of(low: float | None, high: float | None, unit: str) -> sets.Range:
    return sets.Range(low=low, high=high, unit=unit)


def parameter(name: str, value: float, low: float, high: float, unit: str) -> sets.ProcessParameter:
    proven = range_of(low, high, unit)
    return sets.ProcessParameter(parameter=name, set_point=value, normal=proven, proven=proven)


def content(**changes: Any) -> sets.ParameterSetContent:
    """The twin's reference process as research hands it over."""
    made = sets.ParameterSetContent(
        product=PRODUCT,
        attributes=[
            sets.QualityAttribute(attribute="titre", limits=range_of(2.2, 6.0, "g/L")),
            sets.QualityAttribute(attribute="impurity", limits=range_of(None, 1.2, "%")),
        ],
        parameters=[
            parameter("agitation", 320.0, 290.0, 380.0, "/min"),
            parameter("aeration", 16.0, 13.0, 22.0, "L/min"),
            parameter("feed_rate", 0.126, 0.110, 0.145, "L/h"),
            parameter("temperature", 24.85, 23.35, 26.35, "Cel"),
        ],
        process=sets.DevelopedProcess(
            model="pensim-reduced",
            vessel=sets.Vessel(**PILOT),
            stirrer_per_s=320 / 60,
            gas_m3_per_s=16 / 60_000,
            criterion=sets.SCALE_UP_CRITERION_KLA,
            duration_h=400,
        ),
    )
    for name, value in changes.items():
        getattr(made, name).CopyFrom(value) if isinstance(value, Message) else setattr(made, name, value)
    return made


class Keys:
    """Keys that need no folder."""

    def __init__(self) -> None:
        self._keys: dict[str, bytes] = {}

    def make(self, key_id: str) -> bytes:
        return self._keys.setdefault(key_id, sha256(key_id.encode()).digest())

    def find(self, key_id: str) -> bytes:
        if key_id not in self._keys:
            raise Unknown("NO_KEY", f"there is no key {key_id!r}")
        return self._keys[key_id]

    def destroy(self, key_id: str) -> None:
        del self._keys[key_id]


def estimate(value: float, half: float) -> common.Estimate:
    return common.Estimate(value=value, lower=value - half, upper=value + half)


def prediction(attribute: str, value: float, half: float, unit: str) -> events.AttributePrediction:
    expected = estimate(value, half)
    return events.AttributePrediction(attribute=attribute, unit=unit, source=expected, target=expected)


@dataclass
class FakeTwin:
    """Answers what a test wants, and notes what it was asked."""

    refusals: tuple[events.TransferRefusal, ...] = ()
    asked: list[tuple[str, int]] = field(default_factory=list)

    def adapt(self, _content: sets.ParameterSetContent, place: Place, seed: int) -> Adapted | Refusals:
        by = place.calibrations
        self.asked.append((place.line, seed))
        if self.refusals:
            return Refusals(self.refusals)
        gaps = (events.TransferGap(quantity="kla", unit="/h", source=60, target=58, ratio=58 / 60),)
        titre = prediction("titre", 4.0 + (by["titre"].bias if "titre" in by else 0), 0.4, "g/L")
        titre.calibrated_by = by["titre"].bias if "titre" in by else 0
        return Adapted(self.recipe(250), gaps, (titre, prediction("impurity", 0.8, 0.2, "%")), "fake/1")

    def advise(self, *_asked: object) -> Advice:
        return Advice(
            basis=events.ADVICE_BASIS_PROVEN_RANGE,
            moved=("agitation",),
            attribute="titre",
            gain=estimate(0.3, 0.1),
            predictions=(prediction("titre", 4.3, 0.4, "g/L"), prediction("impurity", 0.7, 0.2, "%")),
            recipe=self.recipe(270),
        )

    def recipe(self, agitation: float) -> events.RecipeDetail:
        """A whole recipe: all but the stirring as the plant's vessel can do it."""
        values = {
            "agitation": (agitation, "/min"),
            "aeration": (160.0, "L/min"),
            "feed_rate": (1.26, "L/h"),
            "temperature": (298.0, "K"),
            "ph": (5.0, "[pH]"),
        }
        points = [events.SetPoint(parameter=n, value=v, unit=u) for n, (v, u) in values.items()]
        return events.RecipeDetail(set_points=points)


class _Log:
    """Tells where the readings end."""

    def __init__(self, story: Story) -> None:
        self._story = story

    def ends(self, topics: object) -> dict[Partition, int]:
        return dict(self._story.ends)

    def starts(self, topics: object) -> dict[Partition, int]:
        return {}


class Story:
    """One plant; without a `twin` of the test's the real one is asked. With a `memory`: another process
    of the same service."""

    def __init__(self, twin: FakeTwin | None = None, memory: Memory | None = None) -> None:
        self.memory = memory or Memory()
        self.keys = Keys()
        self.payloads = Payloads(self.keys)
        self.store = AsyncMemoryStore(self.memory.database)
        self.clock = ManualClock(minutes(60))
        #: Where the readings end, and how far the recorded runs have come.
        self.ends: dict[Partition, int] = {}
        self.folded: dict[Partition, int] = {}
        asked = steps.Twin(twin.adapt, twin.advise) if twin else steps.Twin()
        made = steps.Steps(self.store, self.payloads, self._step, _Log(self), self._folded, READINGS, asked)
        self.steps = made
        self._runner_steps = made.all()
        self._answers: dict[str, Decision] = {}
        app: Any = SimpleNamespace(store=self.store, decider=SimpleNamespace(submit=self._submit))
        self.api = ProductionApi(app, self.payloads)
        self._seq = 0
        self._who = "qa"

    # -- the service around ---------------------------------------------------

    async def _folded(self) -> dict[Partition, int]:
        return dict(self.folded)

    async def _step(self, method: str, request: Message, request_id: str) -> object:
        return await self._submit(method, request, request_id=request_id, actor="platform")

    async def _submit(
        self, method: str, request: Message, *, request_id: str, actor: str = "qa", **_rest: object
    ) -> Decision:
        if request_id not in self._answers:
            who = self._who if actor == "anonymous" else actor
            answer = self.memory.ask(method, request, self.clock.now(), actor=who)
            self._answers[request_id] = Decision(answer.SerializeToString(), (), (), False)
        return self._answers[request_id]

    def due(self, name: str) -> Step:
        """The step of a name that waits."""
        waiting: list[Step] = [step for step in self.memory.states(STEPS).values() if step.step == name]
        return waiting[0]

    def put_back(self, step: Step) -> None:
        """The step is due again, as after a crash before its end was stored."""
        id = f"{step.step}|{step.key}"
        self.memory.database.docs[STEPS.name][id] = STEPS.to_doc(id, 1, step)

    def forget_requests(self) -> None:
        """Neither steps nor answers are known any more, as in a database from before they were made."""
        self.memory.database.docs[STEPS.name].clear()
        self._answers.clear()

    def run_steps(self, rounds: int = 8) -> None:
        """Run every due step until none is due any more."""

        async def run() -> None:
            runner = StepRunner(self.store, self.clock, Metrics("production"), self._runner_steps)
            for _ in range(rounds):
                self.clock.advance(1)
                if not await runner.run_due():
                    return

        asyncio.run(run())

    def call(self, method: str, who: str = "qa", **asked: Any) -> Any:
        """One RPC of a person."""
        self._who = who
        request: Any = getattr(api, f"{method}Request")(**asked)
        if "request_id" in request.DESCRIPTOR.fields_by_name and not request.request_id:
            self._seq += 1
            request.request_id = f"request-{self._seq}"
        return asyncio.run(getattr(self.api, method)(request, None))

    def give(self, *messages: Message, at: datetime = START) -> None:
        """Events of other services, each with a version of its own."""
        for message in messages:
            self._seq += 1
            self.memory.give(TRANSFER_EVENTS, [said(message, at, seq=self._seq, subject=f"s{self._seq}")])

    def project(self) -> None:
        """Fold everything that was said into the rows that people page through."""
        wanted = tuple(LISTS.events)
        told = [one for one in self.memory.told() if isinstance(one[0].message, wanted)]
        self.memory.give(LISTS, told)

    # -- what happens -----------------------------------------------------------

    def register(self, line: str = LINE, **changes: Any) -> None:
        tags = [events.Tag(name="DO", unit="%")]
        self.call("RegisterEquipment", equipment=EQUIPMENT, plant=PLANT, tags=tags)
        detail = events.LineDetail(**(VESSEL | changes))
        self.call(
            "RegisterLine", plant=PLANT, line=line, equipment=EQUIPMENT, products=[PRODUCT], detail=detail
        )

    def released(
        self, version: int = 1, said: sets.ParameterSetContent | None = None, plant: str = PLANT
    ) -> rnd.ParameterSetReleased:
        plain = (said or content()).SerializeToString(deterministic=True)
        key = self.payloads.public(plant)
        info, content_hash = payload_info(SET, version, plant), sha256(plain).digest()
        sealed = hpke.seal(key.public_key, plain, info, content_hash)
        told = rnd.ParameterSetReleased(
            set=SET,
            version=version,
            product=PRODUCT,
            plant=PLANT,
            payload=common.Sealed(key_id=key.key_id, ciphertext=sealed),
            content_hash=content_hash,
            actor="head of development",
            reviewer="reviewer",
        )
        told.payload_hash = self.hash_of(told)
        return told

    def hash_of(self, released: rnd.ParameterSetReleased) -> bytes:
        return sha256(released.payload.ciphertext).digest()

    def opened(self, version: int = 1) -> loops.TransferRunOpened:
        return loops.TransferRunOpened(
            run=f"run-{version}", case=TRANSFER, set=SET, version=version, product=PRODUCT, plant=PLANT
        )

    def withdrawn(self, version: int = 1) -> rnd.ParameterSetWithdrawn:
        return rnd.ParameterSetWithdrawn(set=SET, version=version, plant=PLANT, actor="rnd", reason="wrong")

    def superseded(self, version: int = 1) -> rnd.ParameterSetSuperseded:
        return rnd.ParameterSetSuperseded(set=SET, version=version, plant=PLANT, by_version=version + 1)

    def closed(self, outcome: loops.RunOutcome, actor: str = "") -> loops.LoopClosed:
        """The run of version 1 ended, by a person where one is named."""
        return loops.LoopClosed(
            run="run-1",
            case=TRANSFER,
            outcome=outcome,
            reason="opened by mistake" if actor else "",
            actor=actor,
            loop="transfer",
            set=SET,
            version=1,
            plant=PLANT,
        )

    def adapt(self, version: int = 1) -> None:
        self.give(self.released(version), self.opened(version))
        self.run_steps()

    def later(self) -> None:
        """A second version is released, and comes as far as a proposal."""
        self.give(self.superseded(), self.released(2), self.opened(2))
        self.run_steps()

    def states(self) -> list[tuple[int, str]]:
        """Where each version stands."""
        return [(one.version, one.state) for one in self.memory.states(TRANSFERS)[TRANSFER].versions]

    def newest(self) -> Any:
        return self.memory.states(TRANSFERS)[TRANSFER].newest

    def decide(self, accepted: bool = True, **changes: Any) -> None:
        said: dict[str, Any] = {"meaning": "I take responsibility", "reason": "as proposed"}
        said |= {"accepted": accepted} | changes
        proposal = said.pop("proposal", "") or self.newest().proposal().proposal
        self.call("DecideTransfer", transfer=TRANSFER, proposal=proposal, **said)

    def validate(self, **changes: Any) -> None:
        asked = {"record": "VR-1", "statement": "three runs in range"} | changes
        self.call("RecordRecipeValidation", **self._recipe() | asked)

    def file(self, **changes: Any) -> None:
        asked = {
            "who": "regulatory",
            "category": events.FILING_CATEGORY_NOT_REPORTED,
            "statement": "inside the design space",
        } | changes
        self.call("RecordRecipeFiling", **self._recipe() | asked)

    def _recipe(self) -> dict[str, Any]:
        """The recipe of the newest version."""
        known = TRANSFER in self.memory.states(TRANSFERS)
        return {"transfer": TRANSFER, "version": self.newest().version if known else 1}

    def effective(self) -> None:
        """From nothing to an effective recipe."""
        self.register()
        self.adapt()
        self.decide()
        self.validate()
        self.file()

    def out(self, cls: type[Message]) -> list[Any]:
        return [event.message for event in self.memory.out(cls)]


def result(
    test: str, value: float, lot: str = LOT, minute: float = 500, **changes: Any
) -> events.TestResultRecorded:
    at = common.Moment()
    at.at.FromDatetime(minutes(minute))
    unit = {"titre": "g/L", "impurity": "%"}.get(test, "1")
    told: dict[str, Any] = {
        "test": test,
        "value": value,
        "unit": unit,
        "record": f"{test}{value}",
        "source": "lims",
    } | changes
    return events.TestResultRecorded(lot=lot, at=at, **told)


def start(story: Story, lot: str = LOT, transfer: str = TRANSFER) -> None:
    story.call("StartLot", lot=lot, product=PRODUCT, equipment=EQUIPMENT, transfer=transfer)


def measured(story: Story, *results: events.TestResultRecorded) -> None:
    for one in results:
        story.memory.give(TRANSFER_EVENTS, [said(one, minutes(500))])
