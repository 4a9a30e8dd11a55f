"""A cohort as columns of numbers, in an order that tells nothing of its members."""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256

from services.clinical.domain.cohort.members import Member, Outside

_PURPOSE = "cohort-member"


@dataclass(frozen=True)
class Cohort:
    """The members of a site: `names` of the columns, `rows` a row of numbers for each, and in the same order
    `lots` and `members`, names that only the site can make. The counts are of whom the study asks for."""

    names: tuple[str, ...]
    rows: tuple[tuple[float, ...], ...]
    lots: tuple[str, ...]
    members: tuple[bytes, ...]
    without_consent: int
    incomplete: int

    @property
    def eligible(self) -> int:
        return len(self.rows) + self.without_consent + self.incomplete


def name_of(key: bytes, pseudonym: str) -> bytes:
    """A name of the member that only the holder of the key can make: HMAC-SHA256 (RFC 2104), 32 bytes."""
    return hmac.new(key, f"{_PURPOSE}|{pseudonym}".encode(), sha256).digest()


def cohort(key: bytes, found: Iterable[Member | Outside]) -> Cohort:
    """The cohort of whom was found; in the order of the members' names."""
    members, without, incomplete = [], 0, 0
    for one in found:
        if isinstance(one, Member):
            members.append((name_of(key, one.pseudonym), one))
        elif one == "no consent":
            without += 1
        elif one == "incomplete":
            incomplete += 1
    members.sort(key=lambda pair: pair[0])
    names: Sequence[str] = tuple(members[0][1].numbers) if members else ()
    return Cohort(
        names=tuple(names),
        rows=tuple(tuple(one.numbers[name] for name in names) for _, one in members),
        lots=tuple(one.lot for _, one in members),
        members=tuple(name for name, _ in members),
        without_consent=without,
        incomplete=incomplete,
    )
