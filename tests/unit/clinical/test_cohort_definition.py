"""Who may be asked for in a study: each definition that a site cannot answer is refused by its rule."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from pharmaloop.exchange.v1 import cohort_pb2 as exchange
from services.clinical.domain.cohort import definition
from services.refusals import Malformed

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
Spoil = Callable[[exchange.CohortDefinition], object]


def stamp(days: float) -> Timestamp:
    found = Timestamp()
    found.FromDatetime(BEGIN + timedelta(days=days))
    return found


def asked() -> exchange.CohortDefinition:
    message = exchange.CohortDefinition(
        definition="coating-band",
        version=1,
        product="maker/gtin/A",
        exposure=exchange.CohortExposure(
            kind=exchange.EXPOSURE_KIND_PARAMETER_BAND, tag="SprayTemp", low=60, high=70, unit="Cel"
        ),
        outcome=exchange.CohortOutcome(kind=exchange.OUTCOME_KIND_ADVERSE_EVENT, terms=["PL0101"], days=28),
        covariates=[exchange.COVARIATE_AGE_BAND, exchange.COVARIATE_SEX, exchange.COVARIATE_GENOTYPE],
        age_bands=[18, 65],
        genotype="CYP2C9*1/*3",
        until=stamp(60),
    )
    getattr(message, "from").CopyFrom(stamp(0))
    return message


def test_a_whole_definition_is_read() -> None:
    found = definition.read(asked())
    assert (found.begin, found.end, found.window) == (BEGIN, BEGIN + timedelta(60), timedelta(28))


def _lab(message: exchange.CohortDefinition, **given: str) -> None:
    message.outcome.CopyFrom(exchange.CohortOutcome(kind=exchange.OUTCOME_KIND_LAB_CHANGE, days=9, **given))


def _no_ends(exposure: exchange.CohortExposure) -> None:
    exposure.ClearField("low")
    exposure.ClearField("high")


SPOILT: list[tuple[Spoil, str, str]] = [
    (lambda m: setattr(m, "product", ""), "REQUIRED", "product"),
    (lambda m: m.ClearField("until"), "REQUIRED", "until"),
    (lambda m: m.until.CopyFrom(stamp(-1)), "LOW_ABOVE_HIGH", "until"),
    (lambda m: m.ClearField("exposure"), "REQUIRED", "exposure.kind"),
    (lambda m: setattr(m.exposure, "tag", ""), "REQUIRED", "exposure.tag"),
    (lambda m: setattr(m.exposure, "unit", ""), "REQUIRED", "exposure.unit"),
    (lambda m: setattr(m.exposure, "low", 70), "LOW_ABOVE_HIGH", "exposure.low"),
    (lambda m: setattr(m.exposure, "high", float("nan")), "NOT_FINITE", "exposure.high"),
    (lambda m: _no_ends(m.exposure), "REQUIRED", "exposure.low"),
    (
        lambda m: setattr(m.exposure, "kind", exchange.EXPOSURE_KIND_GENOTYPE),
        "REQUIRED",
        "exposure.genotype",
    ),
    (lambda m: setattr(m.exposure, "kind", exchange.EXPOSURE_KIND_LOTS), "REQUIRED", "exposure.lots"),
    (lambda m: m.ClearField("outcome"), "REQUIRED", "outcome.kind"),
    (lambda m: setattr(m.outcome, "days", 0), "OUT_OF_RANGE", "outcome.days"),
    (lambda m: m.outcome.terms.append("PL9999"), "UNKNOWN_CODE", "outcome.terms[1]"),
    (lambda m: _lab(m, unit="{INR}"), "REQUIRED", "outcome.lab"),
    (lambda m: _lab(m, lab="6301-6"), "REQUIRED", "outcome.unit"),
    (lambda m: m.covariates.append(exchange.COVARIATE_SEX), "DUPLICATE", "covariates[3]"),
    (lambda m: m.covariates.append(exchange.COVARIATE_LAB_BEFORE), "CONTRADICTS", "covariates"),
    (lambda m: setattr(m, "genotype", ""), "REQUIRED", "genotype"),
    (lambda m: m.age_bands.append(40), "OUT_OF_RANGE", "age_bands"),
    (lambda m: m.ClearField("age_bands"), "REQUIRED", "age_bands"),
]


@pytest.mark.parametrize(("spoil", "reason", "field"), SPOILT)
def test_a_spoilt_definition_is_refused(spoil: Spoil, reason: str, field: str) -> None:
    message = asked()
    spoil(message)
    with pytest.raises(Malformed) as refusal:
        definition.read(message)
    assert (refusal.value.reason, refusal.value.field) == (reason, field)
    assert refusal.value.description
