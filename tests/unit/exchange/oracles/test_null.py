"""Where nothing is planted, a process band is found no more often than promised.

Lots differ, and no lot because of the band: whoever counts patients as if each
were a lot of its own finds it far too often.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from services.exchange.domain.stats.glm import Logistic
from tests.unit.exchange.oracles import hospitals

PROMISED = 0.05
RISK, BETWEEN_LOTS, PATIENTS_PER_LOT = 0.2, 0.6, 10


def names(lots: int) -> list[str]:
    return [f"L{number:02d}" for number in range(lots)]


def studies(count: int, inside: int, outside: int, seed: int) -> Iterator[list[dict[str, Any]]]:
    """Three hospitals' columns; the log-odds of lots differ by BETWEEN_LOTS, alike inside and outside."""
    random = np.random.default_rng(seed)
    lots, rows = inside + outside, (inside + outside) * PATIENTS_PER_LOT
    shape = (count, rows)
    lot, site = random.integers(0, lots, shape), random.integers(0, 3, shape)
    log_odds = math.log(RISK / (1 - RISK)) + random.normal(0, BETWEEN_LOTS, (count, lots))
    risk = 1 / (1 + np.exp(-np.take_along_axis(log_odds, lot, axis=1)))
    event, exposed = (random.random(shape) < risk).astype(float), (lot < inside).astype(float)
    named = np.array(names(lots))
    for at in range(count):
        yield [
            {
                "exposed": exposed[at, site[at] == one],
                "event": event[at, site[at] == one],
                "lot": named[lot[at, site[at] == one]],
            }
            for one in range(3)
        ]


def found(held: list[dict[str, Any]], spec: dict[str, Any]) -> bool:
    p_value = hospitals.answer(Logistic(), spec, held).estimate("exposed").p_value
    assert p_value is not None
    return p_value < 0.05


BAND_ALONE = [{"column": "exposed", "low": 0, "high": 1}]


def by_lot(lots: int) -> dict[str, Any]:
    return hospitals.of_band(names(lots), terms=BAND_ALONE)


BY_PATIENT = {"model": "logistic", "terms": BAND_ALONE, "outcome": {"column": "event"}}


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("count", "inside", "outside"),
    [pytest.param(2000, 12, 12, marks=pytest.mark.long), (500, 10, 10), (500, 10, 30)],
)
def test_with_errors_by_lot_false_findings_keep_to_five_in_a_hundred(
    count: int, inside: int, outside: int
) -> None:
    assert hospitals.most(2000, PROMISED) == 123
    spec = by_lot(inside + outside)
    false = sum(found(held, spec) for held in studies(count, inside, outside, seed=2026))
    assert false <= hospitals.most(count, PROMISED)


def test_with_errors_by_patient_they_do_not() -> None:
    false = sum(found(held, BY_PATIENT) for held in studies(400, 12, 12, seed=2026))
    assert false > hospitals.most(400, PROMISED)
