"""The world's medicine as three hospitals would bring it into a study, and a job over them in memory."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
from scipy import stats

from pharmaloop.exchange.v1 import cohort_pb2 as exchange
from services.clinical.domain.cohort import columns, definition
from services.clinical.domain.cohort.members import Person, Reading, member
from services.clinical.domain.evidence.person_time import Pack
from services.clinical.domain.profiles import Held, LotProfile
from services.exchange.domain.stats.protocol import Columns, Model, Result
from services.world.names import Names
from services.world.sizes import TreatmentSize
from services.world.treatment import BLEEDING, CARRIER, DAYS, INR, INR_UNIT, TAG, UNIT, WARM, Taker, Treatment
from services.world.worldgen.treatment import treatment

SITES = ("hospital-a", "hospital-b", "hospital-c")
NOW = datetime(2026, 6, 1, 8, tzinfo=UTC)
_AGES = (18, 65)


def medicine(seed: int, lots: int, people: int) -> Treatment:
    """A medicine of this seed with `people` at each of three hospitals."""
    return treatment(TreatmentSize(lots, people), SITES, Names(seed), NOW)


def _asked(made: Treatment) -> exchange.CohortDefinition:
    asked = exchange.CohortDefinition(
        product=made.product,
        covariates=[exchange.COVARIATE_AGE_BAND, exchange.COVARIATE_SEX],
        age_bands=_AGES,
    )
    getattr(asked, "from").FromDatetime(NOW - timedelta(days=60))
    asked.until.FromDatetime(NOW)
    return asked


def band(made: Treatment) -> exchange.CohortDefinition:
    """Do those who received a warm lot bleed more often?"""
    asked = _asked(made)
    asked.exposure.MergeFrom(
        exchange.CohortExposure(kind=exchange.EXPOSURE_KIND_PARAMETER_BAND, tag=TAG, low=WARM, unit=UNIT)
    )
    asked.outcome.MergeFrom(
        exchange.CohortOutcome(kind=exchange.OUTCOME_KIND_ADVERSE_EVENT, terms=[BLEEDING], days=DAYS)
    )
    return asked


def genotype(made: Treatment) -> exchange.CohortDefinition:
    """Do carriers respond less?"""
    asked = _asked(made)
    asked.exposure.MergeFrom(exchange.CohortExposure(kind=exchange.EXPOSURE_KIND_GENOTYPE, genotype=CARRIER))
    asked.outcome.MergeFrom(
        exchange.CohortOutcome(kind=exchange.OUTCOME_KIND_LAB_CHANGE, lab=INR, unit=INR_UNIT, days=DAYS)
    )
    return asked


def tables(made: Treatment, asked: exchange.CohortDefinition) -> list[dict[str, Any]]:
    """What the agent of each hospital computes with: the columns of its own cohort."""
    return [_table(made.at(site), made, definition.read(asked)) for site in SITES]


def _table(takers: Sequence[Taker], made: Treatment, asked: definition.Definition) -> dict[str, Any]:
    profiles = {lot.lot: LotProfile(lot.lot, {TAG: Held(lot.mean, UNIT)}) for lot in made.lots}
    found = columns.cohort(
        b"the hospital's own key",
        (member(asked, _person(taker, made.product), profiles, _same_unit, NOW) for taker in takers),
    )
    numbers = np.array(found.rows).reshape(len(found.rows), len(found.names))
    return {**dict(zip(found.names, numbers.T, strict=True)), "lot": np.array(found.lots)}


def _person(taker: Taker, product: str) -> Person:
    return Person(
        pseudonym=taker.pseudonym,
        research=taker.research,
        packs=[Pack(product, taker.lot, taker.begun, DAYS)],
        age_years=taker.age,
        sex=taker.sex,
        genotypes=frozenset([taker.genotype]),
        outcomes=[taker.bled] if taker.bled else [],
        labs=[
            Reading(taker.begun - timedelta(hours=2), taker.inr_before, INR_UNIT),
            Reading(taker.begun + timedelta(days=DAYS - 1), taker.inr_after, INR_UNIT),
        ],
    )


def _same_unit(unit: str, other: str) -> Any:
    return (lambda value: value) if unit == other else None


TERMS = [{"column": name, "low": 0, "high": 1} for name in ("exposed", "age_65", "female")]


def of_band(lots: Sequence[str], **more: Any) -> dict[str, Any]:
    """Logistic, errors by lot. All lots are listed: the analyst does not know where they went."""
    return {
        "model": "logistic",
        "terms": TERMS,
        "outcome": {"column": "event"},
        "errors": "cluster",
        "clusters": {
            "column": "lot",
            "shared": sorted(lots),
            "others": "refuse",
            "alone": "local",
            "exposure": "exposed",
        },
        **more,
    }


def of_genotype() -> dict[str, Any]:
    return {"model": "linear", "terms": TERMS, "outcome": {"column": "change", "low": -10, "high": 10}}


def answer(model: Model, spec: Mapping[str, Any], held: Sequence[Columns]) -> Result:
    """A whole job over the hospitals; the sums are what a secure sum opens."""
    state = model.start(spec)
    while (ask := model.ask(state)) is not None:
        vectors = [model.contribute(ask, table) for table in held]
        state = model.take(state, np.asarray(np.sum(vectors, axis=0)))
    return model.result(state)


# -- exact limits ---------------------------------------------------------------


def fewest(trials: int, rate: float, limit: float = 0.99) -> int:
    """The smallest count that `rate` still explains: fewer have a chance below 1 - limit (exact)."""
    return int(stats.binom.ppf(1 - limit, trials, rate))


def most(trials: int, rate: float, limit: float = 0.99) -> int:
    """The largest count that `rate` still explains: more have a chance of 1 - limit at most (exact)."""
    return int(stats.binom.ppf(limit, trials, rate))


# -- sizes ----------------------------------------------------------------------


def people_for_band(low: float, high: float, lots: int, between: float, power: float = 0.9) -> int:
    """People in all for which a difference of risks in half of the lots is found at p < 0.05 with `power`.

    Normal approximation for the log-odds ratio (Whitehead, Stat Med 1993;12:2257) of two equal halves, with
    the variance `between`**2 that lots differ by, and Student's t of the lots.
    """
    needed = _squared_step(math.log(high / (1 - high)) - math.log(low / (1 - low)), lots - 2, power)
    left = needed - between**2 * 4 / lots
    return math.ceil(2 * (1 / (low * (1 - low)) + 1 / (high * (1 - high))) / left)


def people_for_difference(difference: float, spread: float, share: float, power: float = 0.9) -> int:
    """People in all for which a difference of means is found with `power`; `share` are exposed."""
    count = 4
    while _squared_step(difference, count - 4, power) < spread**2 / (count * share * (1 - share)):
        count += 1
    return count


def _squared_step(effect: float, degrees: float, power: float) -> float:
    """The variance of an estimate of `effect` that gives the power, with Student's t."""
    if degrees < 1:
        return 0.0
    return float((effect / (stats.t.ppf(0.975, degrees) + stats.t.ppf(power, degrees))) ** 2)
