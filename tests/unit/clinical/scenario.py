"""What may happen at one site, as streams that keep their own order, and what must come of it.

The oracle knows the whole story and no order: it is written from the
protocol, and uses nothing of the service but the contract.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from datetime import timedelta

from hypothesis import strategies as st

from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.loops.v1 import events_pb2 as loops
from pharmaloop.production.v1 import events_pb2 as production
from pharmaloop.traceability.v1 import events_pb2 as traceability
from services.kit.ids import dispense_id, plan_id
from tests.unit.clinical.memory_site import SEALED_KEY, SITE, START, moment, slow_digest, stamp
from tests.unit.memory_service import Said

RUNS = ("run-1", "run-2")
#: What the runs are about. A template that depends on it is registered before anything happens.
KIND, HOURS = "Temp", 30
STATUSES = (None, None, None, None, "DECEASED", "MOVED")
_TOLD, _MISSED = "NOTICE_OUTCOME_NOTIFIED", "NOTICE_OUTCOME_UNREACHABLE"
NOTICES = ((), (_TOLD,), (_TOLD,), (_MISSED,), (_MISSED, _TOLD), (_TOLD, _MISSED))
#: What may become of a dispense.
COURSES: tuple[tuple[str, ...], ...] = (
    (),
    (),
    (),
    ("RETURNED",),
    ("RETURNED_UNOPENED",),
    ("CORRECTED",),
    ("CORRECTED", "REINSTATED"),
    ("RETURNED_UNOPENED", "RETURNED"),
)
LOTS = ("maker/gtin/A/L.1", "maker/gtin/A/L.2", "maker/gtin/B/L%201")


@dataclass(frozen=True)
class Person:
    """A patient: what the hospital records of their consent, one after the other, their answer
    (None: nothing), what it records last of where they are (None: nothing), and what came of telling
    them, by run."""

    pseudonym: str
    consents: tuple[bool, ...]
    answer: bool | None
    status: str | None
    told: dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class Given:
    """A dispense: who got which lot, in which commit of which run it joins the journal (-1: never),
    what is told to have become of it, one after the other, and what the hospital says itself:
    nothing, its own record, one that it takes back, or an explanation why it has none."""

    person: Person
    lot: str
    commits: dict[str, int]
    became: tuple[str, ...]
    own: str
    order: str

    @property
    def recorded(self) -> bool:
        return self.own == "recorded"

    @property
    def disposition(self) -> str:
        last = self.became[-1] if self.became else ""
        return "" if last == "REINSTATED" else last

    @property
    def void(self) -> bool:
        return self.disposition in ("RETURNED_UNOPENED", "CORRECTED")

    @property
    def kinds(self) -> list[str]:
        return ["MEMBER", *(f"DISPOSITION/{n}/{name}" for n, name in enumerate(self.became, 1))]

    @property
    def id(self) -> str:
        return dispense_id(SITE, self.order, self.lot)

    def text(self, kind: str) -> str:
        return f"{SITE}|{self.person.pseudonym}|{self.lot}|{self.id}|{kind}"


@dataclass(frozen=True)
class Story:
    """Everything that happens."""

    people: tuple[Person, ...]
    given: tuple[Given, ...]
    commits: int

    def members(self, run: str, upto: int) -> list[Given]:
        return [g for g in self.given if 0 <= g.commits[run] <= upto]

    def texts(self, run: str, upto: int) -> list[str]:
        return [g.text(kind) for g in self.members(run, upto) for kind in g.kinds]

    def listed(self, run: str, upto: int) -> list[str]:
        return sorted({g.lot for g in self.members(run, upto)} | {LOTS[0]})


@st.composite
def stories(draw: st.DrawFn) -> Story:
    consents = st.sampled_from([(), (True,), (True,), (False,), (False, True), (True, False)])
    people = tuple(
        Person(
            pseudonym=f"P-{n}",
            consents=draw(consents),
            answer=draw(st.sampled_from([None, False, True])),
            status=draw(st.sampled_from(STATUSES)),
            told={run: draw(st.sampled_from(NOTICES)) for run in RUNS},
        )
        for n in range(draw(st.integers(1, 4)))
    )
    people = tuple(replace(p, answer=None, consents=p.consents or (True,)) if p.status else p for p in people)
    commits = draw(st.integers(1, 3))
    joins = st.integers(-1, commits - 1)
    given = tuple(
        Given(
            person=draw(st.sampled_from(people)),
            lot=draw(st.sampled_from(LOTS)),
            commits={run: draw(joins) for run in RUNS},
            became=draw(st.sampled_from(COURSES)),
            own=draw(st.sampled_from(["nothing", "recorded", "recorded", "taken back", "explained"])),
            order=f"order-{n}",
        )
        for n in range(draw(st.integers(0, 6)))
    )
    return Story(people, given, commits)


# -- the streams ------------------------------------------------------------


def _journal(story: Story, run: str) -> list[list[Said]]:
    """The trace's events of one run: the key, the entries, the announcements, each in their order."""
    source, case = f"/svc/traceability/journal/{run}", LOTS[0]
    entries: list[Said] = []
    announcements: list[Said] = []
    for commit in range(story.commits):
        now = START + timedelta(minutes=commit)
        for given in story.members(run, commit):
            if given.commits[run] == commit:
                for number in range(len(given.kinds)):
                    told = _entry(given, run, commit, number)
                    entries.append(_said(told, f"{source}/entries", entries, now, "", run))
        announced = traceability.ExposureAnnounced(
            run=run, version=commit + 1, root=case, lots=story.listed(run, commit)
        )
        announced.sites[SITE].CopyFrom(
            traceability.SiteExposure(
                epoch=commit + 1,
                n=len(story.members(run, commit)),
                digest=slow_digest(story.texts(run, commit)),
            )
        )
        announced.sites["hospital-b"].CopyFrom(traceability.SiteExposure(digest=bytes(32)))
        announcements.append(_said(announced, f"{source}/head", announcements, now, case, run))
    opened = traceability.ExposureOpened(run=run, site=SITE, digest_key=SEALED_KEY)
    hazard = production.HazardEvaluated(run=run, lot=case, hazard_class="HAZARD_CLASS_II", text="so")
    # The second run follows the first, and is about the same deviation.
    about = loops.SafetyRunOpened(run=run, case=case, lot=case)
    about.tag, about.follows = (KIND, "") if run == RUNS[0] else ("", RUNS[0])
    began = [_said(about, f"/svc/loops/cases/{run}", [], START, case, run)]
    evaluated = [_said(hazard, f"/svc/production/hazard/{run}", [], START, case, run)]
    return [began, evaluated, [_said(opened, f"{source}/key", [], START, "", run)], entries, announcements]


def _entry(given: Given, run: str, commit: int, number: int) -> traceability.ExposureEntriesJoined:
    kind = traceability.ENTRY_KIND_DISPOSITION if number else traceability.ENTRY_KIND_MEMBER
    name = given.became[number - 1] if number else "UNSPECIFIED"
    entry = traceability.ExposureEntry(
        kind=kind,
        dispense=given.id,
        lot=given.lot,
        pseudonym=given.person.pseudonym,
        at=stamp(START - timedelta(days=5)),
        number=number,
        disposition=f"DISPOSITION_{name}",
    )
    return traceability.ExposureEntriesJoined(run=run, site=SITE, epoch=commit + 1, entries=[entry])


def _said(message: object, source: str, before: list[Said], now: object, case: str, run: str) -> Said:
    seq = len(before) + 1
    return Said(message, source, seq, f"{source}#{seq}", now, case, run)  # type: ignore[arg-type]


def _fact(message: object, id: str, days: float) -> Said:
    return Said(message, "/svc/clinical/fact", None, id, moment(days).at.ToDatetime(START.tzinfo), "", "")  # type: ignore[arg-type]


def _facts(story: Story) -> list[list[Said]]:
    """The hospital's facts: each a stream of its own, for nothing orders them."""
    streams: list[list[Said]] = []
    for person in story.people:
        for n, consent in enumerate(person.consents):
            subject = clinical.SubjectRecorded(
                pseudonym=person.pseudonym, site=SITE, consent=consent, at=moment(30 - n)
            )
            streams.append([_fact(subject, f"subject/{person.pseudonym}/{n}", 30 - n)])
        if person.status:
            gone = clinical.SubjectRecorded(pseudonym=person.pseudonym, site=SITE, at=moment(2), moved_to="x")
            gone.consent = person.consents[-1]
            gone.MergeFrom(clinical.SubjectRecorded(status=f"SUBJECT_STATUS_{person.status}"))
            streams.append([_fact(gone, f"subject/{person.pseudonym}/gone", 2)])
        for run, outcomes in person.told.items():
            for n, outcome in enumerate(outcomes):
                notice = clinical.NoticeRecorded(
                    run=run, site=SITE, pseudonym=person.pseudonym, outcome=outcome, at=moment(3 - n)
                )
                streams.append([_fact(notice, f"notice/{run}/{person.pseudonym}/{n}", 3 - n)])
        if person.answer is not None:
            streams += [
                [
                    _fact(
                        _response(person, run, person.answer, 1.0), f"response/{run}/{person.pseudonym}", 1.0
                    ),
                ]
                for run in RUNS
            ]
    for given in story.given:
        if given.own in ("recorded", "taken back"):
            streams.append([_fact(_medication(given), f"medication/{given.id}", 6)])
        if given.own == "taken back":
            wrong = clinical.MedicationCorrected(
                dispense=given.id, site=SITE, pseudonym=given.person.pseudonym, reason="a slip", at=moment(1)
            )
            streams.append([_fact(wrong, f"corrected/{given.id}", 1)])
        if given.own == "explained":
            why = clinical.DifferenceExplained(
                dispense=given.id, site=SITE, pseudonym=given.person.pseudonym, reason="on paper"
            )
            streams.append([_said(why, f"/svc/clinical/explanation/{given.id}", [], START, "", "")])
    return streams


def _response(person: Person, run: str, affected: bool, days: float) -> clinical.ResponseRecorded:
    return clinical.ResponseRecorded(
        plan=plan_id(run, person.pseudonym),
        site=SITE,
        pseudonym=person.pseudonym,
        affected=affected,
        at=moment(days),
    )


def _medication(given: Given) -> clinical.MedicationRecorded:
    return clinical.MedicationRecorded(
        dispense=given.id,
        site=SITE,
        pseudonym=given.person.pseudonym,
        lot=given.lot,
        order=given.order,
        at=moment(6),
        quantity=common.Quantity(value=1, unit="{tablet}"),
    )


def streams_of(story: Story) -> list[list[Said]]:
    journals = [stream for run in RUNS for stream in _journal(story, run)]
    return [stream for stream in [*journals, *_facts(story)] if stream]


@st.composite
def deliveries(draw: st.DrawFn, story: Story) -> list[list[Said]]:
    """Some interleaving of the streams, in batches, with repeats."""
    queues = [list(stream) for stream in streams_of(story)]
    sent: list[Said] = []
    while queues:
        queue = queues[draw(st.integers(0, len(queues) - 1))]
        sent.append(queue.pop(0))
        queues = [left for left in queues if left]
        if draw(st.integers(0, 4)) == 0:
            sent.append(draw(st.sampled_from(sent)))
    batches: list[list[Said]] = []
    while sent:
        size = draw(st.integers(1, 8))
        batches.append(sent[:size])
        sent = sent[size:]
    return batches


# -- the oracle ---------------------------------------------------------------


@dataclass(frozen=True)
class Expected:
    """What a run must end in at the site."""

    notices: clinical.NoticesSummarised
    received: clinical.ExposureReceived
    opened: clinical.PlansOpened
    summary: clinical.FollowUpSummarised
    counts: dict[str, tuple[int, int, int]]
    lots_of: dict[str, tuple[str, ...]]
    only_here: set[str]


def expected(story: Story, run: str) -> Expected:
    last = story.commits - 1
    members = story.members(run, last)
    listed = story.listed(run, last)
    in_trace = [g for g in members if g.disposition != "CORRECTED"]
    only_here = {g.id for g in story.given if g.recorded and g.lot in listed and g not in in_trace}
    lots_of: dict[str, set[str]] = defaultdict(set)
    for given in members:
        if not given.void:
            lots_of[given.person.pseudonym].add(given.lot)
    named = {g.person.pseudonym for g in members}
    exposed = [person for person in story.people if person.pseudonym in lots_of]
    stages = {person.pseudonym: _stage(person) for person in exposed}
    planned = [person for person in exposed if stages[person.pseudonym] == "planned"]
    missing = [g for g in members if not g.void and not g.recorded]
    received = clinical.ExposureReceived(
        run=run,
        site=SITE,
        epoch=last + 1,
        n=len(members),
        digest=slow_digest(story.texts(run, last)),
        only_in_trace=sum(g.own != "explained" for g in missing),
        explained=sum(g.own == "explained" for g in missing),
        only_at_site=len(only_here),
        patients=len(named),
    )
    opened = clinical.PlansOpened(
        run=run,
        site=SITE,
        patients=len(named),
        plans=len(planned),
        without_consent=sum(stage == "declined" for stage in stages.values()),
        without_need=sum(stage in ("deceased", "moved") for stage in stages.values())
        + len(named - set(lots_of)),
    )
    opened.members.void = sum(g.void for g in members)
    for given in members:
        if not given.void:
            stage = stages[given.person.pseudonym]
            setattr(opened.members, stage, getattr(opened.members, stage) + 1)
    living = [person for person in exposed if stages[person.pseudonym] != "deceased"]
    outcomes = [person.told[run] for person in living]
    notices = clinical.NoticesSummarised(
        run=run,
        site=SITE,
        patients=len(living),
        notified=sum(_TOLD in outcome for outcome in outcomes),
        unreachable=sum(outcome == (_MISSED,) for outcome in outcomes),
    )
    return Expected(
        notices,
        received,
        opened,
        _summary(run, planned, "pending" not in stages.values()),
        _counts(planned, lots_of),
        {person.pseudonym: tuple(sorted(lots_of[person.pseudonym])) for person in planned},
        only_here,
    )


def _stage(person: Person) -> str:
    if not person.consents:
        return "pending"
    if person.status:
        return person.status.lower()
    return "planned" if person.consents[-1] else "declined"


def _counted(people: list[Person]) -> tuple[int, int, int]:
    """Plans, answers, and answers with a complaint."""
    answered = [person for person in people if person.answer is not None]
    return len(people), len(answered), sum(bool(person.answer) for person in answered)


def _summary(run: str, planned: list[Person], resolved: bool) -> clinical.FollowUpSummarised:
    plans, answered, _ = _counted(planned)
    return clinical.FollowUpSummarised(
        run=run,
        site=SITE,
        plans=plans,
        answered=answered,
        complete=resolved and plans == answered,
        follow_up_hours=HOURS if plans else 0,
    )


def _counts(planned: list[Person], lots_of: dict[str, set[str]]) -> dict[str, tuple[int, int, int]]:
    """The same by lot; no event tells it."""
    found = {lot: [p for p in planned if lot in lots_of[p.pseudonym]] for lot in LOTS}
    return {lot: _counted(people) for lot, people in found.items() if people}
