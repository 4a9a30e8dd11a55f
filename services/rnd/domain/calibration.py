"""What a plant's lots of a product were off the twin's predictions, from the outcomes of its transfers.

What is told for the next prediction is the bias, shrunken towards none while
outcomes are few (see `outcomes`), and the spread of the gaps around their mean.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from google.protobuf.message import Message

from pharmaloop.production.v1 import events_pb2 as production
from pharmaloop.rnd.v1 import events_pb2 as events
from services.refusals import Malformed
from services.rnd.domain import outcomes
from services.rnd.domain.outcomes import Outcome

_HALF_WIDTH = 1.959963984540054  # standard deviations of a normal 95 % interval
#: An outcome does not say by which version of the twin it was predicted.
_MODEL = "twin"


@dataclass(frozen=True)
class TransferOutcome:
    """The outcome of one transferred lot: its event's id and moment (ISO, UTC), and itself as it was."""

    calibration: str
    event: str
    at: str
    recorded: bytes

    def message(self) -> production.TransferOutcomeRecorded:
        return production.TransferOutcomeRecorded.FromString(self.recorded)


@dataclass(frozen=True)
class Calibration:
    """What is added to a plant's next predictions of a product; keeps its latest event, and its lots."""

    calibration: str
    lots: tuple[str, ...]
    calibrated: bytes

    def message(self) -> events.PredictionCalibrated:
        return events.PredictionCalibrated.FromString(self.calibrated)


def calibration_id(plant: str, product: str) -> str:
    return f"{plant}|{product}"


def recorded(told: production.TransferOutcomeRecorded, event: str, at: str) -> TransferOutcome:
    kept = told.SerializeToString(deterministic=True)
    return TransferOutcome(calibration_id(told.plant, told.product), event, at, kept)


def in_order(known: Iterable[TransferOutcome]) -> list[TransferOutcome]:
    """By time."""
    return sorted(known, key=lambda one: (one.at, one.event))


def decide_calibrate(
    held: Calibration | None, now: TransferOutcome, known: Iterable[TransferOutcome]
) -> list[events.PredictionCalibrated]:
    """Take the outcome of a lot, once. `known` are all outcomes of the plant's transfers, this one among
    them, in any order; an attribute is calibrated by those in the unit that it has now."""
    told = now.message()
    if held is not None and told.lot in held.lots:
        return []
    ordered = in_order(known)
    attributes = [found for one in told.outcomes if (found := _calibrated(now, one, ordered)) is not None]
    return [
        events.PredictionCalibrated(
            calibration=calibration_id(told.plant, told.product),
            plant=told.plant,
            product=told.product,
            attributes=[*attributes, *_others(held, {one.attribute for one in told.outcomes})],
            transfer=told.transfer,
            lot=told.lot,
        )
    ]


def _others(held: Calibration | None, told: set[str]) -> list[events.AttributeCalibration]:
    """What is known of attributes that this outcome does not tell of."""
    before = held.message().attributes if held else []
    return [one for one in before if one.attribute not in told]


def _calibrated(
    now: TransferOutcome, told: production.AttributeOutcome, ordered: Iterable[TransferOutcome]
) -> events.AttributeCalibration | None:
    latest = _outcome(now, told)
    if latest is None:
        return None
    found = [
        outcome
        for one in ordered
        for attribute in one.message().outcomes
        if (attribute.attribute, attribute.unit) == (told.attribute, told.unit)
        and (outcome := _outcome(one, attribute)) is not None
    ]
    learned = outcomes.calibrate(found, deviation=latest.deviation, model=_MODEL)
    return events.AttributeCalibration(
        attribute=told.attribute,
        bias=learned.bias,
        spread=outcomes.gaps(found).spread or 0.0,
        outcomes=len(found),
        gap=latest.gap_told,
        unit=told.unit,
    )


def _outcome(one: TransferOutcome, attribute: production.AttributeOutcome) -> Outcome | None:
    """One attribute of one lot; None where it lacks a number, for nothing can be learned from it."""
    told, estimate = one.message(), attribute.predicted
    if not estimate.HasField("value"):
        return None
    low = estimate.lower if estimate.HasField("lower") else estimate.value
    high = estimate.upper if estimate.HasField("upper") else estimate.value
    width = (high - low) / (2 * _HALF_WIDTH)
    try:
        return Outcome(
            transfer=told.transfer,
            event=one.event,
            at=datetime.fromisoformat(one.at),
            product=told.product,
            plant=told.plant,
            cqa=attribute.attribute,
            unit=attribute.unit,
            predicted=estimate.value - attribute.calibrated_by,
            # Of the told interval; the bias does not rest on it.
            deviation=width if width > 0 and math.isfinite(width) else 1.0,
            told=estimate.value,
            low=low,
            high=high,
            actual=attribute.actual,
            model=_MODEL,
        )
    except Malformed:
        return None


def evolve(held: Calibration | None, event: Message) -> Calibration:
    """The calibration after its event: the newest replaces the one before."""
    assert isinstance(event, events.PredictionCalibrated)
    lots = (*(held.lots if held else ()), event.lot)
    return Calibration(event.calibration, lots, event.SerializeToString(deterministic=True))
