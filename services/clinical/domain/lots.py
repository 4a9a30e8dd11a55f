"""A lot as the site meets it: how often its own records name it, and which runs list it."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Lot:
    """`own_records`: the site's own medication records of the lot; `runs`: those that list it."""

    lot: str
    own_records: int = 0
    runs: tuple[str, ...] = ()


def recorded(lot: Lot) -> Lot:
    """The site recorded one more dispense of the lot."""
    return replace(lot, own_records=lot.own_records + 1)


def listed(lot: Lot, run: str) -> Lot:
    """A run listed the lot as implicated."""
    return replace(lot, runs=tuple(sorted({*lot.runs, run})))
