"""Who of a site belongs to a study's cohort, with which numbers, and that the rows tell nobody's name."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from pharmaloop.clinical.v1 import events_pb2 as clinical
from pharmaloop.clinical.v1 import service_pb2 as api
from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.exchange.v1 import cohort_pb2 as exchange
from pharmaloop.production.v1 import events_pb2 as production
from services.clinical.cohorts import CohortReader
from services.clinical.domain.cohort import definition
from services.clinical.intake import Intake
from services.kit.errors import Rejected
from services.kit.ids import dispense_id
from services.kit.sealing import Sealer, subject_key
from services.kit.store.memory import AsyncMemoryStore
from tests.unit.clinical.memory_site import SITE, START, MemorySite, moment, stamp
from tests.unit.clinical.study_site import Keys
from tests.unit.memory_service import Said

PRODUCT = "maker/gtin/A"
HOT, COOL, UNKNOWN = f"{PRODUCT}/HOT", f"{PRODUCT}/COOL", f"{PRODUCT}/UNKNOWN"
CARRIER, INR = "CYP2C9*1/*3", "6301-6"


class CohortSite:
    """A site in memory that is told of patients, and answers with its cohort."""

    def __init__(self) -> None:
        self.site = MemorySite()
        self.keys = Keys()
        self.sealer = Sealer(self.keys)
        self.reader = CohortReader(AsyncMemoryStore(self.site.database), self.sealer, SITE)
        self._facts = 0
        for lot, mean in ((HOT, 65.0), (COOL, 55.0)):
            parameter = production.LotParameter(tag="SprayTemp", unit="Cel", mean=mean)
            self.fact(production.LotProfiled(lot=lot, product=PRODUCT, parameters=[parameter]))

    def fact(self, message: Any) -> None:
        self._facts += 1
        self.site.deliver(Said(message, "/test", None, f"fact-{self._facts}", self.site.clock.now()))

    def patient(
        self,
        name: str,
        lot: str = HOT,
        *,
        days_ago: float = 40,
        research: bool = True,
        age: int = 50,
        sex: str = "F",
        genotypes: tuple[str, ...] = ("CYP2C9*1/*1",),
    ) -> None:
        profile = clinical.SubjectProfile(age_years=age, sex=sex, genotypes=genotypes)
        subject = api.Subject(pseudonym=name, profile=profile, at=moment(90), research=research)
        self.fact(Intake(SITE, self.sealer).subject(subject).message)
        self.dispense(name, lot, days_ago)

    def dispense(self, name: str, lot: str, days_ago: float) -> None:
        order = f"{name}-{days_ago}"
        self.fact(
            clinical.MedicationRecorded(
                dispense=dispense_id(SITE, order, lot),
                site=SITE,
                pseudonym=name,
                lot=lot,
                order=order,
                at=moment(days_ago),
                quantity=common.Quantity(value=28, unit="{tablet}"),
            )
        )

    def adverse(self, name: str, days_ago: float, term: str = "PL0101") -> None:
        report = f"{name}-{term}-{days_ago}"
        self.fact(
            clinical.AdverseEventRecorded(
                report=report, site=SITE, pseudonym=name, term=term, onset=moment(days_ago), at=moment(1)
            )
        )

    def lab(self, name: str, days_ago: float, value: float) -> None:
        result = clinical.LabResult(value=common.Quantity(value=value, unit="{INR}"))
        lab = clinical.LabRecorded(pseudonym=name, code=INR, at=moment(days_ago))
        fact = Intake(SITE, self.sealer).lab(lab, result, f"{name}-{days_ago}")
        self.fact(fact.message)

    def cohort(self, **given: Any) -> api.GetCohortResponse:
        return asyncio.run(self.reader.read(definition.read(asked(**given)), self.site.clock.now()))


def asked(**given: Any) -> exchange.CohortDefinition:
    """Of the product, first taken in the last 60 days; hot lots beside the others; itching within 28 days."""
    message = exchange.CohortDefinition(
        product=PRODUCT,
        exposure=exchange.CohortExposure(
            kind=exchange.EXPOSURE_KIND_PARAMETER_BAND, tag="SprayTemp", low=60, unit="Cel"
        ),
        outcome=exchange.CohortOutcome(kind=exchange.OUTCOME_KIND_ADVERSE_EVENT, terms=["PL0101"], days=28),
        until=stamp(START),
    )
    getattr(message, "from").CopyFrom(stamp(START - timedelta(days=60)))
    for name, value in given.items():
        if name == "covariates":
            message.covariates.extend(value)
        elif name == "age_bands":
            message.age_bands.extend(value)
        elif isinstance(value, str):
            setattr(message, name, value)
        else:
            getattr(message, name).CopyFrom(value)
    return message


def rows(cohort: api.GetCohortResponse) -> list[dict[str, float]]:
    """The rows, in an order of their own."""
    names = [column.name for column in cohort.columns]
    numbers = zip(*(column.values for column in cohort.columns), strict=True)
    return sorted(
        (dict(zip(names, row, strict=True)) for row in numbers), key=lambda row: sorted(row.items())
    )


def test_the_lot_of_the_first_dose_and_the_first_event_after_it_make_the_row() -> None:
    site = CohortSite()
    site.patient("P-1", HOT, days_ago=40)
    site.adverse("P-1", 50)  # before the first dose
    site.adverse("P-1", 30)
    site.adverse("P-1", 20)
    site.dispense("P-1", COOL, 20)
    site.patient("P-2", COOL, days_ago=10)
    site.adverse("P-2", 5, term="PL0202")  # not asked for
    assert rows(site.cohort()) == [
        {"exposed": 0.0, "event": 0.0, "time_days": 10.0},
        {"exposed": 1.0, "event": 1.0, "time_days": 10.0},
    ]


def test_who_does_not_consent_to_research_is_counted_and_left_out() -> None:
    site = CohortSite()
    site.patient("P-1")
    site.patient("P-2", research=False)
    found = site.cohort()
    assert (len(found.members), found.without_consent, found.eligible) == (1, 1, 2)


def test_consent_that_is_taken_back_takes_the_member_out() -> None:
    site = CohortSite()
    site.patient("P-1")
    site.patient("P-2")
    before = site.cohort()
    withdrawn = api.Subject(pseudonym="P-2", at=moment(1), research=False)
    site.fact(Intake(SITE, site.sealer).subject(withdrawn).message)
    after = site.cohort()
    assert set(after.members) < set(before.members)
    assert after.without_consent == 1


def test_of_two_records_at_one_moment_the_one_that_allows_less_holds_in_either_order() -> None:
    for said in ((True, False), (False, True)):
        site = CohortSite()
        site.patient("P-1")
        for research in said:
            record = api.Subject(pseudonym="P-1", at=moment(1), research=research)
            site.fact(Intake(SITE, site.sealer).subject(record).message)
        assert site.cohort().without_consent == 1


def test_a_lot_of_which_nothing_is_known_makes_a_member_incomplete() -> None:
    site = CohortSite()
    site.patient("P-1", UNKNOWN)
    site.patient("P-2")
    found = site.cohort()
    assert (len(found.members), found.incomplete) == (1, 1)


def test_the_band_is_read_in_its_own_unit() -> None:
    site = CohortSite()
    site.patient("P-1", HOT)
    site.patient("P-2", COOL)
    band = exchange.CohortExposure(
        kind=exchange.EXPOSURE_KIND_PARAMETER_BAND, tag="SprayTemp", low=333.15, unit="K"
    )
    assert sorted(row["exposed"] for row in rows(site.cohort(exposure=band))) == [0.0, 1.0]
    other = exchange.CohortExposure(
        kind=exchange.EXPOSURE_KIND_PARAMETER_BAND, tag="SprayTemp", low=60, unit="kg"
    )
    assert site.cohort(exposure=other).incomplete == 2


def test_covariates_are_numbers_and_who_lacks_one_is_incomplete() -> None:
    site = CohortSite()
    site.patient("P-1", age=70, sex="M", genotypes=(CARRIER,))
    site.patient("P-2", age=30)
    site.patient("P-3", age=30, genotypes=())
    site.patient("P-4", age=30, sex="U")
    covariates = [exchange.COVARIATE_AGE_BAND, exchange.COVARIATE_SEX, exchange.COVARIATE_GENOTYPE]
    found = site.cohort(covariates=covariates, age_bands=[18, 65], genotype=CARRIER)
    kept = [(row["age_65"], row["female"], row["genotype"]) for row in rows(found)]
    assert sorted(kept) == [(0.0, 1.0, 0.0), (1.0, 0.0, 1.0)]
    assert found.incomplete == 2


def test_a_laboratory_values_change_is_from_the_last_before_to_the_last_within() -> None:
    site = CohortSite()
    site.patient("P-1", days_ago=40)
    for days_ago, value in ((45, 1.0), (41, 1.2), (30, 2.0), (20, 2.6), (5, 9.0)):
        site.lab("P-1", days_ago, value)
    site.patient("P-2")
    site.lab("P-2", 45, 1.0)  # none within the window
    outcome = exchange.CohortOutcome(kind=exchange.OUTCOME_KIND_LAB_CHANGE, lab=INR, unit="{INR}", days=28)
    found = site.cohort(outcome=outcome, covariates=[exchange.COVARIATE_LAB_BEFORE])
    (row,) = rows(found)
    assert row == pytest.approx({"exposed": 1.0, "change": 1.4, "lab_before": 1.2})
    assert found.incomplete == 1


def test_who_died_is_observed_until_then() -> None:
    site = CohortSite()
    site.patient("P-1", days_ago=40)
    site.adverse("P-1", 20)
    dead = api.Subject(pseudonym="P-1", at=moment(30), research=True, status=clinical.SUBJECT_STATUS_DECEASED)
    site.fact(Intake(SITE, site.sealer).subject(dead).message)
    assert rows(site.cohort()) == [{"exposed": 1.0, "event": 0.0, "time_days": 10.0}]


def test_an_erased_patient_has_no_age_any_more() -> None:
    site = CohortSite()
    site.patient("P-1")
    site.keys.destroy(subject_key(SITE, "P-1"))
    found = site.cohort(covariates=[exchange.COVARIATE_SEX])
    assert (len(found.members), found.incomplete) == (0, 1)


def test_the_rows_name_nobody_and_the_names_are_the_same_for_the_same_person() -> None:
    site = CohortSite()
    names = [f"P-{n}" for n in range(20)]
    for name in names:
        site.patient(name)
    first, again = site.cohort(), site.cohort()
    assert first.SerializeToString(deterministic=True) == again.SerializeToString(deterministic=True)
    assert len({*first.members}) == 20
    assert not any(name.encode() in first.SerializeToString() for name in names)


def test_kits_of_a_blinded_study_make_no_cohort() -> None:
    with pytest.raises(Rejected) as refusal:
        CohortSite().cohort(product="maker/kit/STUDY")
    assert refusal.value.reason == "BLINDED"
