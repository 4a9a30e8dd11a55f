"""Names of the simulated industry: organisations, items, lots, pseudonyms.

A pseudonym and an order number come from a keyed hash, so that nothing that
is sent carries an identifier of the study.
"""

from __future__ import annotations

import hashlib
import hmac

from services.kit.ids import lot_key, product_key

MAKER = "maker-1"
PLANT = "plant-1"
SITE = "hospital-a"
EQUIPMENT = tuple(f"{PLANT}/dryer-{number}" for number in (1, 2, 3))
PLACEBO, LOW, HIGH = 0, 54, 81


def gtin14(first13: str) -> str:
    """A GTIN-14 with its check digit (GS1 General Specifications, section 7.9)."""
    if len(first13) != 13 or not first13.isdecimal():
        raise ValueError(f"{first13!r} is not 13 digits")
    total = sum(int(digit) * (3 if place % 2 == 0 else 1) for place, digit in enumerate(first13))
    return first13 + str(-total % 10)


#: Finished products by dose in milligrams: GTIN, and the first letter of their lots.
FINISHED: dict[int, tuple[str, str]] = {
    PLACEBO: (gtin14("0690123450001"), "P"),
    LOW: (gtin14("0690123450054"), "A"),
    HIGH: (gtin14("0690123450081"), "C"),
}
GRANULATE = product_key(MAKER, "item", "granulate")


def finished_lot(dose: int, number: int) -> str:
    gtin, letter = FINISHED[dose]
    return lot_key(MAKER, "gtin", gtin, f"{letter}-{number:04d}")


def granulate_lot(number: int) -> str:
    return lot_key(MAKER, "item", "granulate", f"G-{number:04d}")


def blend_lot(number: int) -> str:
    return lot_key(MAKER, "item", "placebo-blend", f"B-{number:04d}")


def raw_lot(item: str, number: int) -> str:
    return lot_key(MAKER, "item", item, f"R-{number:04d}")


def _keyed(seed: int, purpose: str, text: str) -> str:
    key = f"pharmaloop/world/{seed}/{purpose}".encode()
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def pseudonym(seed: int, subject: str) -> str:
    return f"P-{_keyed(seed, 'pseudonym', subject)[:12]}"


def order_number(seed: int, subject: str, sequence: int) -> str:
    return f"RX-{_keyed(seed, 'order', f'{subject}/{sequence}')[:14]}"
