"""The walk over the world's own material, used to plant and to judge.

It knows nothing of the platform's trace; the tests hold it against a third
walk, from the dispense upwards.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from services.world.entities import Material


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
