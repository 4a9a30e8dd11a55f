"""How patients are followed up, and what their blood would show meanwhile.

Every person has values of their own, spread as among sound people; what faulty
material moves is moved by the factor that `effects` plants. A person has one
blood, whatever name they have at a hospital.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from services.kit.ids import product_of
from services.world.entities import DRYER, Blood, FollowUp, Tube
from services.world.names import Names, Product
from services.world.records import Harm
from services.world.sizes import Size
from services.world.worldgen.dispensing import Shelf
from services.world.worldgen.effects import EFFECTS
from services.world.worldgen.observations import USUAL
from services.world.worldgen.people import Person
from services.world.worldgen.vocabulary import ALT, CREATININE, CRP

#: Itching and fever, in the platform's vocabulary.
_ITCHING, _FEVER = "PL0101", "PL0601"


def follow_ups(size: Size, shelves: Mapping[str, Shelf]) -> tuple[FollowUp, ...]:
    """One for each product that is followed up, by its key: what the contract maker packs has its own."""
    found = {
        product_of(lot.lot): _asked(product_of(lot.lot), item.product, item.follow_up)
        for item in size.products
        if item.follow_up
        for lot in shelves[item.product.name].lots
    }
    return tuple(found[key] for key in sorted(found))


def _asked(key: str, product: Product, hours: int) -> FollowUp:
    if product.process == DRYER:
        return FollowUp(key, hours, _ITCHING, (ALT, CREATININE))
    return FollowUp(key, hours, _FEVER, (ALT, CRP))


def blood_of(people: Iterable[Person], harms: Iterable[Harm], names: Names) -> tuple[Blood, ...]:
    """Everybody's, under each name that they have."""
    kinds: dict[tuple[str, str], set[str]] = defaultdict(set)
    for harm in harms:
        kinds[harm.site, harm.pseudonym].add(harm.kind)
    found = [one for person in people for one in _of_person(person, kinds, names)]
    return tuple(sorted(found, key=lambda one: (one.site, one.pseudonym, one.code)))


def _of_person(person: Person, kinds: Mapping[tuple[str, str], set[str]], names: Names) -> Iterator[Blood]:
    called = [(stay.site, names.pseudonym(stay.site, person.key)) for stay in person.stays]
    harmed = set().union(*(kinds.get(name, ()) for name in called))
    draw = random.Random(names.draw("blood", person.key))
    for code, (middle, spread, unit) in sorted(USUAL.items()):
        usual = round(middle * draw.lognormvariate(0.0, spread), 2)
        factor = max((EFFECTS[kind].labs.get(code, 1.0) for kind in harmed), default=1.0)
        for site, pseudonym in called:
            yield Blood(site, pseudonym, code, unit, usual, factor, round(usual * factor, 2))


def tubes(blood: Iterable[Blood]) -> dict[str, tuple[Tube, ...]]:
    """What each hospital's laboratory would read."""
    found: dict[str, list[Tube]] = defaultdict(list)
    for one in blood:
        found[one.site].append(Tube(one.pseudonym, one.code, one.value, one.unit))
    return {site: tuple(read) for site, read in found.items()}
