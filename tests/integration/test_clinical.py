"""A site on real engines: a run from its exposures to the patients' answers, across a restart."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.clinical.v1 import service_pb2 as api
from pharmaloop.clinical.v1 import service_pb2_grpc as api_grpc
from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.production.v1 import events_pb2 as production
from pharmaloop.traceability.v1 import events_pb2 as traceability
from services.clinical.domain import digests
from services.clinical.main import SPEC
from services.clinical.views import SITES
from services.kit.app import App
from services.kit.bus.protocol import Partition
from services.kit.clock import ensure_clock
from services.kit.contracts import contract
from services.kit.envelope import Event, from_record, to_record
from services.kit.errors import Poison
from services.kit.ids import dispense_id, plan_id
from services.kit.rpc.client import metadata
from services.kit.rpc.errors import reason_of
from services.kit.testing.service import running_service

SITE, KEY = "hospital-a", bytes(range(32))
WHO = metadata("ward-7")
#: A site that starts folds every record on its topics first.
_NOT_THERE_YET = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


def _moment() -> common.Moment:
    stamp = Timestamp()
    stamp.FromDatetime(datetime.now(UTC) - timedelta(days=2))
    return common.Moment(at=stamp, offset_minutes=480)


def _rid() -> str:
    return str(uuid.uuid4())


class Hospital:
    """A running site, its callers, and the trace that tells it of one run."""

    def __init__(self, app: App, channel: grpc.aio.Channel) -> None:
        self.app = app
        self.stub: api_grpc.ClinicalServiceAsyncStub = api_grpc.ClinicalServiceStub(channel)
        self.run, self.lot = _rid(), f"maker/gtin/09506000134352/L.{uuid.uuid4().hex}"
        self._seq = 0
        self._version = 0
        self._terms: list[int] = []

    # -- the hospital's own people ---------------------------------------

    async def record_subjects(
        self, consents: dict[str, bool], with_profile: bool = True
    ) -> common.FactReceipt:
        profile = clinical.SubjectProfile(age_years=70, sex="F", arm="active") if with_profile else None
        subjects = [
            api.Subject(pseudonym=name, consent=consent, profile=profile, at=_moment())
            for name, consent in consents.items()
        ]
        request = api.RecordSubjectsRequest(request_id=_rid(), site=SITE, subjects=subjects)
        return (await self.stub.RecordSubjects(request, timeout=10, metadata=WHO)).receipt

    async def record_medications(self, *names: str, lot: str = "") -> common.FactReceipt:
        records = [
            clinical.MedicationRecorded(
                pseudonym=name, lot=lot or self.lot, order=f"{self.run}-{name}", at=_moment()
            )
            for name in names
        ]
        request = api.RecordMedicationsRequest(request_id=_rid(), site=SITE, medications=records)
        return (await self.stub.RecordMedications(request, timeout=10, metadata=WHO)).receipt

    async def folded(self, receipt: common.FactReceipt) -> None:
        """Return once the site has folded what was recorded, so that what it says next is known."""
        request = api.ListPlansRequest(site=SITE, min_position=receipt.positions)
        async with asyncio.timeout(45):
            while True:
                try:
                    await self.stub.ListPlans(request, timeout=10)
                    return
                except grpc.aio.AioRpcError as error:
                    assert error.code() in _NOT_THERE_YET  # noqa: PT017

    def response(self, name: str, **changes: Any) -> api.RecordResponseRequest:
        fields: dict[str, Any] = {
            "request_id": _rid(),
            "site": SITE,
            "plan": plan_id(self.run, name),
            "pseudonym": name,
            "affected": True,
            "words": "planted words",
            "at": _moment(),
            **changes,
        }
        return api.RecordResponseRequest(**fields)

    # -- the trace -------------------------------------------------------

    async def tell(self, *messages: Message) -> common.PositionVector:
        """Publish as the trace's journal of the run; answers where the last event stands."""
        records = []
        for message in messages:
            self._seq += 1
            topic, key = contract().route(message, SITE)
            event = Event(
                id=f"{self.run}#{self._seq}",
                source="/svc/traceability/journal",
                subject=self.run,
                time=self.app.clock.now(),
                message=message,
                key=key,
                seq=self._seq,
                case=self.lot,
                run=self.run,
            )
            records.append(to_record(event, topic))
        positions = await asyncio.wrap_future(self.app.producer.publish(records))
        place = positions[-1]
        told = common.LogPosition(topic=place.topic, partition=place.partition, offset=place.offset)
        return common.PositionVector(positions=[told])

    def opened(self) -> Message:
        sealed = self.app.sealer.seal_bytes(KEY, f"exposure/{SITE}", "exposure-digest")
        return traceability.ExposureOpened(run=self.run, site=SITE, digest_key=sealed)

    def entered(self, name: str) -> Message:
        dispense = dispense_id(SITE, f"{self.run}-{name}", self.lot)
        self._terms.append(digests.term(KEY, SITE, name, self.lot, dispense, "MEMBER"))
        entry = traceability.ExposureEntry(
            kind=traceability.ENTRY_KIND_MEMBER,
            dispense=dispense,
            lot=self.lot,
            pseudonym=name,
            at=_moment().at,
        )
        return traceability.ExposureEntriesJoined(
            run=self.run, site=SITE, epoch=self._version + 1, entries=[entry]
        )

    def evaluated(self) -> Message:
        return production.HazardEvaluated(
            run=self.run,
            lot=self.lot,
            hazard_class=production.HAZARD_CLASS_II,
            text="It may make you dizzy.",
            instruction="Bring it back.",
        )

    def announced(self) -> Message:
        self._version += 1
        message = traceability.ExposureAnnounced(
            run=self.run, version=self._version, root=self.lot, lots=[self.lot]
        )
        digest = bytes.fromhex(digests.added(digests.EMPTY, *self._terms))
        at_site = traceability.SiteExposure(epoch=self._version, n=len(self._terms), digest=digest)
        message.sites[SITE].CopyFrom(at_site)
        return message

    # -- what is heard outside -------------------------------------------

    async def heard(self, cls: type[Message], count: int = 1) -> list[Event]:
        """The site's events of a type about this run, once there are so many."""
        consumer = self.app.bus.consumer(f"look-{_rid()}", "0")
        topic = contract().topic_of(cls.DESCRIPTOR.full_name).at(SITE)
        consumer.subscribe([topic], lambda partitions: dict.fromkeys(partitions, 0), _ignore)
        found: list[Event] = []
        try:
            async with asyncio.timeout(60):
                while len(found) < count:
                    for record in await asyncio.to_thread(consumer.take, 500, 0.2):
                        with contextlib.suppress(Poison):  # another test's garbage
                            event = from_record(contract(), record)
                            if isinstance(event.message, cls) and self._concerns(event.message):
                                found.append(event)
        finally:
            consumer.close()
        return found

    def _concerns(self, message: Any) -> bool:
        fields = message.DESCRIPTOR.fields_by_name
        if "run" in fields:
            return bool(message.run == self.run)
        return "order" not in fields or str(message.order).startswith(self.run)


def _ignore(partitions: Iterable[Partition]) -> None:
    pass


@asynccontextmanager
async def _hospital(backbone: str, mongo: str, state: Path, database: str = "") -> AsyncIterator[Hospital]:
    async with running_service(SPEC, backbone, mongo, state, database=database) as (app, channel):
        yield Hospital(app, channel)


async def test_a_run_from_its_exposures_to_the_answers(backbone: str, mongo: str, tmp_path: Path) -> None:
    async with _hospital(backbone, mongo, tmp_path) as site:
        names = [f"{site.run[:8]}-{n}" for n in range(4)]
        no_consent, only_here = names[2], names[3]
        await site.folded(await site.record_subjects({name: name != no_consent for name in names}))
        await site.folded(await site.record_medications(names[0], only_here))
        await site.tell(site.opened(), *(site.entered(name) for name in names[:3]), site.announced())

        (ack,) = (event.message for event in await site.heard(clinical.ExposureReceived))
        assert isinstance(ack, clinical.ExposureReceived)
        assert (ack.epoch, ack.n, ack.patients) == (1, 3, 3)
        assert (ack.only_in_trace, ack.only_at_site) == (2, 1)
        (opened,) = await site.heard(clinical.PlansOpened)
        assert (opened.case, opened.run) == (site.lot, site.run)
        became = clinical.MemberDispositions(planned=2, declined=1)
        assert opened.message == clinical.PlansOpened(
            run=site.run, site=SITE, patients=3, plans=2, without_consent=1, members=became
        )
        told = await site.heard(traceability.DispenseRecorded)
        lacking = dispense_id(SITE, f"{site.run}-{only_here}", site.lot)
        assert [event.subject for event in told] == [lacking]
        assert [cast(traceability.DispenseRecorded, event.message).dispense for event in told] == [lacking]
        await _check_lists(site, names)
        assert await _refusal(site.stub.RecordResponse, site.response(names[0])) == (
            grpc.StatusCode.FAILED_PRECONDITION,
            "PLAN_IS_DRAFT",
            "plan",
        )
        await _notify(site, names[:3])
        await _answer(site, names[0])


@pytest.mark.req("G2d")
async def test_the_exposed_are_compared_and_small_numbers_stay_at_the_site(
    backbone: str, mongo: str, tmp_path: Path
) -> None:
    async with _hospital(backbone, mongo, tmp_path) as site:
        item = f"maker/gtin/{uuid.uuid4().hex}"  # nobody else at this site has received it
        site.lot, sibling = f"{item}/L.1", f"{item}/L.2"
        exposed, other = site.run[:8], f"{site.run[:8]}-other"
        await site.folded(await site.record_subjects({exposed: True, other: True}))
        await site.folded(await site.record_medications(exposed))
        await site.folded(await site.record_medications(other, lot=sibling))
        await site.tell(site.opened(), site.entered(exposed), site.announced(), site.evaluated())
        (chosen,) = await site.heard(clinical.ComparatorsChosen)
        (plan,) = cast(clinical.ComparatorsChosen, chosen.message).plans
        assert (plan.pseudonym, list(plan.lots), plan.role) == (other, [sibling], _COMPARATOR)
        assert (chosen.case, chosen.run) == ("", site.run), "a site's own topic says no case"
        await _until_asked(site, other)
        await _both_answer(site, exposed, other, plan.plan)
        (released,) = (cast(Any, event.message) for event in await site.heard(clinical.EvidenceReleased))
        assert (released.final, released.plans, released.lot) == (True, 1, site.lot)
        assert released.exposed == released.comparators == clinical.ReleasedRow(withheld=True)


_COMPARATOR = clinical.PLAN_ROLE_COMPARATOR


async def _until_asked(site: Hospital, name: str) -> None:
    """The site's own choice comes back to it by its topic."""
    listing = api.ListPlansRequest(site=SITE, run=site.run, pseudonym=name)
    async with asyncio.timeout(30):
        while not (await site.stub.ListPlans(listing, timeout=10)).plans:
            await asyncio.sleep(0.05)


async def _both_answer(site: Hospital, exposed: str, other: str, plan: str) -> None:
    """Each answer is in the site's own evidence as soon as it is folded."""
    first = await site.stub.RecordResponse(site.response(exposed), timeout=10, metadata=WHO)
    answer = site.response(other, plan=plan, affected=False)
    second = await site.stub.RecordResponse(answer, timeout=10, metadata=WHO)
    await site.folded(first.receipt)
    asked = api.GetEvidenceRequest(site=SITE, run=site.run, min_position=second.receipt.positions)
    async with asyncio.timeout(5):  # promised, from the answer on
        shown = await site.stub.GetEvidence(asked, timeout=5)
    (whole,) = (lot for lot in shown.lots if lot.kind == clinical.OUTCOME_KIND_PROMPTED)
    assert (whole.lot, whole.whole, shown.comparators) == (site.lot, True, 1)
    (stratum,) = whole.strata
    assert (stratum.exposed, stratum.exposed_cases) == (1, 1)
    assert (stratum.comparators, stratum.comparator_cases) == (1, 0)
    assert (stratum.age_from, stratum.sex) == (65, "F")
    assert whole.risk_ratio.reason == "NO_COMPARATOR_CASES"


async def _check_lists(site: Hospital, names: list[str]) -> None:
    plans = await site.stub.ListPlans(api.ListPlansRequest(site=SITE, run=site.run), timeout=10)
    assert {view.plan.pseudonym for view in plans.plans} == set(names[:2])
    assert all(list(view.plan.lots) == [site.lot] for view in plans.plans)
    request = api.ListExposuresRequest(site=SITE, run=site.run, page_size=2)
    first = await site.stub.ListExposures(request, timeout=10)
    request.page_token = first.next_page_token
    second = await site.stub.ListExposures(request, timeout=10)
    exposures = [*first.exposures, *second.exposures]
    assert (first.total, len(first.exposures), second.next_page_token) == (3, 2, "")
    assert {item.pseudonym: item.at_site for item in exposures} == {
        names[0]: True,
        names[1]: False,
        names[2]: False,
    }


async def _notify(site: Hospital, names: list[str]) -> None:
    """Whoever is exposed is told, whether or not they are followed up; then they are asked."""
    listing = api.ListNoticesRequest(site=SITE, run=site.run, only_open=True)
    assert not (await site.stub.ListNotices(listing, timeout=10)).notices
    await site.tell(site.evaluated())
    await site.heard(clinical.NoticesSummarised)
    owed = await site.stub.ListNotices(listing, timeout=10)
    assert {notice.pseudonym for notice in owed.notices} == set(names)
    assert (owed.hazard_class, owed.instruction) == ("II", "Bring it back.")
    told = clinical.NOTICE_OUTCOME_NOTIFIED
    notices = [clinical.NoticeRecorded(run=site.run, pseudonym=n, outcome=told, at=_moment()) for n in names]
    request = api.RecordNoticesRequest(request_id=_rid(), site=SITE, notices=notices)
    await site.folded((await site.stub.RecordNotices(request, timeout=10, metadata=WHO)).receipt)
    assert not (await site.stub.ListNotices(listing, timeout=10)).notices
    plans = await site.stub.ListPlans(api.ListPlansRequest(site=SITE, run=site.run), timeout=10)
    assert not any(view.draft for view in plans.plans)


async def _answer(site: Hospital, name: str) -> None:
    receipt = (await site.stub.RecordResponse(site.response(name), timeout=10, metadata=WHO)).receipt
    assert receipt.accepted == 1
    summary = await site.stub.GetLotSummary(
        api.GetLotSummaryRequest(site=SITE, lot=site.lot, min_position=receipt.positions), timeout=10
    )
    assert (summary.patients, summary.responses.plans) == (4, 2)
    assert (summary.responses.answered, summary.responses.affected) == (1, 1)
    request = api.ListPlansRequest(site=SITE, run=site.run, only_open=True)
    asked = api.ListResponsesRequest(site=SITE, run=site.run, pseudonym=name, words=True)
    (told,) = (await site.stub.ListResponses(asked, timeout=10)).responses
    assert (told.pseudonym, told.affected, told.words, told.erased) == (name, True, "planted words", False)
    of_all = api.ListResponsesRequest(site=SITE, run=site.run)
    (plain,) = (await site.stub.ListResponses(of_all, timeout=10)).responses
    assert (plain.words, plain.words_withheld) == ("", True)
    open_plans = await site.stub.ListPlans(request, timeout=10)
    assert name not in {view.plan.pseudonym for view in open_plans.plans}
    assert len(open_plans.plans) == 1


@pytest.mark.faults
async def test_a_large_run_goes_on_after_a_restart(backbone: str, mongo: str, tmp_path: Path) -> None:
    database, count = f"t{uuid.uuid4().hex[:12]}", 1200
    async with _hospital(backbone, mongo, tmp_path, database) as site:
        names = [f"{site.run[:8]}-{n}" for n in range(count)]
        await site.folded(await site.record_subjects(dict.fromkeys(names, True), with_profile=False))
        half = [site.entered(name) for name in names[: count // 2]]
        await site.tell(site.opened(), *half)
        before = await site.app.store.get(SITES, SITE)
        assert before is not None
    async with _hospital(backbone, mongo, tmp_path, database) as again:
        again.__dict__.update({**site.__dict__, "app": again.app, "stub": again.stub})
        await again.tell(*(again.entered(name) for name in names[count // 2 :]), again.announced())
        (ack,) = (event.message for event in await again.heard(clinical.ExposureReceived))
        assert isinstance(ack, clinical.ExposureReceived)
        assert (ack.n, ack.patients) == (count, count)
        bulks = [event.message for event in await again.heard(clinical.MonitoringPlansOpened, 3)]
        assert [len(bulk.plans) for bulk in bulks] == [500, 500, 200]  # type: ignore[attr-defined]
        registered = await again.app.store.get(SITES, SITE)
        assert registered is not None
        assert registered.version == before.version  # the second start said nothing new


async def test_a_follow_up_without_answers_ends_on_the_platform_clock(
    backbone: str, mongo: str, tmp_path: Path
) -> None:
    ensure_clock(tmp_path, 36_000)  # eight hours in less than a second
    async with _hospital(backbone, mongo, tmp_path) as site:
        name = site.run[:8]
        await site.folded(await site.record_subjects({name: True}))
        await site.tell(site.opened(), site.entered(name), site.announced(), site.evaluated())
        summaries = [event.message for event in await site.heard(clinical.FollowUpSummarised, 2)]
        assert [(s.plans, s.answered, s.complete) for s in summaries] == [  # type: ignore[attr-defined]
            (1, 0, False),
            (1, 0, True),
        ]


async def test_another_site_and_a_strangers_plan_are_refused(
    backbone: str, mongo: str, tmp_path: Path
) -> None:
    async with _hospital(backbone, mongo, tmp_path) as site:
        name = site.run[:8]
        await site.folded(await site.record_subjects({name: True}))
        await site.tell(site.opened(), site.entered(name), site.announced())
        await site.heard(clinical.PlansOpened)
        calls: list[tuple[Any, Any]] = [
            (site.stub.RecordSubjects, api.RecordSubjectsRequest(request_id=_rid(), site="hospital-b")),
            (site.stub.RecordMedications, api.RecordMedicationsRequest(request_id=_rid(), site="hospital-b")),
            (site.stub.RecordResponse, site.response(name, site="hospital-b")),
            (site.stub.ListPlans, api.ListPlansRequest(site="hospital-b")),
            (site.stub.ListExposures, api.ListExposuresRequest(site="hospital-b", run=site.run)),
            (site.stub.GetLotSummary, api.GetLotSummaryRequest(site="hospital-b", lot=site.lot)),
            (site.stub.GetEvidence, api.GetEvidenceRequest(site="hospital-b", run=site.run)),
        ]
        for call, request in calls:
            assert await _refusal(call, request) == (grpc.StatusCode.NOT_FOUND, "UNKNOWN_SITE", "site")
        assert await _refusal(site.stub.RecordResponse, site.response(name, plan=_rid())) == (
            grpc.StatusCode.NOT_FOUND,
            "UNKNOWN_PLAN",
            "plan",
        )
        stranger = site.response("stranger", plan=plan_id(site.run, name))
        assert await _refusal(site.stub.RecordResponse, stranger) == (
            grpc.StatusCode.INVALID_ARGUMENT,
            "OTHER_PATIENT",
            "pseudonym",
        )


async def _refusal(call: Any, request: Message) -> tuple[grpc.StatusCode, str, str]:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await call(request, timeout=10)
    return (refused.value.code(), *reason_of(refused.value))


async def test_a_mixed_batch_records_the_good_and_names_the_bad(
    backbone: str, mongo: str, tmp_path: Path
) -> None:
    async with _hospital(backbone, mongo, tmp_path) as site:
        receipt = await site.record_subjects({f"{site.run[:8]}-1": True, "with blank": True})
        assert receipt.accepted == 1
        assert [(bad.index, bad.reason, bad.field) for bad in receipt.refused] == [
            (1, "MALFORMED", "subjects[1].pseudonym")
        ]
