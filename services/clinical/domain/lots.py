"""A lot as the site meets it: how often its own records name it, and which runs list it."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Lot:
    """`own_records`: the site's own medication records of the lot; `runs`: those that list it;
    `product`: the lot's, which its siblings share."""

    lot: str
    own_records: int = 0
    runs: tuple[str, ...] = ()
    product: str = ""


def product_of(lot: str) -> str:
    """The product of a lot's canonical key; lots of one maker and item are siblings."""
    return lot.rpartition("/")[0]


def with_records(lot: Lot, change: int) -> Lot:
    """The site has one own record of the lot more, or took one back."""
    return replace(lot, own_records=lot.own_records + change, product=product_of(lot.lot))


def listed(lot: Lot, run: str) -> Lot:
    """A run listed the lot as implicated."""
    return replace(lot, runs=tuple(sorted({*lot.runs, run})))
