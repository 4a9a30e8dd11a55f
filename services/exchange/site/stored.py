"""What a site stores of its jobs: the cohorts that it opened masks over, and its keys."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from services.exchange.domain.cohorts import Cohort
from services.kit.sealing import KeyProvider
from services.kit.store.kinds import Get, Kind, Plan, Write
from services.kit.store.protocol import AsyncStore, AsyncTransaction


@dataclass(frozen=True)
class Opened:
    """A cohort that a mask was opened over; `members`, and each column of `values`, name what is stored
    beside it, once for all the jobs that have the same."""

    cohort: Cohort
    members: str
    values: tuple[tuple[str, str], ...]
    opened: bool = True


@dataclass(frozen=True)
class Digests:
    """Digests of patients or of their values, one behind the other."""

    digests: bytes


OPENED: Kind[Opened] = Kind("opened_cohort", Opened, ("opened",))
MEMBERS: Kind[Digests] = Kind("cohort_members", Digests)
VALUES: Kind[Digests] = Kind("cohort_values", Digests)
COHORTS: tuple[Kind[Any], ...] = (OPENED, MEMBERS, VALUES)
_DIGEST_BYTES = 32
#: A document of the database holds so many patients, and some more.
MOST_MEMBERS = 400_000


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
        self._values: dict[str, bytes] = {}

    async def opened(self) -> list[Cohort]:
        rows = [item.state for item in await self._store.where(OPENED, "opened", True)]
        for name, digests in await self._missing(MEMBERS, self._members, (row.members for row in rows)):
            ends = range(0, len(digests), _DIGEST_BYTES)
            self._members[name] = tuple(digests[at : at + _DIGEST_BYTES] for at in ends)
        named = (name for row in rows for _, name in row.values)
        self._values.update(await self._missing(VALUES, self._values, named))
        return [
            replace(
                row.cohort,
                members=self._members[row.members],
                values=tuple((column, self._values[name]) for column, name in row.values),
            )
            for row in rows
        ]

    async def _missing(
        self, kind: Kind[Digests], held: Mapping[str, object], names: Iterable[str]
    ) -> list[tuple[str, bytes]]:
        missing = {name for name in names if name not in held}
        found = await self._store.among(kind, "_id", missing) if missing else []
        return [(one.id, one.state.digests) for one in found]

    async def keep(self, cohort: Cohort) -> None:
        """Store a cohort; before a mask over it is opened, so that no restart forgets it."""
        members = Digests(b"".join(cohort.members))
        columns = {name: Digests(tokens) for name, tokens in cohort.values}
        named = tuple((column, _name(digests)) for column, digests in columns.items())
        row = Opened(replace(cohort, members=(), values=()), _name(members), named)
        puts: dict[Get, Any] = {
            Get(OPENED, cohort.job): row,
            Get(MEMBERS, row.members): members,
            **{Get(VALUES, name): columns[column] for column, name in named},
        }

        async def work(txn: AsyncTransaction) -> None:
            found = await txn.load(puts)
            writes = []
            for read, state in puts.items():
                base = found[read][0].version if found[read] else 0
                if read.kind is OPENED or not base:
                    writes.append(Write(read.kind, read.id, base, base + 1, state))
            await txn.write(Plan(tuple(writes), ()))

        await self._store.transact(work)


def _name(digests: Digests) -> str:
    return sha256(digests.digests).hexdigest()
