"""Tells a site, event by event, what its trace, its hospital and its patients say in one run."""

from __future__ import annotations

from google.protobuf.message import Message

from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.clinical.v1 import service_pb2 as api
from pharmaloop.loops.v1 import events_pb2 as loops
from pharmaloop.production.v1 import events_pb2 as production
from pharmaloop.traceability.v1 import events_pb2 as traceability
from services.clinical.domain.holdings import Holding, LotCount
from services.clinical.views import HOLDINGS
from services.kit.ids import dispense_id, plan_id
from tests.unit.clinical.memory_site import SEALED_KEY, SITE, START, MemorySite, moment, slow_digest, stamp
from tests.unit.memory_service import Said

RUN = "run-1"
LOT = "maker/gtin/A/L.1"


class Teller:
    """Plays the trace and the hospital for one run."""

    def __init__(self, key_first: bool = True) -> None:
        self.site = MemorySite()
        self._seq = 0
        self._facts = 0
        self._version = 0
        self._texts: list[str] = []
        self._numbers: dict[str, int] = {}
        if key_first:
            self.open()

    def open(self) -> None:
        self.trace(traceability.ExposureOpened(run=RUN, site=SITE, digest_key=SEALED_KEY))

    def _said(self, message: Message) -> Said:
        self._seq += 1
        source = "/svc/traceability/journal"
        case = LOT if isinstance(message, traceability.ExposureAnnounced) else ""
        return Said(message, source, self._seq, f"{source}#{self._seq}", START, case, RUN)

    def trace(self, *messages: Message) -> None:
        self.site.deliver(*(self._said(message) for message in messages))

    def fact(self, *messages: Message, days: float = 10) -> None:
        at = moment(days).at.ToDatetime(START.tzinfo)
        self._facts += len(messages)
        self.site.deliver(
            *(
                Said(m, "/svc/clinical/fact", None, f"fact-{self._facts}-{n}", at)
                for n, m in enumerate(messages)
            )
        )

    def enter(self, *pseudonyms: str, announce: bool = True, lot: str = LOT, order: str = "") -> None:
        """The patients join the journal, and the commit is announced."""
        self._enter([_entry(name, lot, order=order) for name in pseudonyms])
        if announce:
            self.announce()

    def became(
        self, pseudonym: str, *names: str, lot: str = LOT, announce: bool = True, order: str = ""
    ) -> None:
        """What is told, one after the other, to have become of the patient's dispense."""
        entries = []
        for name in names:
            self._numbers[pseudonym] = number = self._numbers.get(pseudonym, 0) + 1
            entries.append(_entry(pseudonym, lot, number, name, order))
        self._enter(entries, late=not announce)
        if announce:
            self.announce()

    def _enter(self, entries: list[traceability.ExposureEntry], late: bool = False) -> None:
        epoch = 0 if late else self._version + 1
        if epoch:
            self._texts += [_text(entry) for entry in entries]
        for start in range(0, len(entries), 300):
            bulk = entries[start : start + 300]
            self.trace(traceability.ExposureEntriesJoined(run=RUN, site=SITE, epoch=epoch, entries=bulk))

    def hazard(self, hazard_class: str = "II") -> None:
        """A person evaluates the hazard: patients are told now, and asked."""
        evaluated = production.HazardEvaluated(
            run=RUN,
            lot=LOT,
            hazard_class=f"HAZARD_CLASS_{hazard_class}",
            text="It may make you dizzy.",
            instruction="Bring it back.",
        )
        source = "/svc/production/hazard"
        self.site.deliver(Said(evaluated, source, 1, f"{source}#1", START, LOT, RUN))

    def about(self, tag: str = "Temp", follows: str = "") -> None:
        """The loop says what the run is about."""
        opened = loops.SafetyRunOpened(run=RUN, case=LOT, lot=LOT, tag=tag, follows=follows)
        source = "/svc/loops/cases"
        self.site.deliver(Said(opened, source, 1, f"{source}#1", START, LOT, RUN))

    def register(self, template: clinical.FollowUpTemplate, actor: str = "nurse") -> tuple[str, int]:
        """A person registers a template; answers its id and version."""
        request = api.RegisterFollowUpTemplateRequest(site=SITE, template=template)
        answer = self.site.command("RegisterFollowUpTemplate", request, START, actor)
        assert isinstance(answer, api.RegisterFollowUpTemplateResponse)
        return answer.template, answer.version

    def notice(self, pseudonym: str, outcome: str = "NOTIFIED", days: float = 1) -> None:
        notice = clinical.NoticeRecorded(
            run=RUN, site=SITE, pseudonym=pseudonym, outcome=f"NOTICE_OUTCOME_{outcome}", at=moment(days)
        )
        self.fact(notice, days=days)

    def own(self, pseudonym: str, lot: str = LOT, order: str = "") -> str:
        """The hospital's own record of the patient's dispense; answers its id."""
        order = order or f"order-{pseudonym}"
        id = dispense_id(SITE, order, lot)
        self.fact(
            clinical.MedicationRecorded(
                dispense=id, site=SITE, pseudonym=pseudonym, lot=lot, order=order, at=moment(6)
            )
        )
        return id

    def announce(self) -> None:
        self._version += 1
        message = traceability.ExposureAnnounced(run=RUN, version=self._version, root=LOT, lots=[LOT])
        at_site = traceability.SiteExposure(
            epoch=self._version,
            n=sum(text.endswith("|MEMBER") for text in self._texts),
            digest=slow_digest(self._texts),
        )
        message.sites[SITE].CopyFrom(at_site)
        self.trace(message)

    def answer(self, pseudonym: str, affected: bool = False, days: float = 1) -> None:
        response = clinical.ResponseRecorded(
            plan=plan_id(RUN, pseudonym), site=SITE, pseudonym=pseudonym, affected=affected, at=moment(days)
        )
        self.fact(response, days=days)

    def subject(self, pseudonym: str, consent: bool = True, days: float = 10, status: str = "") -> None:
        subject = subject_of(pseudonym, consent, days)
        if status:
            subject.MergeFrom(clinical.SubjectRecorded(status=f"SUBJECT_STATUS_{status}"))
        self.fact(subject, days=days)

    @property
    def received(self) -> clinical.ExposureReceived | None:
        return self.site.last(clinical.ExposureReceived, RUN)

    @property
    def opened(self) -> tuple[int, int, int]:
        last = self.site.last(clinical.PlansOpened, RUN)
        assert last is not None
        return last.patients, last.plans, last.without_consent

    @property
    def summary(self) -> clinical.FollowUpSummarised:
        last = self.site.last(clinical.FollowUpSummarised, RUN)
        assert last is not None
        return last

    @property
    def holding(self) -> Holding:
        return self.site.states(HOLDINGS)[f"{RUN}|{SITE}"]

    @property
    def affected(self) -> int:
        """Patients with a complaint, as the site counts them; no event tells it."""
        return self.holding.affected

    @property
    def lots(self) -> list[tuple[str, LotCount]]:
        """The lots of open plans, as the site counts them."""
        return [(lot, count) for lot, count in sorted(self.holding.lots.items()) if count.plans]

    def plans(self) -> list[clinical.MonitoringPlan]:
        return [plan for bulk in self.site.all(clinical.MonitoringPlansOpened) for plan in bulk.plans]


def _entry(
    name: str, lot: str, number: int = 0, disposition: str = "", order: str = ""
) -> traceability.ExposureEntry:
    kind = traceability.ENTRY_KIND_DISPOSITION if number else traceability.ENTRY_KIND_MEMBER
    return traceability.ExposureEntry(
        kind=kind,
        dispense=dispense_id(SITE, order or f"order-{name}", lot),
        lot=lot,
        pseudonym=name,
        at=stamp(START),
        number=number,
        disposition=f"DISPOSITION_{disposition or 'UNSPECIFIED'}",
    )


def _text(entry: traceability.ExposureEntry) -> str:
    name = traceability.Disposition.Name(entry.disposition).removeprefix("DISPOSITION_")
    kind = f"DISPOSITION/{entry.number}/{name}" if entry.number else "MEMBER"
    return f"{SITE}|{entry.pseudonym}|{entry.lot}|{entry.dispense}|{kind}"


def subject_of(pseudonym: str, consent: bool = True, days: float = 10) -> clinical.SubjectRecorded:
    return clinical.SubjectRecorded(pseudonym=pseudonym, site=SITE, consent=consent, at=moment(days))
