"""Who was exposed to which lot: the oracle that the platform is judged by.

A member of a lot is every dispense that some record says is, or may be, of
the lot or of anything made from it. A record that its source took back keeps
its dispense a member, as corrected; the right one is a member of its own lots.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from services.world.entities import Dispense, Material
from services.world.records import World

CERTAIN, POSSIBLE = "certain", "possible"
UNOPENED, OPENED, CORRECTED = "RETURNED_UNOPENED", "RETURNED", "CORRECTED"


@dataclass(frozen=True, slots=True)
class Exposure:
    """`certainty`: everything that the dispense may be of has the lot inside, or some of it only.
    `taken`: the person truly took some. Site and pseudonym are empty where nobody ever knew the person."""

    lot: str
    site: str
    pseudonym: str
    dispense: str
    certainty: str
    disposition: str
    taken: bool


def ancestors(materials: Iterable[Material]) -> Mapping[str, frozenset[str]]:
    """For each lot, itself and everything that is inside."""
    inputs: dict[str, set[str]] = {}
    for item in materials:
        inputs.setdefault(item.lot, set()).update(item.inputs)
    found: dict[str, frozenset[str]] = {}

    def climb(lot: str) -> frozenset[str]:
        if lot not in found:
            found[lot] = frozenset({lot}).union(*(climb(used) for used in inputs.get(lot, ())))
        return found[lot]

    for lot in inputs:
        climb(lot)
    return found


def said(world: World) -> Iterator[tuple[Dispense, str]]:
    """Every dispense that some record tells of, once, with what became of it."""
    came_back = {item.dispense.dispense: OPENED if item.opened else UNOPENED for item in world.returns()}
    for dispense in world.dispenses:
        yield dispense, came_back.get(dispense.dispense, "")
    wrong = {item.wrong.dispense: item.wrong for _, item in world.corrections()}
    for dispense in wrong.values():
        yield dispense, CORRECTED


def exposures(world: World) -> Iterator[Exposure]:
    """Every member of every lot."""
    inside = ancestors(world.materials)
    truly = {item.dispense: item.lot for item in world.opened}
    for dispense, disposition in said(world):
        sets = [inside[lot] for lot in dispense.lots]
        sure = frozenset.intersection(*sets)
        of = inside[truly.get(dispense.dispense, dispense.lot)]
        took = disposition not in (UNOPENED, CORRECTED)
        for lot in sorted(frozenset.union(*sets)):
            yield Exposure(
                lot=lot,
                site=dispense.site,
                pseudonym=dispense.pseudonym,
                dispense=dispense.dispense,
                certainty=CERTAIN if lot in sure else POSSIBLE,
                disposition=disposition,
                taken=took and lot in of,
            )
