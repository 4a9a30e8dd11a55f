"""What a run compares at one site, whichever kind of outcome is counted.

Exposed to a lot is who received it. Exposed to the *root* of a run is who
received anything made from it: there every lot of the run is called by the
root's name. Tables are kept apart by a group of patients who are compared with
one another, and added over the groups.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from services.clinical.domain.evidence import mantel_haenszel
from services.clinical.domain.evidence.cohort import Comparison
from services.clinical.domain.evidence.mantel_haenszel import Sums
from services.clinical.domain.evidence.person_time import Pack
from services.clinical.domain.evidence.tables import Cells, K, Table

#: A lot keeps a patient's time so long after its supply ends: lots are in use for up to 17 months
#: (Pharmacoepidemiol Drug Saf 2005;14:671).
WINDOW = timedelta(days=540)


@dataclass(frozen=True)
class Study:
    """A run at one site. `implicated`: its lots; dispensed in the period from `begin` up to `end`."""

    site: str
    root: str
    implicated: frozenset[str]
    begin: datetime
    end: datetime

    def comparison(self, kind: K, lot: str, product: str, way: str) -> Comparison[K]:
        """Of one lot; of the whole run for its root. `way`: the name of the way in which both arms are
        followed."""
        return Comparison(
            kind=kind,
            site=self.site,
            product=product,
            lot=lot,
            implicated=self.implicated | {self.root},
            begin=self.begin,
            end=self.end,
            follow_up=way,
            window=WINDOW,
        )

    def within(self, moment: datetime) -> bool:
        """Is the moment in the period?"""
        return self.begin <= moment < self.end

    def first(self, packs: Iterable[Pack], lots: Collection[str]) -> datetime | None:
        """When the first pack of these lots was begun in the period; None where none was."""
        return min(
            (pack.start for pack in packs if pack.lot in lots and self.within(pack.start)), default=None
        )

    def named_for(self, lot: str, packs: Iterable[Pack]) -> tuple[Pack, ...]:
        """The packs as the comparison of the lot names them."""
        if lot != self.root:
            return tuple(packs)
        return tuple(replace(p, lot=self.root) if p.lot in self.implicated else p for p in packs)


def sums(kind: K, tables: Mapping[Any, Table[K]]) -> Sums[K]:
    """Over all strata of all groups."""
    total = Sums(kind)
    for _, table in sorted(tables.items()):
        total += mantel_haenszel.sums(table)
    return total


def totals(tables: Mapping[Any, Table[K]]) -> Cells:
    """Over all strata of all groups."""
    total = Cells(0, 0, 0, 0)
    for table in tables.values():
        for cells in table.strata.values():
            total += cells
    return total
