"""A site in memory with its steps: comparators are chosen, evidence is reviewed, as in a running process."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

from google.protobuf.message import Message

from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.clinical.v1 import service_pb2 as api
from pharmaloop.common.v1 import types_pb2 as common
from services.clinical.evidence import Reader
from services.clinical.shown import evidence_of
from services.clinical.steps import Steps
from services.clinical.views import PLANS, RELEASES
from services.kit.app import App
from services.kit.errors import Unknown
from services.kit.ids import dispense_id
from services.kit.sealing import Sealer, subject_key
from services.kit.store.memory import AsyncMemoryStore
from services.kit.work import STEPS, moment_text
from tests.unit.clinical.memory_site import SITE, moment
from tests.unit.clinical.teller import LOT, RUN, Teller
from tests.unit.memory_service import Said

#: Another lot of the same maker and item, and one of another item.
SIBLING, STRANGE = "maker/gtin/A/L.9", "maker/gtin/B/L.9"


class Keys:
    """Keys made from their name; destroyed ones are gone."""

    def __init__(self) -> None:
        self.destroyed: set[str] = set()

    def make(self, key_id: str) -> bytes:
        return key_id.encode().ljust(32, b".")[:32]

    def find(self, key_id: str) -> bytes:
        if key_id in self.destroyed:
            raise Unknown("NO_KEY", "destroyed")
        return self.make(key_id)

    def destroy(self, key_id: str) -> None:
        self.destroyed.add(key_id)


@dataclass(frozen=True)
class Person:
    """A patient who consents."""

    pseudonym: str
    lot: str
    age: int = 50
    sex: str = "F"
    days_ago: float = 6


class StudySite(Teller):
    """One run at a site whose hazard is evaluated."""

    def __init__(self) -> None:
        super().__init__()
        self.keys = Keys()
        sealer, store = Sealer(self.keys), AsyncMemoryStore(self.site.database)
        self.reader = Reader(store, sealer, SITE)
        self.sealer = sealer
        self._steps = Steps(
            cast(
                App,
                SimpleNamespace(store=store, sealer=sealer, site=SITE, clock=self.site.clock, decider=self),
            )
        ).all()
        self._fed = 0
        self._submitted: set[str] = set()

    async def submit(self, method: str, request: Message, *, request_id: str, **_: Any) -> None:
        """As the decider does: a request has its effect once."""
        if request_id not in self._submitted:
            self._submitted.add(request_id)
            self.site.command(method, request, self.site.clock.now())

    def people(self, people: Iterable[Person]) -> None:
        """They are recorded, with what they received."""
        for person in people:
            profile = clinical.SubjectProfile(age_years=person.age, sex=person.sex)
            subject = clinical.SubjectRecorded(
                pseudonym=person.pseudonym, site=SITE, consent=True, at=moment(30)
            )
            subject.profile.CopyFrom(self.sealer.seal(profile, subject_key(SITE, person.pseudonym)))
            order = f"order-{person.pseudonym}"
            given = clinical.MedicationRecorded(
                dispense=dispense_id(SITE, order, person.lot),
                site=SITE,
                pseudonym=person.pseudonym,
                lot=person.lot,
                order=order,
                at=moment(person.days_ago),
                quantity=common.Quantity(value=28, unit="{tablet}"),
            )
            self.fact(subject, given)

    def work(self) -> None:
        """Run every step that is due, and hear what the site itself said, until nothing is left."""
        while self._run_due() + self._hear():
            pass

    def _run_due(self) -> int:
        rows, now = self.site.states(STEPS), moment_text(self.site.clock.now())
        due = [(id, step) for id, step in rows.items() if step.due <= now]
        for id, step in due:
            del self.site.database.docs[STEPS.name][id]
            asyncio.run(cast(Any, self._steps[step.step](step)))
        return len(due)

    def _hear(self) -> int:
        chosen = clinical.ComparatorsChosen
        said = [event for event in self.site.events() if isinstance(event.message, chosen)]
        fresh = said[self._fed :]
        self._fed = len(said)
        for e in fresh:
            self.site.deliver(Said(e.message, e.source, e.seq, e.id, e.time, e.case, e.run))
        return len(fresh)

    def comparators(self, stage: str = "open") -> set[str]:
        plans = self.site.states(PLANS).values()
        return {p.pseudonym for p in plans if p.role == "comparator" and p.stage == stage}

    def reply(self, pseudonym: str, affected: bool = False) -> None:
        """The patient answers the plan that they have, whatever they are in the run."""
        plans = self.site.states(PLANS).values()
        (plan,) = (p.plan for p in plans if p.pseudonym == pseudonym and p.stage == "open")
        response = clinical.ResponseRecorded(
            plan=plan, site=SITE, pseudonym=pseudonym, affected=affected, at=moment(1)
        )
        self.fact(response, days=1)

    def evidence(self) -> api.GetEvidenceResponse:
        """What GetEvidence answers."""
        seen = asyncio.run(self.reader.see(self.holding, self.site.clock.now()))
        decided = self.site.states(RELEASES).get(f"{RUN}|{SITE}")
        return evidence_of(SITE, self.holding, seen, decided, asyncio.run(self.reader.labs(RUN)))

    def released(self) -> list[clinical.EvidenceReleased]:
        return self.site.all(clinical.EvidenceReleased)


def exposed_run(*people: Person) -> StudySite:
    """A site where these received the run's lot; the hazard is evaluated, and nobody has answered."""
    site = StudySite()
    site.people(people)
    site.enter(*(person.pseudonym for person in people if person.lot == LOT))
    site.hazard()
    site.work()
    return site
