"""What patients received, as packs: from the hospital's own records and from the journals of runs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from datetime import datetime

from services.clinical.domain.dispenses import Dispense, Member
from services.clinical.domain.evidence.person_time import Pack
from services.clinical.domain.lots import product_of

#: Where no amount is recorded. One that is recorded is taken as one unit a day.
SUPPLY_DAYS = 28.0
_LONGEST_DAYS = 3650.0


def by_patient(dispenses: Iterable[Dispense]) -> dict[str, tuple[Pack, ...]]:
    """Every pack by pseudonym; what nobody took of is left out."""
    found: dict[str, set[Pack]] = defaultdict(set)
    for dispense in dispenses:
        for pseudonym, pack in _packs(dispense):
            found[pseudonym].add(pack)
    return {name: tuple(sorted(packs, key=lambda p: (p.start, p.lot))) for name, packs in found.items()}


def _packs(dispense: Dispense) -> Iterator[tuple[str, Pack]]:
    """By each member of a journal, once a lot; else by the hospital's own record."""
    own, named = dispense.standing, set()
    for member in dispense.members:
        if member.entered and (member.pseudonym, member.lot) not in named:
            named.add((member.pseudonym, member.lot))
            if not member.void:
                yield member.pseudonym, of_member(dispense, member)
    if own is not None and (own.pseudonym, own.lot) not in named:
        yield own.pseudonym, _pack(own.lot, own.at, own.quantity)


def of_member(dispense: Dispense, member: Member) -> Pack:
    """The pack of a member: when and how much as the hospital itself says, where it does."""
    own = dispense.standing
    if own is not None and own.pseudonym == member.pseudonym:
        return _pack(member.lot, own.at, own.quantity)
    return _pack(member.lot, member.at, 0.0)


def _pack(lot: str, at: str, amount: float) -> Pack:
    days = min(amount, _LONGEST_DAYS) if amount > 0 else SUPPLY_DAYS
    return Pack(product_of(lot), lot, datetime.fromisoformat(at), days)
