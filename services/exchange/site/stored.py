"""What a site stores of its jobs: the cohorts that it opened masks over, and its keys."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, TypeVar

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from services.exchange.domain.aggregation.context import packed
from services.exchange.domain.cohorts import Cohort
from services.kit.sealing import KeyProvider
from services.kit.store.kinds import Get, Kind, Plan, Stored, Write
from services.kit.store.protocol import AsyncStore, AsyncTransaction

S = TypeVar("S")


@dataclass(frozen=True)
class Opened:
    """A cohort that a mask was opened over; `members` and `values` name what is stored beside it, once for
    all the jobs that have the same."""

    cohort: Cohort
    members: str
    values: str
    opened: bool = True


@dataclass(frozen=True)
class Members:
    """Digests of the patients of a cohort."""

    members: tuple[bytes, ...]


@dataclass(frozen=True)
class Values:
    """Tokens of what jobs used of a cohort."""

    values: tuple[tuple[str, bytes], ...]


OPENED: Kind[Opened] = Kind("opened_cohort", Opened, ("opened",))
MEMBERS: Kind[Members] = Kind("cohort_members", Members)
VALUES: Kind[Values] = Kind("cohort_values", Values)
COHORTS: tuple[Kind[Any], ...] = (OPENED, MEMBERS, VALUES)


@dataclass(frozen=True)
class SiteKeys:
    """The site's own keys: `identity` signs (Ed25519), `sealed` opens what is sealed to the site (X25519),
    `cohort` names cohorts. 32 bytes each."""

    identity: bytes
    sealed: bytes
    cohort: bytes

    @property
    def signing_key(self) -> bytes:
        return Ed25519PrivateKey.from_private_bytes(self.identity).public_key().public_bytes_raw()

    @property
    def mask_key(self) -> bytes:
        return X25519PrivateKey.from_private_bytes(self.sealed).public_key().public_bytes_raw()


def site_keys(keys: KeyProvider, site: str) -> SiteKeys:
    """The keys of a site; made with its first start."""
    return SiteKeys(*(keys.make(f"exchange/{site}/{name}") for name in ("identity", "sealed", "cohort")))


class Cohorts:
    """The cohorts that the site has opened masks over.

    Of every job a row is read each time, for another process of the site may have added one. What is large
    in it has its hash for a name and so never changes: it is read once, and held once for all jobs.
    """

    def __init__(self, store: AsyncStore) -> None:
        self._store = store
        self._members: dict[str, tuple[bytes, ...]] = {}
        self._values: dict[str, tuple[tuple[str, bytes], ...]] = {}

    async def opened(self) -> list[Cohort]:
        rows = [item.state for item in await self._store.where(OPENED, "opened", True)]
        for held in await self._missing(MEMBERS, self._members, [row.members for row in rows]):
            self._members[held.id] = held.state.members
        for told in await self._missing(VALUES, self._values, [row.values for row in rows]):
            self._values[told.id] = told.state.values
        return [
            replace(row.cohort, members=self._members[row.members], values=self._values[row.values])
            for row in rows
        ]

    async def _missing(
        self, kind: Kind[S], held: Mapping[str, object], names: Iterable[str]
    ) -> list[Stored[S]]:
        missing = {name for name in names if name not in held}
        return await self._store.among(kind, "_id", missing) if missing else []

    async def keep(self, cohort: Cohort) -> None:
        """Store a cohort; before a mask over it is opened, so that no restart forgets it."""
        members, values = Members(cohort.members), Values(cohort.values)
        names = _name(cohort.members), _name(token for pair in cohort.values for token in pair)
        row = Opened(replace(cohort, members=(), values=()), *names)
        puts: list[tuple[Kind[Any], str, Any]] = [
            (OPENED, cohort.job, row),
            (MEMBERS, names[0], members),
            (VALUES, names[1], values),
        ]

        async def work(txn: AsyncTransaction) -> None:
            reads = [Get(kind, id) for kind, id, _ in puts]
            found = await txn.load(reads)
            writes = []
            for read, (kind, id, state) in zip(reads, puts, strict=True):
                base = found[read][0].version if found[read] else 0
                if kind is OPENED or not base:
                    writes.append(Write(kind, id, base, base + 1, state))
            await txn.write(Plan(tuple(writes), ()))

        await self._store.transact(work)


def _name(parts: Iterable[str | bytes]) -> str:
    told = (part.encode() if isinstance(part, str) else part for part in parts)
    return sha256(packed(*told)).hexdigest()
