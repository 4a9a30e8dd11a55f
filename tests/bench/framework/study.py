"""Hospitals of a benchmark of studies: the same cohorts in every process, and their fit in one place."""

from __future__ import annotations

import hashlib
import json
import time
from datetime import UTC, datetime
from typing import NamedTuple

import numpy as np

from pharmaloop.exchange.v1 import cohort_pb2 as cohort
from services.exchange.domain.stats.protocol import Vector
from services.exchange.site.source import CohortData
from services.kit.ids import lot_key, product_key

SITES = ("hospital-a", "hospital-b", "hospital-c")
PRODUCT = product_key("acme", "gtin", "06901234500547")
ROWS = 1_000
#: With the intercept 20 coefficients.
TERMS = ("exposed", *(f"x{number:02d}" for number in range(18)))
SPECIFICATION = json.dumps(
    {
        "outcome": {"column": "event"},
        "rows_at_most": 10 * ROWS,
        "terms": [{"column": name, "low": 0.0, "high": 1.0} for name in TERMS],
    }
)


def data(site: str) -> CohortData:
    """A hospital's cohort of a thousand patients."""
    draw = np.random.default_rng(int.from_bytes(hashlib.sha256(site.encode()).digest()[:4]))
    columns: dict[str, Vector] = {name: draw.random(ROWS) for name in TERMS}
    columns["exposed"] = (columns["exposed"] < 0.4).astype(float)
    eta = sum((-1) ** n * 0.3 * columns[name] for n, name in enumerate(TERMS)) - 0.5
    columns["event"] = (draw.random(ROWS) < 1 / (1 + np.exp(-eta))).astype(float)
    members = tuple(hashlib.sha256(f"{site}|{n}".encode()).digest() for n in range(ROWS))
    return CohortData(columns, (lot_key("acme", "gtin", "06901234500547", "L-1"),) * ROWS, members)


def definition() -> cohort.CohortDefinition:
    made = cohort.CohortDefinition(
        definition="bench",
        version=1,
        product=PRODUCT,
        exposure=cohort.CohortExposure(kind=cohort.EXPOSURE_KIND_GENOTYPE, genotype="CYP2C9*1/*3"),
        outcome=cohort.CohortOutcome(kind=cohort.OUTCOME_KIND_ADVERSE_EVENT, days=28),
    )
    getattr(made, "from").FromDatetime(datetime(2026, 1, 1, tzinfo=UTC))
    made.until.FromDatetime(datetime(2026, 6, 1, tzinfo=UTC))
    return made


class Pooled(NamedTuple):
    """The fit of all rows in one place: estimates, and the seconds of each Newton step."""

    beta: Vector
    seconds: list[float]


def pooled() -> Pooled:
    """Plain Newton on all rows of all hospitals, in this process."""
    found = [data(site) for site in SITES]
    columns = {name: np.concatenate([one.columns[name] for one in found]) for name in (*TERMS, "event")}
    x = np.column_stack([np.ones(len(columns["event"])), *(columns[name] for name in TERMS)])
    y, beta, seconds = columns["event"], np.zeros(x.shape[1]), []
    for _ in range(25):
        began = time.perf_counter()
        mean = 1 / (1 + np.exp(-x @ beta))
        information = (x * (mean * (1 - mean))[:, None]).T @ x
        beta = beta + np.linalg.solve(information, x.T @ (y - mean))
        seconds.append(time.perf_counter() - began)
    return Pooled(beta, seconds)
