"""What a site stores of its jobs: the cohorts that it opened masks over, and its keys."""

from __future__ import annotations

from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from services.exchange.domain.cohorts import Cohort
from services.kit.sealing import KeyProvider
from services.kit.store.kinds import Get, Kind, Plan, Write
from services.kit.store.protocol import AsyncStore, AsyncTransaction

COHORTS: Kind[Cohort] = Kind("cohort", Cohort, ("opened",))


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
    """The cohorts that the site has opened masks over."""

    def __init__(self, store: AsyncStore) -> None:
        self._store = store

    async def opened(self) -> list[Cohort]:
        return [item.state for item in await self._store.where(COHORTS, "opened", True)]

    async def keep(self, cohort: Cohort) -> None:
        """Store a cohort; before a mask over it is opened, so that no restart forgets it."""

        async def work(txn: AsyncTransaction) -> None:
            read = Get(COHORTS, cohort.job)
            found = (await txn.load([read]))[read]
            base = found[0].version if found else 0
            await txn.write(Plan((Write(COHORTS, cohort.job, base, base + 1, cohort),), ()))

        await self._store.transact(work)
