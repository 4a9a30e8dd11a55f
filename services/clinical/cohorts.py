"""Reads the cohort of a study from what the site holds.

Nothing of it is kept. Profiles and laboratory values lie sealed in the
patients' records: they are opened here, made into numbers, and forgotten. A
patient whose key was destroyed has no age, sex or values any more, and one who
took the consent to research back is counted and left out.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime

from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.clinical.v1 import service_pb2 as api
from pharmaloop.common.v1 import types_pb2 as common
from services.clinical.domain import adverse, packs
from services.clinical.domain.adverse import Course
from services.clinical.domain.cohort import columns, members
from services.clinical.domain.cohort.columns import Cohort
from services.clinical.domain.cohort.definition import ADVERSE as ADVERSE_OUTCOME
from services.clinical.domain.cohort.definition import LAB, Definition
from services.clinical.domain.cohort.members import Person, Reading
from services.clinical.domain.dispenses import Dispense
from services.clinical.domain.evidence.person_time import Pack
from services.clinical.domain.patients import DECEASED, MOVED, Patient
from services.clinical.domain.profiles import LotProfile
from services.clinical.domain.routine_labs import RoutineLabs
from services.clinical.views import ADVERSE, DISPENSES, LOTS, PATIENTS, PROFILES, ROUTINE_LABS
from services.kit.errors import Integrity, Rejected, Unknown
from services.kit.ids import in_kit
from services.kit.sealing import Sealer
from services.kit.store.protocol import AsyncStore
from services.kit.units import conversion

_AT_ONCE = 200
_PURPOSE = "cohort"


class CohortReader:
    """Reads one site's cohorts."""

    def __init__(self, store: AsyncStore, sealer: Sealer, site: str) -> None:
        self._store, self._sealer, self._site = store, sealer, site

    async def read(self, definition: Definition, now: datetime) -> api.GetCohortResponse:
        """The cohort as it is now; Rejected for a blinded product, whose lots must not be told apart."""
        if in_kit(definition.product):
            said = "a blinded study's kits make no cohort: who took what is known when the study is unblinded"
            raise Rejected("BLINDED", said, "definition.product")
        lots = [item.id for item in await self._store.where(LOTS, "product", definition.product)]
        received = packs.by_patient(await self._dispenses(lots))
        mine = {
            name: tuple(pack for pack in found if pack.product == definition.product)
            for name, found in received.items()
        }
        names = sorted(name for name, found in mine.items() if found)
        patients, courses, labs = await self._known(names)
        profiles = await self._profiles(lots)
        return await asyncio.to_thread(
            lambda: self._answer(
                columns.cohort(
                    self._sealer.secret(f"site/{self._site}", _PURPOSE),
                    (
                        members.member(
                            definition,
                            self._person(
                                definition,
                                patients.get(name, Patient(name)),
                                mine[name],
                                courses[name],
                                labs[name],
                            ),
                            profiles,
                            conversion,
                            now,
                        )
                        for name in names
                    ),
                )
            )
        )

    def _answer(self, cohort: Cohort) -> api.GetCohortResponse:
        return api.GetCohortResponse(
            site=self._site,
            columns=[
                api.CohortColumn(name=name, values=[row[n] for row in cohort.rows])
                for n, name in enumerate(cohort.names)
            ],
            lots=cohort.lots,
            members=cohort.members,
            without_consent=cohort.without_consent,
            incomplete=cohort.incomplete,
            eligible=cohort.eligible,
        )

    async def _dispenses(self, lots: Sequence[str]) -> list[Dispense]:
        found: dict[str, Dispense] = {}
        for lot in lots:
            for item in await self._store.where(DISPENSES, "lots", lot):
                found[item.id] = item.state
        return list(found.values())

    async def _profiles(self, lots: Sequence[str]) -> dict[str, LotProfile]:
        return {item.id: item.state for item in await self._store.among(PROFILES, "_id", lots)}

    async def _known(
        self, names: Sequence[str]
    ) -> tuple[dict[str, Patient], Mapping[str, list[Course]], Mapping[str, list[RoutineLabs]]]:
        patients: dict[str, Patient] = {}
        courses: dict[str, list[Course]] = defaultdict(list)
        labs: dict[str, list[RoutineLabs]] = defaultdict(list)
        for start in range(0, len(names), _AT_ONCE):
            some = names[start : start + _AT_ONCE]
            for patient in await self._store.among(PATIENTS, "_id", some):
                patients[patient.id] = patient.state
            for course in await self._store.among(ADVERSE, "pseudonym", some):
                courses[course.state.pseudonym].append(course.state)
            for lab in await self._store.among(ROUTINE_LABS, "pseudonym", some):
                labs[lab.state.pseudonym].append(lab.state)
        return patients, courses, labs

    def _person(
        self,
        definition: Definition,
        patient: Patient,
        received: tuple[Pack, ...],
        courses: Sequence[Course],
        labs: Sequence[RoutineLabs],
    ) -> Person:
        profile = self._profile(patient) if patient.research else None
        left = {patient.status: datetime.fromisoformat(patient.at)} if patient.known else {}
        return Person(
            pseudonym=patient.pseudonym,
            research=patient.research,
            packs=received,
            age_years=profile.age_years if profile else None,
            sex=profile.sex if profile else "U",
            genotypes=frozenset(profile.genotypes) if profile and profile.genotypes else None,
            outcomes=_outcomes(definition, courses),
            labs=self._readings(definition, labs) if patient.research else (),
            died=left.get(DECEASED),
            moved=left.get(MOVED),
        )

    def _profile(self, patient: Patient) -> clinical.SubjectProfile | None:
        if not patient.profile:
            return None
        try:
            sealed = common.Sealed.FromString(patient.profile)
            return self._sealer.open(sealed, clinical.SubjectProfile)
        except (Unknown, Integrity):
            return None

    def _readings(self, definition: Definition, labs: Sequence[RoutineLabs]) -> tuple[Reading, ...]:
        """The values of the definition's test; one that does not open any more is none."""
        if definition.outcome.kind != LAB:
            return ()
        found = []
        for result in (one for lab in labs if lab.code == definition.outcome.lab for one in lab.results):
            try:
                opened = self._sealer.open(common.Sealed.FromString(result.sealed), clinical.LabResult)
            except (Unknown, Integrity):
                continue
            at = datetime.fromisoformat(result.at)
            found.append(Reading(at, opened.value.value, opened.value.unit))
        return tuple(found)


def _outcomes(definition: Definition, courses: Sequence[Course]) -> tuple[datetime, ...]:
    """When the events of the definition's terms began that the hospital reported by itself."""
    if definition.outcome.kind != ADVERSE_OUTCOME:
        return ()
    terms = definition.outcome.terms
    events = (
        event
        for course in courses
        if not terms or course.term in terms
        for event in adverse.events(course, solicited=False)
    )
    return tuple(sorted(datetime.fromisoformat(event.onset) for event in events))
