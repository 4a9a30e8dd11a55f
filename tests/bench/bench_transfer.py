"""A released set to the plant's line and back: research, production and the loops on the real stack.

Sets are released one after the other, each of a product of its own, so that no
outcome changes what is expected of the next. A tap beside the platform keeps every
event; times are those of the records (CreateTime). Every set must be adapted to just
what the twin says when it is called directly, which is the yardstick. Then a lot of
each is tested, and research must have learnt what it was off.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import uvloop
from grpc import RpcError

from pharmaloop.production.v1 import events_pb2 as events
from pharmaloop.production.v1 import service_pb2 as production
from pharmaloop.production.v1 import service_pb2_grpc as production_grpc
from pharmaloop.rnd.v1 import events_pb2 as rnd_events
from pharmaloop.rnd.v1 import service_pb2 as rnd
from pharmaloop.rnd.v1 import service_pb2_grpc as rnd_grpc
from services.kit.envelope import Event
from services.kit.ids import transfer_case
from services.kit.rpc.client import channel, metadata
from services.kit.rpc.errors import reason_of
from services.kit.settings import KafkaSettings
from services.production import twins
from services.production.steps import seed_of
from services.world import recipes
from services.world.ids import moment, stamp
from tests.bench.framework.local import LocalStack
from tests.bench.framework.machine import Machine, memory_of
from tests.bench.framework.rows import Row, Target, row
from tests.bench.framework.run import option
from tests.bench.framework.stats import p50, p99
from tests.bench.framework.tap import Tap

COUNT = option("COUNT", 50)
_SERVICES = ("production", "rnd", "loops")
_PLANT, _LINE, _EQUIPMENT = "bench-plant", "line-1", "bench-plant/fermenter"
TOPICS = (
    "pharmaloop.rnd.parameters.v1",
    "pharmaloop.rnd.calibration.v1",
    "pharmaloop.production.transfer.v1",
    "pharmaloop.production.result.v1",
)
_WAIT_SECONDS = 60.0
M = TypeVar("M")


@dataclass(frozen=True)
class Case:
    """One set, of one product, at the plant."""

    number: int

    @property
    def set(self) -> str:
        return f"BENCH-{self.number:04}"

    @property
    def product(self) -> str:
        return f"bench/item/P{self.number:04}"

    @property
    def transfer(self) -> str:
        return transfer_case(self.set, _PLANT)

    @property
    def lot(self) -> str:
        return f"{self.product}/L1"


class People:
    """Those who develop, sign, make and test."""

    def __init__(self, production_stub: Any, rnd_stub: Any, tap: Tap) -> None:
        self._stubs = {production: production_stub, rnd: rnd_stub}
        self._tap = tap
        self._read = 0
        self._heard: dict[tuple[str, str], Event] = {}

    async def ask(self, module: Any, method: str, actor: str, **fields: Any) -> Any:
        request = getattr(module, f"{method}Request")(**fields)
        if "request_id" in request.DESCRIPTOR.fields_by_name:
            request.request_id = str(uuid.uuid4())
        call = getattr(self._stubs[module], method)
        return await call(request, timeout=30, metadata=metadata(actor), wait_for_ready=True)

    async def heard(self, kind: str, about: str) -> Event:
        """The newest event of this kind about a set, transfer or lot, once it is in the log."""

        async def look() -> Event | None:
            for event in self._tap.events[self._read :]:
                self._read += 1
                message: Any = event.message
                for field in ("set", "transfer", "lot"):
                    if name := getattr(message, field, ""):
                        self._heard[type(message).__name__, name] = event
            return self._heard.get((kind, about))

        return await until(look)

    async def prepare(self, cases: list[Case]) -> None:
        await self.ask(
            production,
            "RegisterEquipment",
            "engineer",
            equipment=_EQUIPMENT,
            plant=_PLANT,
            tags=[events.Tag(name="Temperature", unit="K")],
        )
        await self.ask(
            production,
            "RegisterLine",
            "engineer",
            plant=_PLANT,
            line=_LINE,
            equipment=_EQUIPMENT,
            products=[case.product for case in cases],
            detail=recipes.plant_vessel(),
        )
        for case in cases:
            await self.ask(
                rnd, "RegisterProduct", "ann", product=case.product, name=case.set, indication="benchmarks"
            )

    async def release(self, case: Case) -> tuple[float, float]:
        """Bring the set to the plant; milliseconds to its adaptation and to its advice."""
        said = recipes.content(case.product, "", "a bench")
        await self.ask(rnd, "DraftParameterSet", "ann", set=case.set, content=said)
        which = {"set": case.set, "version": 1, "meaning": "I have checked it."}
        await self.ask(rnd, "ReviewParameterSet", "ben", **which)

        async def released() -> bool:
            try:
                await self.ask(rnd, "ReleaseParameterSet", "cleo", plants=[_PLANT], **which)
            except RpcError as error:
                if reason_of(error)[0] != "UNKNOWN_PLANT":  # research has not heard of the plant yet
                    raise
                return False
            return True

        await until(released)
        begun = await self.heard("ParameterSetReleased", case.set)
        adapted = await self.heard("TwinAdapted", case.transfer)
        proposed = await self.heard("OptimisationProposed", case.transfer)
        return between(begun, adapted), between(begun, proposed)

    async def conclude(self, case: Case) -> float:
        """Sign, make and test a lot; milliseconds from its last result to research's calibration."""
        proposed: Any = (await self.heard("OptimisationProposed", case.transfer)).message
        await self.ask(
            production,
            "DecideTransfer",
            "qa",
            transfer=case.transfer,
            proposal=proposed.proposal,
            accepted=True,
            meaning="I take responsibility.",
        )
        why = {"transfer": case.transfer, "version": 1, "statement": "as the bench has it"}
        await self.ask(production, "RecordRecipeValidation", "qa", record="V", **why)
        category = events.FILING_CATEGORY_NOT_REPORTED
        await self.ask(production, "RecordRecipeFiling", "ra", category=category, **why)
        now = datetime.now(UTC)
        await self.ask(
            production,
            "StartLot",
            "qa",
            lot=case.lot,
            product=case.product,
            equipment=_EQUIPMENT,
            transfer=case.transfer,
            at=stamp(now),
        )
        for one in proposed.predictions:
            result = events.TestResultRecorded(
                lot=case.lot,
                test=one.attribute,
                value=one.target.value + 0.01,
                unit=one.unit,
                at=moment(now),
                record=one.attribute,
                source="bench/lims",
            )
            await self.ask(production, "RecordTestResults", "lims", results=[result])
        calibrated = await self.heard("PredictionCalibrated", case.lot)
        return between(await self.heard("TestResultRecorded", case.lot), calibrated)

    def check(self, case: Case) -> float:
        """The set was adapted as the twin does it, and its outcome is known; the twin's own milliseconds."""
        place = twins.Place(_LINE, recipes.plant_vessel())
        said = recipes.content(case.product, "", "a bench")
        began = time.perf_counter()
        wanted = twins.adapt(said, place, seed_of(case.set, 1, _PLANT))
        taken = 1000 * (time.perf_counter() - began)
        adapted: Any = self._heard["TwinAdapted", case.transfer].message
        assert isinstance(wanted, twins.Adapted), wanted
        assert list(adapted.predictions) == list(wanted.predictions), (
            f"{case.set} is not adapted as it should"
        )
        assert list(adapted.gaps) == list(wanted.gaps), f"{case.set} has another gap table"
        learnt: Any = self._heard["PredictionCalibrated", case.lot].message
        assert isinstance(learnt, rnd_events.PredictionCalibrated), learnt
        assert len(learnt.attributes) == len(wanted.predictions), f"{case.lot} taught {learnt}"
        return taken


async def until(look: Callable[[], Awaitable[M | None]]) -> M:
    """The first answer that there is."""
    async with asyncio.timeout(_WAIT_SECONDS):
        while not (found := await look()):
            await asyncio.sleep(0.005)
        return found


def between(one: Event, other: Event) -> float:
    """Milliseconds between two records."""
    assert one.created is not None, "it was read from the log"
    assert other.created is not None, "it was read from the log"
    return 1000 * (other.created - one.created).total_seconds()


async def measure(stack: LocalStack) -> list[Row]:
    endpoints = stack.endpoints()
    cases = [Case(number) for number in range(COUNT + 1)]
    kafka = KafkaSettings(bootstrap_servers=stack.bootstrap)
    async with channel(endpoints["production"]) as plant, channel(endpoints["rnd"]) as research:
        with Tap(kafka, TOPICS) as tap:
            stubs = production_grpc.ProductionServiceStub(plant), rnd_grpc.RndServiceStub(research)
            people = People(*stubs, tap)
            await people.prepare(cases)
            (cold, _), *warm = [await people.release(case) for case in cases]
            learnt = [await people.conclude(case) for case in cases]
    direct = [people.check(case) for case in cases][1:]
    memory, _ = memory_of(stack.pids()["production"])
    adapted, proposed = [one for one, _ in warm], [two for _, two in warm]
    yardstick = ("the twin called directly", p50(direct))
    return [
        row(
            "ParameterSetReleased -> TwinAdapted, p50",
            p50(adapted),
            "ms",
            yardstick=yardstick,
            note=f"{len(adapted)} sets, one after the other, each adapted as the twin does it directly",
        ),
        row("ParameterSetReleased -> TwinAdapted, p99", p99(adapted), "ms", target=Target(at_most=2_000)),
        row(
            "ParameterSetReleased -> TwinAdapted, the first",
            cold,
            "ms",
            target=Target(at_most=2_000),
            note="the twin's process is started, and loads SciPy",
        ),
        row("ParameterSetReleased -> OptimisationProposed, p50", p50(proposed), "ms"),
        row(
            "last outcome of a lot -> calibration, p50",
            p50(learnt),
            "ms",
            note=f"TestResultRecorded to PredictionCalibrated, {len(learnt)} lots, p99 {p99(learnt):.0f} ms",
        ),
        row(
            "memory of production after all of it",
            memory,
            "MB",
            note="resident, without the twin's processes",
        ),
    ]


def run(machine: Machine) -> list[Row]:
    only = ("kafka", "mongod", "migrate", *_SERVICES)
    with LocalStack(machine.folder / "stack", only=only, settings={"PHARMALOOP_CLOCK_SPEED": "1"}) as stack:
        stack.up()
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(measure(stack))
