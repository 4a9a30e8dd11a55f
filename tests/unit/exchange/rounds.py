"""Sites and a coordinator that play rounds in memory, from fixed secrets."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from services.exchange.domain.aggregation import coordinator, keys, site
from services.exchange.domain.aggregation.context import Context, cohort_hash, parameters_hash
from services.exchange.domain.aggregation.layout import Floats, Layout, Part
from services.exchange.domain.aggregation.messages import MaskedVector, Opening, SignedSet

SPECIFICATION = b"logistic, ridge 0.1"
NAMES = ("hospital-a", "hospital-b", "hospital-c", "hospital-d")


def fixed_secret(*words: str) -> bytes:
    """32 bytes that stand for random ones."""
    return hashlib.sha256("|".join(words).encode()).digest()


def public(identity: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(identity).public_key().public_bytes_raw()


@dataclass
class Site:
    """A site with what it has stored."""

    session: keys.Session
    memory: site.Memory = field(default_factory=site.Memory)

    def mask(self, context: Context, vector: Floats) -> MaskedVector:
        self.memory, made = site.mask(self.memory, self.session, context, vector)
        return made

    def open(self, signed: SignedSet) -> Opening:
        self.memory, made = site.opening(self.memory, self.session, signed)
        return made


@dataclass
class Job:
    """All sites of a job, with their identities."""

    sites: dict[str, Site]
    identities: dict[str, bytes]


def job(names: Sequence[str] = NAMES, name: str = "job-1") -> Job:
    identity = {one: fixed_secret("identity", one) for one in names}
    known = {one: public(identity[one]) for one in names}
    own = {one: keys.job_keys(fixed_secret("secret", name, one), name, one) for one in names}
    certificates = [keys.certify(own[one], identity[one]) for one in names]
    sites = {one: Site(keys.open_session(own[one], identity[one], certificates, known)) for one in names}
    return Job(sites, known)


def layout(size: int = 4, bound: float = 1e6, width: int = 64) -> Layout:
    return Layout((Part("gradient", size, bound),), width)


def context(
    names: Sequence[str] = NAMES,
    *,
    of: Layout | None = None,
    round_: int = 1,
    attempt: int = 1,
    at: float = 0.0,
    name: str = "job-1",
) -> Context:
    return Context(
        job=name,
        round=round_,
        attempt=attempt,
        participants=tuple(sorted(names)),
        parameters=parameters_hash(SPECIFICATION, np.array([at])),
        cohort=cohort_hash({one: fixed_secret("cohort", one) for one in names}),
        layout=of or layout(),
    )


def collected(job_: Job, at: Context, vectors: dict[str, Floats]) -> coordinator.Round:
    """The round when every participant has sent."""
    held = coordinator.Round(at)
    for name in at.participants:
        held, receipt = coordinator.collect(held, job_.sites[name].mask(at, vectors[name]), job_.identities)
        assert receipt is coordinator.Receipt.ACCEPTED
    return held


def opened(job_: Job, held: coordinator.Round) -> coordinator.Round:
    """The round when every participant has opened."""
    signed = coordinator.signed_set(held)
    for name in held.context.participants:
        held, receipt = coordinator.accept(held, job_.sites[name].open(signed))
        assert receipt is coordinator.Receipt.ACCEPTED
    return held


def played(job_: Job, at: Context, vectors: dict[str, Floats]) -> dict[str, Floats]:
    return coordinator.total(opened(job_, collected(job_, at, vectors)))


def vectors_of(names: Sequence[str], size: int = 4, seed: int = 1) -> dict[str, Floats]:
    random = np.random.default_rng(seed)
    return {name: random.normal(0, 100, size) for name in names}
