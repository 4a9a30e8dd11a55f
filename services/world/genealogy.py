"""The walk over the world's own material, used to plant and to judge.

It knows nothing of the platform's trace; the tests hold it against a third
walk, from the dispense upwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from services.world.entities import Dispense, Material


def outputs(materials: Iterable[Material]) -> dict[str, list[str]]:
    """For each lot, the lots made from it."""
    made: dict[str, list[str]] = {}
    for material in materials:
        for used in material.inputs:
            made.setdefault(used, []).append(material.lot)
    return made


def descendants(lot: str, made: Mapping[str, list[str]]) -> set[str]:
    """The lot itself and every lot that has it inside."""
    found = {lot}
    waiting = [lot]
    while waiting:
        for child in made.get(waiting.pop(), ()):
            if child not in found:
                found.add(child)
                waiting.append(child)
    return found


def exposed(lot: str, made: Mapping[str, list[str]], by_lot: Mapping[str, list[Dispense]]) -> list[Dispense]:
    """Every dispense of the lot and of what was made from it, by dispense id."""
    found = [dispense for child in descendants(lot, made) for dispense in by_lot.get(child, ())]
    return sorted(found, key=lambda dispense: dispense.dispense)


def by_lot(dispenses: Iterable[Dispense]) -> dict[str, list[Dispense]]:
    """The dispenses of each lot."""
    grouped: dict[str, list[Dispense]] = {}
    for dispense in dispenses:
        grouped.setdefault(dispense.lot, []).append(dispense)
    return grouped
