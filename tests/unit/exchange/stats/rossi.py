"""Specifications on the recidivism data (Rossi, Berk and Lenihan 1980), all of it public."""

from __future__ import annotations

from typing import Any

from services.exchange.domain.stats.reading import PUBLIC as ALL_TOLD
from tests.unit.exchange.stats.federation import read

ROSSI = read("rossi.csv")

#: The rows of a site fix the digits of the fixed point; 432 are there in all.
PUBLIC = {**ALL_TOLD, "rows_at_most": 1000}

RANGES = {
    "fin": (0, 1),
    "age": (15, 60),
    "race": (0, 1),
    "wexp": (0, 1),
    "mar": (0, 1),
    "paro": (0, 1),
    "prio": (0, 30),
}

TERMS = [{"column": name, "low": low, "high": high} for name, (low, high) in RANGES.items()]
WITHOUT_PRIO = TERMS[:-1]


def cox(**more: Any) -> dict[str, Any]:
    return {"model": "cox", "terms": TERMS, "time": "week", "event": "arrest", **PUBLIC, **more}


def cox_grid(**more: Any) -> dict[str, Any]:
    return cox(**{"model": "cox_grid", "grid": list(range(1, 53)), **more})


def logistic(**more: Any) -> dict[str, Any]:
    return {"model": "logistic", "terms": TERMS, "outcome": {"column": "arrest"}, **PUBLIC, **more}


def poisson(**more: Any) -> dict[str, Any]:
    said = {
        "model": "poisson",
        "terms": WITHOUT_PRIO,
        "outcome": {"column": "prio", "high": 30},
        "exposure": {"column": "week", "low": 1, "high": 52},
    }
    return {**said, **PUBLIC, **more}


def linear(**more: Any) -> dict[str, Any]:
    outcome = {"column": "prio", "low": 0, "high": 30}
    return {"model": "linear", "terms": WITHOUT_PRIO, "outcome": outcome, **PUBLIC, **more}
