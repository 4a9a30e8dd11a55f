"""Names of the simulated industry: organisations, items, lots, pseudonyms.

A pseudonym and an order number come from a keyed hash, so that nothing that
is sent carries an identifier of a study or of a person.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

from services.kit.ids import KIT, lot_key, product_key
from services.world.entities import DRYER, FERMENTER

MAKER, OTHER_MAKER, CONTRACT_MAKER, DEVELOPER = "maker-1", "maker-2", "cmo-1", "maker-3"
#: Where the developer's medicine is made, and a plant that cannot make it.
TREATMENT_PLANT, WEAK_PLANT = "plant-3", "plant-4"
PLANTS = {DRYER: "plant-1", FERMENTER: "plant-2"}
OWNERS = {DRYER: MAKER, FERMENTER: OTHER_MAKER}
ITEMS = {DRYER: "granulate", FERMENTER: "penicillin"}
UNITS = {DRYER: ("G", 3), FERMENTER: ("F", 3)}
SITES = {"hospital-a": "Hospital A", "hospital-b": "Hospital B", "hospital-c": "Hospital C"}


def gtin14(first13: str) -> str:
    """A GTIN-14 with its check digit (GS1 General Specifications, section 7.9)."""
    if len(first13) != 13 or not first13.isdecimal():
        raise ValueError(f"{first13!r} is not 13 digits")
    total = sum(int(digit) * (3 if place % 2 == 0 else 1) for place, digit in enumerate(first13))
    return first13 + str(-total % 10)


@dataclass(frozen=True)
class Product:
    """A finished product: who makes it on which line, its GTIN, the first letter of its lots, what it
    is counted in, what a patient's record calls it, and the dose of the pilot study that it is."""

    name: str
    owner: str
    process: str
    gtin: str
    letter: str
    unit: str
    arm: str
    dose: int | None = None


PLACEBO = Product("placebo patch", MAKER, "", gtin14("0690123450001"), "P", "{patch}", "Placebo", dose=0)
LOW = Product(
    "patch 54 mg", MAKER, DRYER, gtin14("0690123450054"), "A", "{patch}", "Xanomeline Low Dose", dose=54
)
HIGH = Product(
    "patch 81 mg", MAKER, DRYER, gtin14("0690123450081"), "C", "{patch}", "Xanomeline High Dose", dose=81
)
PEN_250 = Product(
    "penicillin 250 mg", OTHER_MAKER, FERMENTER, gtin14("0690765430250"), "N", "{tablet}", "Penicillin 250 mg"
)
PEN_500 = Product(
    "penicillin 500 mg", OTHER_MAKER, FERMENTER, gtin14("0690765430500"), "M", "{tablet}", "Penicillin 500 mg"
)
#: An anticoagulant that moulds make: dicoumarol was found where they had spoilt sweet clover.
_TREATMENT_GTIN = gtin14("0690987650025")
#: Taken in the incident `silence` alone: a template holds for its product in every world on a platform.
RARE = Product("patch 27 mg", MAKER, DRYER, gtin14("0690123450027"), "D", "{patch}", "Xanomeline Lowest Dose")
PRODUCTS = {product.name: product for product in (PLACEBO, LOW, HIGH, PEN_250, PEN_500, RARE)}


@dataclass(frozen=True)
class Names:
    """The names of one world. Worlds of different series share no lot, model, equipment or person.

    The `shared` lot of the other maker bears a number that is also one of the maker's.
    """

    seed: int
    series: str = ""
    shared: int = 5

    def _numbered(self, letter: str, number: int) -> str:
        return f"{letter}-{self.series}-{number:04d}" if self.series else f"{letter}-{number:04d}"

    def product(self, process: str) -> str:
        """What a line makes: the golden run belongs to it."""
        return product_key(OWNERS[process], "item", self._item(ITEMS[process]))

    def equipment(self, process: str) -> tuple[str, ...]:
        _, count = UNITS[process]
        series = f"{self.series}-" if self.series else ""
        return tuple(f"{PLANTS[process]}/{process}-{series}{number + 1}" for number in range(count))

    def intermediate(self, process: str, number: int) -> str:
        item = self._item(ITEMS[process])
        return lot_key(OWNERS[process], "item", item, self._numbered(UNITS[process][0], number))

    def blend(self, number: int) -> str:
        return lot_key(MAKER, "item", "placebo-blend", self._numbered("B", number))

    def raw(self, owner: str, item: str, number: int) -> str:
        return lot_key(owner, "item", item, self._numbered("R", number))

    def finished(self, product: Product, number: int) -> str:
        """Two makers use one number, for lots of different things."""
        letter = LOW.letter if product is PEN_250 and number == self.shared else product.letter
        return lot_key(product.owner, "gtin", product.gtin, self._numbered(letter, number))

    def repacked(self, product: Product, number: int) -> str:
        """A lot of the contract maker: the same product, another owner and another number."""
        return lot_key(CONTRACT_MAKER, "gtin", product.gtin, self._numbered(f"K{product.letter}", number))

    def kit(self, number: int) -> str:
        """A kit of the study: neither its item nor its number tells what is inside."""
        return lot_key(MAKER, KIT, self._item("study-1"), self._numbered("K", number))

    def treatment(self) -> tuple[str, str, str]:
        """Plant, owner and product of the developer's medicine."""
        return TREATMENT_PLANT, DEVELOPER, product_key(DEVELOPER, "gtin", self._item(_TREATMENT_GTIN))

    def treatment_lot(self, number: int) -> str:
        return lot_key(DEVELOPER, "gtin", self._item(_TREATMENT_GTIN), self._numbered("W", number))

    def treatment_equipment(self) -> str:
        series = f"{self.series}-" if self.series else ""
        return f"{TREATMENT_PLANT}/fermenter-{series}1"

    def pseudonym(self, site: str, person: str) -> str:
        return f"P-{self._keyed(f'pseudonym/{site}', person)[:12]}"

    def order(self, person: str, sequence: int) -> str:
        return f"RX-{self._keyed('order', f'{person}/{sequence}')[:14]}"

    def record(self, kind: str, number: int) -> str:
        return self._numbered(kind, number)

    def draw(self, *purpose: object) -> str:
        """The seed of a random source with a purpose of its own."""
        return "/".join(map(str, (self.seed, self.series, *purpose)))

    def _item(self, item: str) -> str:
        return f"{item}-{self.series}" if self.series else item

    def _keyed(self, purpose: str, text: str) -> str:
        key = f"pharmaloop/world/{self.seed}/{self.series}/{purpose}".encode()
        return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
