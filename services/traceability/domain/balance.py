"""How much of a lot was made, went into others, and was sent where.

Kept by record and as recorded, so that repetition and order leave no trace.
Amounts are compared where their units convert into one another: grams add up
with kilograms, and a count of packs says nothing about either. What does not
add up is flagged, and refuses nothing.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from fractions import Fraction

from pharmaloop.common.v1 import types_pb2 as common
from pharmaloop.traceability.v1 import events_pb2 as events

MASS_IMBALANCE = "MASS_IMBALANCE"
#: Weighing and rounding: so much more than was made is no imbalance.
TOLERANCE = 0.01


@dataclass(frozen=True)
class Amount:
    """A quantity in a UCUM unit."""

    value: float
    unit: str


@dataclass(frozen=True)
class Shipment:
    """What one record says went from one place to another."""

    from_place: str
    to_place: str
    amount: Amount


@dataclass(frozen=True)
class Balance:
    """A lot's amounts, each by the id of its record."""

    lot: str
    made: dict[str, Amount] = field(default_factory=dict)
    used: dict[str, Amount] = field(default_factory=dict)
    shipped: dict[str, Shipment] = field(default_factory=dict)


def amount_of(quantity: common.Quantity) -> Amount:
    return Amount(quantity.value, quantity.unit)


def made(balance: Balance, record: str, amount: Amount) -> Balance:
    """So much was made, by this record."""
    return replace(balance, made={**balance.made, record: amount})


def used(balance: Balance, record: str, amount: Amount) -> Balance:
    """So much of it went into another lot, by this record."""
    return replace(balance, used={**balance.used, record: amount})


def shipped(balance: Balance, record: str, told: events.ShipmentRecorded) -> Balance:
    """So much of it went from one place to another, by this record."""
    one = Shipment(told.from_place, told.to_place, amount_of(told.quantity))
    return replace(balance, shipped={**balance.shipped, record: one})


#: What a unit measures, and how much of it one is (services.kit.units.size).
Size = Callable[[str], tuple[str, Fraction]]


def in_common_units(balance: Balance, size: Size) -> Balance:
    """The balance with each dimension in the largest unit that any of its records has."""
    largest: dict[str, str] = {}
    for unit in sorted({amount.unit for amount in _amounts(balance)}):
        held = largest.setdefault(size(unit)[0], unit)
        if size(unit)[1] > size(held)[1]:
            largest[size(unit)[0]] = unit

    def common(amount: Amount) -> Amount:
        dimension, one = size(amount.unit)
        unit = largest[dimension]
        if unit == amount.unit:
            return amount
        return Amount(float(Fraction(amount.value) * one / size(unit)[1]), unit)

    return replace(
        balance,
        made={record: common(amount) for record, amount in balance.made.items()},
        used={record: common(amount) for record, amount in balance.used.items()},
        shipped={record: replace(one, amount=common(one.amount)) for record, one in balance.shipped.items()},
    )


def _amounts(balance: Balance) -> Iterable[Amount]:
    yield from balance.made.values()
    yield from balance.used.values()
    yield from (one.amount for one in balance.shipped.values())


def adds_up(balance: Balance) -> bool:
    """Is no more used than was made, and no more sent from a place than was there? In common units."""
    there = by_unit(balance.made.values())
    if not _covers(there, by_unit(balance.used.values())):
        return False
    # A place that received none of it is where it was made.
    return all(_covers(received or there, sent) for _, received, sent in _moves(balance))


def _covers(had: dict[str, float], went: dict[str, float]) -> bool:
    return all(value <= had[unit] * (1 + TOLERANCE) for unit, value in went.items() if unit in had)


def _moves(balance: Balance) -> list[tuple[str, dict[str, float], dict[str, float]]]:
    received: dict[str, list[Amount]] = defaultdict(list)
    sent: dict[str, list[Amount]] = defaultdict(list)
    for one in balance.shipped.values():
        received[one.to_place].append(one.amount)
        sent[one.from_place].append(one.amount)
    places = sorted({*received, *sent})
    return [(place, by_unit(received.get(place, ())), by_unit(sent.get(place, ()))) for place in places]


def places(balance: Balance) -> list[tuple[str, float, float, str]]:
    """Where it went: place, received, sent, unit; by place and unit."""
    return [
        (place, received.get(unit, 0.0), sent.get(unit, 0.0), unit)
        for place, received, sent in _moves(balance)
        for unit in sorted({*received, *sent})
    ]


def by_unit(amounts: Iterable[Amount]) -> dict[str, float]:
    """The sum of the amounts of each unit; exact, so that their order leaves no trace."""
    found: dict[str, list[float]] = defaultdict(list)
    for amount in amounts:
        found[amount.unit].append(amount.value)
    return {unit: math.fsum(values) for unit, values in found.items()}
