"""Synthetic hospitals of a study: cohorts with a known answer, and the fit of all rows in one place."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta

import numpy as np

from pharmaloop.exchange.v1 import cohort_pb2 as cohort
from pharmaloop.exchange.v1 import events_pb2 as events
from pharmaloop.exchange.v1 import service_pb2 as api
from services.exchange.domain.stats.protocol import Vector
from services.exchange.site.source import CohortData

SITES = ("hospital-a", "hospital-b", "hospital-c")
PRODUCT = "maker/gtin/06901234500547"
TERMS = ("exposed", "sex", "age_40", "age_65")
#: Patients of a hospital, where nothing else is said.
ROWS = 300
SPECIFICATION = json.dumps(
    {
        "outcome": {"column": "event"},
        "terms": [{"column": name, "low": 0.0, "high": 1.0} for name in TERMS],
    }
)


def data(site: str, rows: int = ROWS, seed: int = 7) -> CohortData:
    """A hospital's cohort: an outcome that the exposure makes likelier."""
    draw = np.random.default_rng([seed, int.from_bytes(hashlib.sha256(site.encode()).digest()[:4])])
    columns: dict[str, Vector] = {name: (draw.random(rows) < 0.4).astype(float) for name in TERMS}
    columns["age_65"] *= 1 - columns["age_40"]
    eta = -1.0 + 0.8 * columns["exposed"] - 0.3 * columns["sex"] + 0.4 * columns["age_65"]
    columns["event"] = (draw.random(rows) < 1 / (1 + np.exp(-eta))).astype(float)
    members = tuple(hashlib.sha256(f"{site}|{n}".encode()).digest() for n in range(rows))
    lots = tuple(f"{PRODUCT}/L-{n % 12:02d}" for n in range(rows))
    quality = events.QualityMeasure(measure="completeness", numerator=rows, denominator=rows)
    return CohortData(columns, lots, members, (quality,))


def without(found: CohortData, rows: int) -> CohortData:
    """The cohort without its last rows."""
    return CohortData(
        {name: values[:-rows] for name, values in found.columns.items()},
        found.lots[:-rows],
        found.members[:-rows],
        found.quality,
    )


def pooled(found: list[CohortData]) -> tuple[Vector, Vector]:
    """Logistic regression of all rows in one place, by Newton's method: estimates and standard errors."""
    columns = {name: np.concatenate([one.columns[name] for one in found]) for name in (*TERMS, "event")}
    x = np.column_stack([np.ones(len(columns["event"])), *(columns[name] for name in TERMS)])
    beta = np.zeros(x.shape[1])
    for _ in range(50):
        mean = 1 / (1 + np.exp(-x @ beta))
        information = (x * (mean * (1 - mean))[:, None]).T @ x
        step = np.linalg.solve(information, x.T @ (columns["event"] - mean))
        beta = beta + step
        if np.abs(step).max() < 1e-13:
            break
    return beta, np.sqrt(np.diag(np.linalg.inv(information)))


class Hospital:
    """The source of an agent's cohorts; a test changes `held` while a job runs."""

    def __init__(self, site: str, held: CohortData | None = None) -> None:
        self.held = held or data(site)
        self.asked = 0

    async def cohort(self, definition: cohort.CohortDefinition) -> CohortData:
        self.asked += 1
        return self.held


def definition() -> cohort.CohortDefinition:
    made = cohort.CohortDefinition(
        definition="lots",
        version=1,
        product=PRODUCT,
        exposure=cohort.CohortExposure(kind=cohort.EXPOSURE_KIND_LOTS, lots=[f"{PRODUCT}/L-01"]),
        outcome=cohort.CohortOutcome(kind=cohort.OUTCOME_KIND_ADVERSE_EVENT, terms=["10019211"], days=28),
        covariates=[cohort.COVARIATE_SEX, cohort.COVARIATE_AGE_BAND],
        age_bands=[18, 40, 65],
    )
    getattr(made, "from").FromDatetime(datetime(2026, 1, 1, tzinfo=UTC))
    made.until.FromDatetime(datetime(2026, 6, 1, tzinfo=UTC))
    return made


def request(study: str, now: datetime, sites: tuple[str, ...] = SITES) -> api.RequestStudyRequest:
    """A study as an analyst asks for it."""
    asked = api.RequestStudyRequest(
        request_id=f"request/{study}",
        study=study,
        question="Do lots of the late campaign go with more headaches?",
        purpose="to decide whether the drying time is narrowed",
        datasets=[f"{site}/routine" for site in sites],
        definition=definition(),
        model="logistic",
        specification=SPECIFICATION,
        ethics=events.EthicsApproval(board="joint board", reference="2026-17"),
    )
    asked.ethics.until.FromDatetime(now + timedelta(days=3650))
    return asked
