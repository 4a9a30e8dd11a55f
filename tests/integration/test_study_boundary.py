"""No patient's row and no site's own number leaves its site with a study: both are looked for everywhere.

Three hospitals with marked patients answer a study from their own records, an
evaluator values what each contributed, a second study is refused by one of
them. Then every topic, database, file, log line and metric outside of a site
is read for its markers. On a Kafka of its own.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import aio
from prometheus_client import generate_latest

from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.clinical.v1 import service_pb2 as clinical_api
from pharmaloop.clinical.v1 import service_pb2_grpc as clinical_grpc
from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.exchange.v1 import cohort_pb2 as cohort
from pharmaloop.exchange.v1 import service_pb2 as api
from pharmaloop.exchange.v1 import service_pb2_grpc as api_grpc
from services.clinical.main import make_spec as make_clinical
from services.exchange.domain.stats.protocol import Vector
from services.exchange.evaluator.main import make_spec as make_evaluator
from services.exchange.main import make_spec as make_exchange
from services.exchange.site import valuing
from services.exchange.site.main import make_spec as make_agent
from services.exchange.site.session import Session
from services.exchange.views import EVALUATOR, EVALUATORS
from services.kit.app import App
from services.kit.bus.migrate import migrate
from services.kit.ids import dispense_id
from services.kit.log import get_logger
from services.kit.rpc.client import metadata
from services.kit.settings import KafkaSettings
from services.kit.testing.engines import KafkaEngine, free_port, running
from services.kit.testing.service import running_service
from services.loops.main import SPEC as LOOPS
from services.rnd.main import SPEC as RND
from tests.integration import leaks
from tests.integration.leaks import SITES, Marker, Place
from tests.unit.exchange.hospitals import request

pytestmark = pytest.mark.timeout(400)
PRODUCT = "maker/gtin/09506000134352"
HOT, COOL = f"{PRODUCT}/HOT", f"{PRODUCT}/COOL"
#: What many patients have, and what one patient of the last hospital has.
ITCHING, HIVES = "PL0101", "PL0103"
PATIENTS = 60
SPECIFICATION = json.dumps(
    {
        "outcome": {"column": "event"},
        "terms": [{"column": name, "low": 0.0, "high": 1.0} for name in ("exposed", "female")],
    }
)
ANALYST = metadata("analyst")


def moment(days_ago: float) -> common.Moment:
    stamp = Timestamp()
    stamp.FromDatetime(datetime.now(UTC) - timedelta(days=days_ago))
    return common.Moment(at=stamp)


@dataclass
class Hospital:
    """One hospital: its service, and the markers that its patients bear."""

    site: str
    stub: Any
    markers: list[Marker] = field(default_factory=list)

    def mark(self, name: str, zone: leaks.Zone = "site", value: str = "") -> str:
        marker = Marker(f"{name} of {self.site}", value or f"mk-{uuid.uuid4().hex}", zone)
        self.markers.append(marker)
        return marker.value

    async def tell(self, method: str, **fields: Any) -> Any:
        asked = getattr(clinical_api, f"{method}Request")(
            request_id=str(uuid.uuid4()), site=self.site, all_or_nothing=True, **fields
        )
        return await getattr(self.stub, method)(asked, timeout=20, metadata=metadata("ward"))

    async def fill(self) -> None:
        """Marked patients who consent to research; the exposed itch more often."""
        names = [self.mark("a patient") for _ in range(PATIENTS)]
        subjects = [
            clinical_api.Subject(
                pseudonym=name,
                consent=True,
                research=True,
                at=moment(90),
                profile=clinical.SubjectProfile(
                    age_years=30 + n, sex="FM"[n % 2], arm=self.mark("an arm", "nowhere")
                ),
            )
            for n, name in enumerate(names)
        ]
        await self.tell("RecordSubjects", subjects=subjects)
        medications = []
        for n, name in enumerate(names):
            lot, order = (HOT, COOL)[n // 2 % 2], self.mark("an order")
            medications.append(
                clinical.MedicationRecorded(
                    dispense=dispense_id(self.site, order, lot),
                    pseudonym=name,
                    lot=lot,
                    order=order,
                    at=moment(50),
                    quantity=common.Quantity(value=28, unit="{tablet}"),
                )
            )
        await self.tell("RecordMedications", medications=medications)
        ill = [name for n, name in enumerate(names) if n % (3 if n // 2 % 2 == 0 else 5) == 0]
        reports = [self._report(name, ITCHING) for name in ill]
        reports += [self._report(names[0], HIVES)] if self.site == SITES[-1] else []
        await self.tell("RecordAdverseEvents", reports=reports)

    def _report(self, pseudonym: str, term: str) -> clinical_api.AdverseEventReport:
        return clinical_api.AdverseEventReport(
            report=self.mark("a report"),
            pseudonym=pseudonym,
            term=term,
            words=self.mark("words", "nowhere"),
            onset=moment(40),
            at=moment(39),
        )

    async def members(self) -> list[bytes]:
        """What its agent is told of who the patients are."""
        asked = clinical_api.GetCohortRequest(site=self.site, definition=definition(ITCHING))
        told = await self.stub.GetCohort(asked, timeout=20, metadata=metadata(f"agent/{self.site}"))
        return list(told.members)


def definition(term: str) -> cohort.CohortDefinition:
    made = cohort.CohortDefinition(
        definition="lots",
        version=1,
        product=PRODUCT,
        exposure=cohort.CohortExposure(kind=cohort.EXPOSURE_KIND_LOTS, lots=[HOT]),
        outcome=cohort.CohortOutcome(kind=cohort.OUTCOME_KIND_ADVERSE_EVENT, terms=[term], days=28),
        covariates=[cohort.COVARIATE_SEX],
    )
    getattr(made, "from").FromDatetime(datetime(2026, 1, 1, tzinfo=UTC))
    made.until.FromDatetime(datetime.now(UTC))
    return made


@dataclass
class Platform:
    """Everything that a study passes."""

    apps: dict[str, App]
    hospitals: dict[str, Hospital]
    exchange: Any

    async def answered(self, name: str, term: str, *states: int) -> api.Study:
        """Ask, have every owner agree, and wait for one of the states."""
        asked = request(name, datetime.now(UTC))
        asked.definition.CopyFrom(definition(term))
        asked.specification, asked.valued = SPECIFICATION, True
        await self.exchange.RequestStudy(asked, timeout=10, metadata=ANALYST)
        for site in SITES:
            approve = api.ApproveStudyRequest(
                request_id=f"{name}/{site}", study=name, site=site, meaning="yes", valuation=True
            )
            await self.exchange.ApproveStudy(approve, timeout=10, metadata=metadata(f"owner-of-{site}"))
        return await self.until(name, lambda study: study.state in states)

    async def until(self, name: str, test: Any) -> api.Study:
        async with asyncio.timeout(60):
            while not test(found := await self.study(name)):
                await asyncio.sleep(0.05)
        return found

    async def study(self, name: str) -> api.Study:
        answer = await self.exchange.GetStudy(api.GetStudyRequest(study=name), timeout=10)
        found: api.Study = answer.study
        return found

    async def connected(self) -> bool:
        shown = await self.exchange.ListDatasets(api.ListDatasetsRequest(), timeout=10, metadata=ANALYST)
        there = {one.registered.site for one in shown.datasets if one.connected}
        return (
            there >= set(SITES) and await self.apps["exchange"].store.get(EVALUATORS, EVALUATOR) is not None
        )


@pytest.fixture
async def platform(
    mongo: str, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, log: io.StringIO
) -> AsyncIterator[tuple[Platform, str]]:
    engine = KafkaEngine(tmp_path_factory.mktemp("kafka") / "data", free_port(), free_port())
    async with AsyncExitStack() as stack:
        stack.enter_context(running(engine, tmp_path_factory.mktemp("logs") / "kafka.log", grace=1.0))
        kafka = engine.bootstrap
        await asyncio.to_thread(migrate, KafkaSettings(bootstrap_servers=kafka), SITES)
        ports = {name: free_port() for name in ("exchange", *SITES)}
        apps: dict[str, App] = {}
        lines: dict[str, aio.Channel] = {}

        async def add(name: str, spec: Any, **settings: str) -> None:
            service = running_service(spec, kafka, mongo, tmp_path, **settings)
            apps[name], lines[name] = await stack.enter_async_context(service)

        await add("loops", LOOPS)
        await add("rnd", RND)
        await add("exchange", make_exchange(), grpc_port=str(ports["exchange"]), pause_seconds="0.1")
        to = {"exchange": f"127.0.0.1:{ports['exchange']}"}
        await add("evaluator", make_evaluator(), **to)
        for site in SITES:
            own = {"site": site, "grpc_port": str(ports[site])}
            await add(f"clinical.{site}", make_clinical(), **own)
            await add(f"agent.{site}", make_agent(), site=site, clinical=f"127.0.0.1:{ports[site]}", **to)
        hospitals = {
            site: Hospital(site, clinical_grpc.ClinicalServiceStub(lines[f"clinical.{site}"]))
            for site in SITES
        }
        yield Platform(apps, hospitals, api_grpc.ExchangeServiceStub(lines["exchange"])), kafka


@pytest.fixture
def numbers(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Vector]]:
    """Each site's own sums, as they are before they are masked, or sealed to the evaluator."""
    noted: dict[str, list[Vector]] = {site: [] for site in SITES}
    computed, sealed = Session._computed, valuing.sealed

    def before_mask(self: Session, *arguments: Any) -> Any:
        vector, context = computed(self, *arguments)
        noted[self._site.name].append(vector)
        return vector, context

    def before_seal(task: Any, vector: Vector, site: str, *more: Any) -> Any:
        noted[site].append(vector)
        return sealed(task, vector, site, *more)

    monkeypatch.setattr(Session, "_computed", before_mask)
    monkeypatch.setattr(valuing, "sealed", before_seal)
    return noted


def places(on: Platform, kafka: str, mongo: str, folder: Path, log: io.StringIO) -> Iterator[Place]:
    yield from leaks.topics(kafka)
    yield from leaks.databases(mongo, on.apps)
    yield from leaks.files(folder)
    yield Place("log", "shared", log.getvalue().encode())
    for name, app in on.apps.items():
        yield Place(f"metrics of {name}", "shared", generate_latest(app.metrics.registry))


@pytest.mark.req("G3a")
async def test_no_row_and_no_sites_number_is_found_outside_of_its_site(
    platform: tuple[Platform, str],
    mongo: str,
    tmp_path: Path,
    log: io.StringIO,
    numbers: dict[str, list[Vector]],
) -> None:
    on, kafka = platform
    for hospital in on.hospitals.values():
        await hospital.fill()
        async with asyncio.timeout(60):
            while len(await hospital.members()) < PATIENTS:
                await asyncio.sleep(0.05)
    async with asyncio.timeout(60):
        while not await on.connected():
            await asyncio.sleep(0.05)
    await on.answered("study-1", ITCHING, api.STUDY_STATE_ANSWERED)
    metered = (await on.until("study-1", lambda study: len(study.contributions) == len(SITES))).contributions
    assert all(one.valued for one in metered), [one.not_valued for one in metered]
    refused = await on.answered("study-2", HIVES, api.STUDY_STATE_SUSPENDED, api.STUDY_STATE_FAILED)
    assert refused.jobs[-1].ended.reason == "CELL_TOO_SMALL"
    get_logger("control").info("control", word="a word that the search must find")

    found = [*await asyncio.to_thread(lambda: list(places(on, kafka, mongo, tmp_path, log)))]
    for site, hospital in on.hospitals.items():
        seen = list(leaks.as_of(site, found))
        hits = leaks.found(hospital.markers, seen)
        assert leaks.leaked(hits) == []
        kept = {marker.field for marker, _, _ in hits}
        assert {f"a patient of {site}", f"a report of {site}"} <= kept, "the search would find them"
        outside = [place for place in seen if place.zone != "site"]
        marks = [*_of(numbers[site]), *(await hospital.members())]
        marks += [member.hex().encode() for member in await hospital.members()]
        assert len(marks) > 2 * PATIENTS
        assert not [place.name for place in outside for mark in marks if mark in place.content]
    assert any(b"a word that the search must find" in place.content for place in found if place.name == "log")
    assert any(
        b"study-1" in place.content for place in found if place.name == "database of evaluator: seen_study"
    )
    # Only the agent keeps who was in: so that a cohort less one patient is known again.
    (member, *_) = await on.hospitals[SITES[0]].members()
    holding = {place.name for place in found if member in place.content}
    assert holding == {f"database of agent.{SITES[0]}: cohort_members"}


def _of(vectors: list[Vector]) -> list[bytes]:
    """How numbers would look as doubles and as text; whole ones are counts, which many things are."""
    numbers = {float(number) for vector in vectors for number in vector if number != round(number)}
    return [mark for number in numbers for mark in (np.float64(number).tobytes(), repr(number).encode())]


def test_the_search_takes_another_sites_places_for_outside() -> None:
    """A marker of one hospital in the topic of another is a leak."""
    marker = Marker("a patient", hashlib.sha256(b"patient").hexdigest(), "site")
    place = Place(f"database of agent.{SITES[1]}: cohort", "site", marker.value.encode())
    assert leaks.leaked(leaks.found([marker], leaks.as_of(SITES[1], [place]))) == []
    assert leaks.leaked(leaks.found([marker], leaks.as_of(SITES[0], [place]))) == [
        f"a patient (site) is in database of agent.{SITES[1]}: cohort"
    ]
