"""No clinical record leaves its site: what is marked on its way in is looked for everywhere.

A marker is planted in every text of class L3 and above that the public RPCs
take, a safety run goes from its trigger to the patients' answers, calls are
refused and records dead-lettered. Then every topic, database, file, log line
and metric is read. On a Kafka of its own: what is read is this platform alone.
"""

from __future__ import annotations

import asyncio
import io
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from confluent_kafka.admin import AdminClient
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.timestamp_pb2 import Timestamp
from grpc import aio
from prometheus_client import generate_latest

from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.clinical.v1 import service_pb2 as clinical_api
from pharmaloop.clinical.v1 import service_pb2_grpc as clinical_grpc
from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.loops.v1 import service_pb2 as loops_api
from pharmaloop.loops.v1 import service_pb2_grpc as loops_grpc
from pharmaloop.options.v1 import options_pb2 as options
from pharmaloop.production.v1 import events_pb2 as production
from pharmaloop.production.v1 import service_pb2 as production_api
from pharmaloop.production.v1 import service_pb2_grpc as production_grpc
from pharmaloop.traceability.v1 import events_pb2 as traceability
from pharmaloop.traceability.v1 import service_pb2 as traceability_api
from pharmaloop.traceability.v1 import service_pb2_grpc as traceability_grpc
from services.alerting.main import SPEC as ALERTING
from services.clinical.main import SPEC as CLINICAL
from services.clinical.views import PLANS
from services.kit.app import App
from services.kit.bus.migrate import migrate
from services.kit.bus.protocol import Outgoing
from services.kit.contracts import contract
from services.kit.envelope import Event, to_record
from services.kit.ids import dispense_id, plan_id
from services.kit.log import get_logger
from services.kit.rpc.client import metadata
from services.kit.rpc.errors import reason_of
from services.kit.sealing import LocalKeys, Sealer
from services.kit.settings import KafkaSettings
from services.kit.testing.engines import KafkaEngine, free_port, running
from services.kit.testing.service import running_service
from services.loops.main import SPEC as LOOPS
from services.production.main import SPEC as PRODUCTION
from services.rnd.main import SPEC as RND
from services.traceability.main import SPEC as TRACEABILITY
from tests.contract import descriptors
from tests.integration import leaks
from tests.integration.leaks import SITE, Marker, Place, Zone

pytestmark = pytest.mark.timeout(400)
WHO = metadata("ward-7")
SPECS = (PRODUCTION, TRACEABILITY, CLINICAL, ALERTING, RND, LOOPS)
DISPENSES = "pharmaloop.traceability.dispense.v1"
#: Texts of class L3 and above that carry nothing clinical, or cannot be marked.
UNMARKED = {
    "site": "names the site; every announcement does",
    "lot": "a canonical key, which every service shares",
    "possible_lots": "canonical keys",
    "run": "id of a run, which every service shares",
    "sex": "one of three letters; sealed with the arm",
}
#: Contracts that take nothing clinical; what is confidential in them, other tests look for.
ELSEWHERE = (
    "pharmaloop.rnd.v1.",  # what a plant gets is sealed: test_rnd
    "pharmaloop.production.v1.",  # a line's vessel is sealed, too: test_transfer
    "pharmaloop.exchange.v1.",  # sums of a site are masked or sealed: test_exchange, test_study_boundary
)


@dataclass
class Planted:
    """The markers, by the field that each was planted in."""

    markers: dict[str, Marker] = field(default_factory=dict)

    def __call__(self, field: str, zone: Zone, value: str = "") -> str:
        """Plant a value, or a fresh one, in a field."""
        marker = Marker(field, value or f"mk{len(self.markers)}.{uuid.uuid4().hex}", zone)
        self.markers[field] = marker
        return marker.value

    def __getitem__(self, field: str) -> str:
        return self.markers[field].value


def moment() -> common.Moment:
    stamp = Timestamp()
    stamp.FromDatetime(datetime.now(UTC) - timedelta(days=2))
    return common.Moment(at=stamp, offset_minutes=60)


class Platform:
    """All services with their callers, and the markers that they were given."""

    def __init__(self, apps: dict[str, App], channels: dict[str, aio.Channel]) -> None:
        self.apps = apps
        self.clinical: Any = clinical_grpc.ClinicalServiceStub(channels["clinical"])
        self.traceability: Any = traceability_grpc.TraceabilityServiceStub(channels["traceability"])
        self.production: Any = production_grpc.ProductionServiceStub(channels["production"])
        self.loops: Any = loops_grpc.LoopsServiceStub(channels["loops"])
        self.plant = Planted()
        self.lot = f"maker/gtin/09506000134352/{self.plant('control.lot', 'shared')}"
        self.run = ""

    async def site(self, method: str, zone: Zone = "site", **fields: Any) -> Any:
        """Call the site. Of a request that is marked itself, the id is marked, too."""
        request = getattr(clinical_api, f"{method}Request")
        return await self._call(self.clinical, method, request, {"site": SITE, **fields}, zone)

    async def trace(self, method: str, zone: Zone = "trace", **fields: Any) -> Any:
        return await self._call(
            self.traceability, method, getattr(traceability_api, f"{method}Request"), fields, zone
        )

    async def _call(self, stub: Any, method: str, request: Any, fields: dict[str, Any], zone: Zone) -> Any:
        id = self.plant(f"{request.DESCRIPTOR.full_name}.request_id", zone)
        return await getattr(stub, method)(request(request_id=id, **fields), timeout=20, metadata=WHO)

    async def say(self, topic: str, key: str, type: str, value: bytes) -> None:
        """Put a record on a topic as it is."""
        headers = (
            ("ce_id", str(uuid.uuid4()).encode()),
            ("ce_source", b"/test"),
            ("ce_time", datetime.now(UTC).isoformat().encode()),
            ("ce_type", type.encode()),
        )
        record = Outgoing(topic, key.encode(), value, headers)
        await asyncio.wrap_future(self.apps["clinical"].producer.publish([record]))


@pytest.fixture(scope="module")
def own_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("kafka")
    engine = KafkaEngine(folder / "data", free_port(), free_port())
    with running(engine, folder / "kafka.log", grace=1.0):
        migrate(KafkaSettings(bootstrap_servers=engine.bootstrap), (SITE,))
        yield engine.bootstrap


@pytest.fixture
async def platform(own_kafka: str, mongo: str, tmp_path: Path, log: io.StringIO) -> AsyncIterator[Platform]:
    async with AsyncExitStack() as stack:
        started = {
            spec.name: await stack.enter_async_context(running_service(spec, own_kafka, mongo, tmp_path))
            for spec in SPECS
        }
        yield Platform(
            {name: app for name, (app, _) in started.items()},
            {name: channel for name, (_, channel) in started.items()},
        )


async def until(ask: Callable[[], Awaitable[Any]], what: str) -> Any:
    """The first true answer."""
    try:
        async with asyncio.timeout(90):
            while not (answer := await ask()):
                await asyncio.sleep(0.05)
            return answer
    except TimeoutError:
        raise AssertionError(f"waited in vain for {what}") from None


async def accepted(call: Callable[[], Awaitable[Any]], what: str) -> None:
    """Call until it is not refused: what it rests on may not be folded yet."""

    refused: list[str] = []

    async def once() -> bool:
        try:
            await call()
        except aio.AioRpcError as error:
            refused.append(f"{error.code().name}: {error.details()}")
            return False
        return True

    try:
        await until(once, what)
    except AssertionError as error:
        raise AssertionError(f"{error}; refused {len(refused)} times, at last with {refused[-1:]}") from None


# -- the story: everything that is told, with its markers ---------------------------


async def _hospital_records(on: Platform) -> None:
    plant, at = on.plant, moment()
    profile = clinical.SubjectProfile(
        age_years=70,
        sex="F",
        arm=plant("pharmaloop.clinical.v1.SubjectProfile.arm", "nowhere"),
        genotypes=[plant("pharmaloop.clinical.v1.SubjectProfile.genotypes", "nowhere")],
    )
    patient = plant("pharmaloop.clinical.v1.MedicationRecorded.pseudonym", "trace")
    gone = clinical_api.Subject(
        pseudonym=plant("pharmaloop.clinical.v1.Subject.pseudonym", "site"),
        at=at,
        status=clinical.SUBJECT_STATUS_MOVED,
        moved_to=plant("pharmaloop.clinical.v1.Subject.moved_to", "site"),
    )
    others = [plant(f"patient.{name}", "trace") for name in ("pharmacy", "corrected")]
    subjects = [
        clinical_api.Subject(pseudonym=name, consent=True, profile=profile, at=at)
        for name in (patient, *others)
    ]
    await on.site("RecordSubjects", subjects=[*subjects, gone])
    order = plant("pharmaloop.clinical.v1.MedicationRecorded.order", "trace")
    own = [_medication(on, patient, order), _medication(on, plant["patient.corrected"], f"{order}-2")]
    plant("pharmaloop.clinical.v1.MedicationRecorded.dispense", "trace", own[0].dispense)
    await on.site("RecordMedications", medications=own)
    await _template(on)


async def _template(on: Platform) -> None:
    """What patients are asked; the ids of question and option are the site's own words."""
    prefix = "pharmaloop.clinical.v1.QuestionAnswer"
    question = on.plant(f"{prefix}.question", "site", f"q-{uuid.uuid4().hex}")
    option = clinical.AnswerOption(
        id=on.plant(f"{prefix}.choice", "site", f"o-{uuid.uuid4().hex}"), text=_wording(), complaint=True
    )
    template = clinical.FollowUpTemplate(
        duration_hours=24,
        questions=[
            clinical.FollowUpQuestion(
                id=question,
                text=_wording(),
                answer=clinical.ANSWER_KIND_CHOICE,
                options=[option, clinical.AnswerOption(id="well", text=_wording())],
            ),
            clinical.FollowUpQuestion(id="else", text=_wording(), answer=clinical.ANSWER_KIND_WORDS),
        ],
    )
    await on.site("RegisterFollowUpTemplate", template=template)


def _wording() -> clinical.Wording:
    return clinical.Wording(en="How are you?", zh="您好吗？")


def _medication(on: Platform, pseudonym: str, order: str) -> clinical.MedicationRecorded:
    dispense = dispense_id(SITE, order, on.lot)
    return clinical.MedicationRecorded(
        dispense=dispense, pseudonym=pseudonym, lot=on.lot, order=order, at=moment()
    )


async def _pharmacy_records(on: Platform) -> None:
    """What the pharmacy tells the trace; the hospital has no record of it."""
    plant, prefix = on.plant, "pharmaloop.traceability.v1"
    order = plant(f"{prefix}.DispenseRecorded.order", "trace")
    patient = plant(f"{prefix}.DispenseRecorded.pseudonym", "trace", plant["patient.pharmacy"])
    dispense = plant(f"{prefix}.DispenseRecorded.dispense", "trace", dispense_id(SITE, order, on.lot))
    given = traceability.DispenseRecorded(
        dispense=dispense,
        lot=on.lot,
        site=SITE,
        pseudonym=patient,
        order=order,
        at=moment(),
        source=plant(f"{prefix}.DispenseRecorded.source", "trace"),
    )
    record = partial(on.trace, "RecordDispense", dispenses=[given], all_or_nothing=True)
    await accepted(record, "the site to be registered")
    back = traceability.ReturnRecorded(
        dispense=plant(f"{prefix}.ReturnRecorded.dispense", "trace", dispense),
        lot=on.lot,
        at=moment(),
        state=traceability.RETURN_STATE_OPENED,
        source=plant(f"{prefix}.ReturnRecorded.source", "trace"),
        record=plant(f"{prefix}.ReturnRecorded.record", "trace"),
    )
    await on.trace("RecordReturns", returns=[back], all_or_nothing=True)
    wrong = traceability.DispenseCorrected(
        dispense=plant(f"{prefix}.DispenseCorrected.dispense", "trace"),
        lot=on.lot,
        at=moment(),
        reason=plant(f"{prefix}.DispenseCorrected.reason", "trace"),
        replaced_by=plant(f"{prefix}.DispenseCorrected.replaced_by", "trace"),
        source=plant(f"{prefix}.DispenseCorrected.source", "trace"),
        record=plant(f"{prefix}.DispenseCorrected.record", "trace"),
    )
    await on.trace("RecordCorrections", corrections=[wrong], all_or_nothing=True)


async def _trigger(on: Platform) -> None:
    """A confirmed deviation, as production says it; and the run that it opens."""
    confirmed = production.DeviationConfirmed(
        lot=on.lot, deviation=str(uuid.uuid4()), product="maker/gtin/09506000134352", tag="T"
    )
    topic, key = contract().route(confirmed)
    event = Event(
        id=str(uuid.uuid4()),
        source="/svc/production/test",
        subject=on.lot,
        time=datetime.now(UTC),
        message=confirmed,
        key=key,
        seq=1,
        case=on.lot,
    )
    await asyncio.wrap_future(on.apps["production"].producer.publish([to_record(event, topic)]))

    async def opened() -> str:
        answer = await on.loops.ListRuns(loops_api.ListRunsRequest(lot=on.lot), timeout=10)
        return answer.runs[0].run if answer.runs else ""

    on.run = await until(opened, "the run")


async def _people_act(on: Platform) -> None:
    """Who is exposed is told and asked; differences are explained, a record is taken back."""
    plant, prefix = on.plant, "pharmaloop.clinical.v1"
    patients = [plant[f"{prefix}.MedicationRecorded.pseudonym"], plant["patient.pharmacy"]]
    patients.append(plant["patient.corrected"])
    for pseudonym in patients:
        await until(lambda name=pseudonym: _has_plan(on, name), "a plan")  # type: ignore[misc]
    await _evaluate(on)
    patient = plant(f"{prefix}.NoticeRecorded.pseudonym", "trace", patients[0])
    notices = [
        clinical.NoticeRecorded(
            run=on.run, pseudonym=name, outcome=clinical.NOTICE_OUTCOME_NOTIFIED, at=moment()
        )
        for name in patients
    ]
    await on.site("RecordNotices", notices=notices, all_or_nothing=True)
    answer = partial(
        on.site,
        "RecordResponse",
        plan=plant(f"{prefix}.RecordResponseRequest.plan", "site", plan_id(on.run, patient)),
        pseudonym=plant(f"{prefix}.RecordResponseRequest.pseudonym", "trace", patient),
        affected=True,
        words=plant(f"{prefix}.RecordResponseRequest.words", "nowhere"),
        answers=[
            clinical.QuestionAnswer(
                question=plant[f"{prefix}.QuestionAnswer.question"],
                choice=plant[f"{prefix}.QuestionAnswer.choice"],
                onset=moment(),
            ),
            clinical.QuestionAnswer(
                question="else", words=plant(f"{prefix}.QuestionAnswer.words", "nowhere")
            ),
        ],
        at=moment(),
    )
    await accepted(answer, "the site to hear of the hazard")
    await _otherwise_told(on)
    dispense = plant["pharmaloop.traceability.v1.DispenseRecorded.dispense"]
    await on.site(
        "ExplainDifference",
        dispense=plant(f"{prefix}.ExplainDifferenceRequest.dispense", "trace", dispense),
        reason=plant(f"{prefix}.ExplainDifferenceRequest.reason", "site"),
        meaning=plant(f"{prefix}.ExplainDifferenceRequest.meaning", "site"),
    )
    order = plant[f"{prefix}.MedicationRecorded.order"]
    corrected = clinical.MedicationCorrected(
        dispense=plant(
            f"{prefix}.MedicationCorrected.dispense", "trace", dispense_id(SITE, f"{order}-2", on.lot)
        ),
        pseudonym=plant(f"{prefix}.MedicationCorrected.pseudonym", "trace", plant["patient.corrected"]),
        reason=plant(f"{prefix}.MedicationCorrected.reason", "site"),
        at=moment(),
    )
    await on.site("RecordMedicationCorrections", corrections=[corrected], all_or_nothing=True)


async def _otherwise_told(on: Platform) -> None:
    """An answer that comes as FHIR, and what the hospital reports unasked."""
    plant, prefix = on.plant, "pharmaloop.clinical.v1"
    other = plant["patient.pharmacy"]
    words = plant(f"{prefix}.RecordFhirResourcesRequest.resources", "nowhere")
    option = {"code": plant[f"{prefix}.QuestionAnswer.choice"]}
    answers = {
        plant[f"{prefix}.QuestionAnswer.question"]: {"valueCoding": option},
        "else": {"valueString": words},
    }
    resource = {
        "resourceType": "QuestionnaireResponse",
        "id": "qr-1",
        "status": "completed",
        "basedOn": [{"reference": f"CarePlan/{plan_id(on.run, other)}"}],
        "subject": {"reference": f"Patient/{other}"},
        "authored": "2026-03-01T08:30:00+08:00",
        "item": [{"linkId": question, "answer": [answer]} for question, answer in answers.items()],
    }
    await on.site("RecordFhirResources", resources=[json.dumps(resource)], all_or_nothing=True)
    report = clinical_api.AdverseEventReport(
        report=plant(f"{prefix}.AdverseEventReport.report", "site"),
        pseudonym=plant(
            f"{prefix}.AdverseEventReport.pseudonym", "trace", plant[f"{prefix}.MedicationRecorded.pseudonym"]
        ),
        term=plant(f"{prefix}.AdverseEventReport.term", "site", "PL0108"),
        words=plant(f"{prefix}.AdverseEventReport.words", "nowhere"),
        onset=moment(),
        at=moment(),
    )
    await on.site("RecordAdverseEvents", reports=[report], all_or_nothing=True)


async def _has_plan(on: Platform, pseudonym: str) -> bool:
    found = await on.apps["clinical"].store.get(PLANS, plan_id(on.run, pseudonym))
    return found is not None and found.state.stage == "open"


async def _evaluate(on: Platform) -> None:
    words = on.plant("control.text", "shared")

    async def evaluate() -> None:
        # Of its own each time: a refusal is kept as the answer to its request.
        evaluated = production_api.EvaluateHazardRequest(
            request_id=str(uuid.uuid4()),
            run=on.run,
            hazard_class=production.HAZARD_CLASS_II,
            text=words,
            instruction="Bring it back.",
            meaning="I evaluated it",
        )
        await on.production.EvaluateHazard(evaluated, timeout=10, metadata=metadata("physician"))

    await accepted(evaluate, "production to know of the run")


async def _refused(on: Platform) -> None:
    """Calls that are refused, for something in which their own content is quoted or looked at."""
    word = on.plant("a refused record", "nowhere")
    subject = clinical_api.Subject(pseudonym=f"{word} Miller", at=moment())
    wordy: dict[str, Any] = {"plan": str(uuid.uuid4()), "pseudonym": "P", "words": word * 200, "at": moment()}
    stray = traceability.DispenseRecorded(lot=on.lot, site=word, pseudonym=word, order=word, at=moment())
    named = clinical.MedicationRecorded(lot=word, pseudonym=word, order=word, at=moment())
    calls: list[tuple[Awaitable[Any], str]] = [
        (on.site("RecordSubjects", subjects=[subject], all_or_nothing=True), "MALFORMED"),
        (on.site("RecordResponse", **wordy), "TOO_LONG"),
        (on.site("RecordMedications", medications=[named], all_or_nothing=True), "NOT_CANONICAL"),
        (on.site("ExplainDifference", dispense=word, reason=word, meaning=word), "UNKNOWN_DISPENSE"),
        (on.trace("RecordDispense", dispenses=[stray], all_or_nothing=True), "UNKNOWN_SITE"),
    ]
    kept = dict(on.plant.markers)
    for call, reason in calls:
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await call
        assert reason_of(refusal.value)[0] == reason
    on.plant.markers = kept


async def _garbage(on: Platform) -> None:
    """Records that cannot be read: they are dead-lettered with their bytes, key and headers."""
    site = contract().topic_of("pharmaloop.clinical.v1.SubjectRecorded").at(SITE)
    for topic, type, zone in (
        (site, "pharmaloop.clinical.v1.SubjectRecorded", "site"),
        (DISPENSES, "pharmaloop.traceability.v1.DispenseRecorded", "trace"),
    ):
        word = on.plant(f"garbage on {topic}", zone)  # type: ignore[arg-type]
        for name in (type, f"pharmaloop.nobody.v1.{word}"):
            await on.say(topic, f"key-{word}", name, b"\xff\xff" + word.encode())


# -- the checks ------------------------------------------------------------------------


def marked_fields() -> set[str]:
    """Every text of class L3 and above that the changing RPCs of the contract take."""
    methods = [method for method in descriptors.methods() if not descriptors.is_query(method)]
    return {
        found.full_name
        for method in methods
        for found in _texts(method.input_type)
        if descriptors.field_class(found) >= options.DATA_CLASS_L3
        and found.name not in UNMARKED
        and not found.full_name.startswith(ELSEWHERE)
    }


def _texts(message: Descriptor) -> Iterator[FieldDescriptor]:
    for one in message.fields:
        inner = descriptors.values_of(one)
        if inner is not None:
            yield from _texts(inner)
        elif one.type in (FieldDescriptor.TYPE_STRING, FieldDescriptor.TYPE_BYTES):
            yield one


def places(on: Platform, kafka: str, mongo: str, folder: Path, log: io.StringIO) -> Iterator[Place]:
    yield from leaks.topics(kafka)
    yield from leaks.databases(mongo, on.apps)
    yield from leaks.files(folder)
    yield Place("log", "shared", log.getvalue().encode())
    for name, app in on.apps.items():
        yield Place(f"metrics of {name}", "shared", generate_latest(app.metrics.registry))


async def test_nothing_clinical_is_found_outside_of_its_site(
    platform: Platform, own_kafka: str, mongo: str, tmp_path: Path, log: io.StringIO
) -> None:
    await _hospital_records(platform)
    await _pharmacy_records(platform)
    await _trigger(platform)
    await _people_act(platform)
    await _refused(platform)
    await until(lambda: _is_answered(platform), "the patients' answers to be summed up")
    await _garbage(platform)
    await until(lambda: _letters(platform), "the dead letters")
    _readers_are_those_of_the_contract(platform, own_kafka)
    get_logger("control").info("control", word=platform.plant("control.log", "shared"))

    planted = platform.plant.markers
    assert marked_fields() <= planted.keys(), "a field was not marked"
    hits = await asyncio.to_thread(
        lambda: leaks.found(planted.values(), places(platform, own_kafka, mongo, tmp_path, log))
    )
    assert leaks.leaked(hits) == []
    _was_looked_everywhere(planted, hits)
    await _came_sealed(platform, tmp_path)


async def _is_answered(on: Platform) -> bool:
    answer = await on.loops.ListRuns(loops_api.ListRunsRequest(lot=on.lot), timeout=10)
    return answer.runs[0].stage in ("respond", "propose", "approve")


async def _letters(on: Platform) -> bool:
    """Has every garbage record been dead-lettered, and is the dead letter on its topic?"""
    for name, topic in (("clinical", f"pharmaloop.clinical.{SITE}.record.v1"), ("traceability", DISPENSES)):
        ends = await asyncio.to_thread(on.apps[name].bus.log().ends, [f"{topic}.dlq"])
        if not any(ends.values()):
            return False
    return True


def _readers_are_those_of_the_contract(on: Platform, kafka: str) -> None:
    """Who reads dispenses: by what the services declare, and by what the broker knows of its groups."""
    readers = {name for name, app in on.apps.items() for r in app.runners if DISPENSES in r.topics}
    owner = contract().topic_of("pharmaloop.traceability.v1.DispenseRecorded")
    assert (owner.scope, owner.name) == ("private", DISPENSES)
    assert readers == {owner.owner}
    admin = AdminClient({"bootstrap.servers": kafka})
    groups = [group.group_id for group in admin.list_consumer_groups().result().valid]
    reading = set()
    described: dict[str, Any] = admin.describe_consumer_groups(groups)
    for id, group in described.items():
        for member in group.result().members:
            assigned = member.assignment.topic_partitions if member.assignment else []
            reading |= {id for one in assigned if one.topic == DISPENSES}
    assert len(reading) == 1, reading
    assert all("traceability" in id for id in reading)


def _was_looked_everywhere(planted: dict[str, Marker], hits: set[tuple[Marker, str, Zone]]) -> None:
    """The search can find: every marker is where it belongs, and what is rightly shared is found in
    each kind of place."""
    came_to: dict[str, set[str]] = {}
    for marker, name, _ in hits:
        came_to.setdefault(marker.field, set()).add(name)
    silent = [f for f, marker in planted.items() if marker.zone != "nowhere" and f not in came_to]
    assert [f for f in silent if not f.endswith(".request_id")] == [], "a marker that came nowhere"
    assert "log" in came_to["control.log"]
    assert "topic pharmaloop.production.hazard.v1" in came_to["control.text"]
    for kind in ("-changelog", "database of production", "database of loops", "loops.case.v1"):
        assert any(kind in name for name in came_to["control.lot"]), kind
    for topic in (f"pharmaloop.clinical.{SITE}.record.v1", DISPENSES):
        assert f"topic {topic}.dlq" in came_to[f"garbage on {topic}"]


async def _came_sealed(on: Platform, folder: Path) -> None:
    """What was found nowhere is there: the site opens it with the patient's key."""
    pseudonym = on.plant["pharmaloop.clinical.v1.RecordResponseRequest.pseudonym"]
    found = await on.apps["clinical"].store.get(PLANS, plan_id(on.run, pseudonym))
    assert found is not None
    assert found.state.answer is not None
    sealed = common.Sealed.FromString(found.state.answer.text)
    opened = Sealer(LocalKeys(folder / "keys")).open(sealed, clinical.ResponseText)
    assert opened.words == on.plant["pharmaloop.clinical.v1.RecordResponseRequest.words"]
