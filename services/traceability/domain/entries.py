"""Entries of an exposure journal, and what of a dispense is new to it.

The journal is append-only. A dispense that names a patient of a registered
site enters as a member; one that does not, or whose sources contradict one
another, stands beside the members as unattributed until it is explained.
What an earlier sealed journal of the same root took is not taken again.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

from services.traceability.domain.dispense import Dispense

MEMBER = "MEMBER"
UNATTRIBUTED = "UNATTRIBUTED"


@dataclass(frozen=True)
class Entry:
    """One entry. `open` is False once an unattributed dispense found its patient."""

    run: str
    kind: str
    dispense: str
    lot: str
    site: str
    pseudonym: str
    at: str
    open: bool = True


class Held(NamedTuple):
    """What the journals hold of a dispense: the run's own, then the earlier ones of its root."""

    member: Entry | None
    unattributed: Entry | None
    earlier: tuple[Entry, ...]


class News(NamedTuple):
    """What of a dispense is new: a member, and one unattributed more (1) or less (-1)."""

    member: bool
    unattributed: int

    @property
    def grows(self) -> bool:
        """Does the journal lack something of it?"""
        return self.member or self.unattributed > 0


def entry_id(run: str, dispense: str, kind: str) -> str:
    return f"{run}|{dispense}|{kind}"


def _attributed(dispense: Dispense, sites: Collection[str]) -> bool:
    return bool(dispense.pseudonym) and dispense.site in sites


def _unexplained(dispense: Dispense, sites: Collection[str]) -> bool:
    return dispense.disputed or not _attributed(dispense, sites)


def kinds_asked(dispense: Dispense, sites: Collection[str], counted: bool) -> tuple[str, ...]:
    """The kinds of entries that decide what is new; `counted`: the journal holds unattributed ones."""
    member = _attributed(dispense, sites)
    return (MEMBER,) * member + (UNATTRIBUTED,) * (counted or _unexplained(dispense, sites))


def news_of(dispense: Dispense, sites: Collection[str], held: Held) -> News:
    """What of the dispense a run's journal has to take. `held` has at least the kinds asked for."""
    unexplained = _unexplained(dispense, sites)
    taken = {entry.kind for entry in held.earlier if entry.open}
    counted = held.unattributed is not None and held.unattributed.open
    change = 0
    if unexplained and not counted and UNATTRIBUTED not in taken:
        change = 1
    elif counted and not unexplained:
        change = -1
    member = _attributed(dispense, sites) and held.member is None and MEMBER not in taken
    return News(member, change)


def entry_of(run: str, kind: str, dispense: Dispense, lot: str) -> Entry:
    """The entry of a dispense in a run's journal."""
    return Entry(
        run=run,
        kind=kind,
        dispense=dispense.dispense,
        lot=lot,
        site=dispense.site,
        pseudonym=dispense.pseudonym,
        at=dispense.at,
    )
