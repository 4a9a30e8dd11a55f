"""A site's keys of one job, and the secrets it shares with every other participant.

A site draws 32 random bytes a job and keeps them sealed; everything else is
derived from them. When they are destroyed after the job, what was masked can no
longer be opened by anybody, its own site included.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from services.exchange.domain.aggregation.context import packed
from services.exchange.domain.aggregation.masks import KEY_BYTES, derived
from services.refusals import Absent, Malformed, Refusal


@dataclass(frozen=True, slots=True)
class JobKeys:
    """A site's keys of a job: raw X25519, and the secret its self-masks come from."""

    job: str
    site: str
    agreement: bytes = field(repr=False)
    own: bytes = field(repr=False)

    def public(self) -> bytes:
        """The X25519 public key, 32 bytes."""
        return X25519PrivateKey.from_private_bytes(self.agreement).public_key().public_bytes_raw()


@dataclass(frozen=True, slots=True)
class Certificate:
    """A site's public key of a job (32 bytes), signed by its Ed25519 identity key."""

    job: str
    site: str
    key: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Session:
    """What a site needs in every round of a job: a secret shared with each peer, and everybody's identity.

    Key agreement is done once a job, here; a round only derives keys.
    """

    keys: JobKeys
    identity: bytes = field(repr=False)
    shared: Mapping[str, bytes] = field(repr=False)
    identities: Mapping[str, bytes]


def job_keys(secret: bytes, job: str, site: str) -> JobKeys:
    """The keys of a site and job from 32 random bytes that were drawn for them alone."""
    if len(secret) != KEY_BYTES:
        raise Malformed("NO_SECRET", f"a job's secret has {KEY_BYTES} random bytes", "secret")
    names = (job.encode(), site.encode())
    return JobKeys(
        job=job,
        site=site,
        agreement=derived(secret, b"agreement", *names),
        own=derived(secret, b"own", *names),
    )


def certify(keys: JobKeys, identity: bytes) -> Certificate:
    """The public key of a job under the site's identity (Ed25519 private key, 32 raw bytes)."""
    public = keys.public()
    signature = Ed25519PrivateKey.from_private_bytes(identity).sign(_certified(keys.job, keys.site, public))
    return Certificate(job=keys.job, site=keys.site, key=public, signature=signature)


def open_session(
    keys: JobKeys, identity: bytes, certificates: Iterable[Certificate], identities: Mapping[str, bytes]
) -> Session:
    """Agree on a secret with every site of the job.

    `identities` are the Ed25519 public keys (32 raw bytes) that this site knows
    of its own accord, never those a coordinator sends: a coordinator that could
    name them could sit between any two sites. Refusal names the site whose
    certificate does not hold.
    """
    private = X25519PrivateKey.from_private_bytes(keys.agreement)
    shared = {}
    for certificate in certificates:
        if certificate.site == keys.site:
            continue
        check_certificate(certificate, keys.job, identities)
        try:
            shared[certificate.site] = private.exchange(X25519PublicKey.from_public_bytes(certificate.key))
        except ValueError:
            raise Refusal(
                "WEAK_KEY",
                f"the key of {certificate.site!r} is no usable X25519 key: a new one is needed",
                "key",
            ) from None
    return Session(keys=keys, identity=identity, shared=shared, identities=dict(identities))


def check_certificate(certificate: Certificate, job: str, identities: Mapping[str, bytes]) -> None:
    """Refuse a key of another job, of a site that is not known, or not signed by it."""
    site = certificate.site
    if certificate.job != job:
        raise Refusal("OTHER_JOB", f"the key of {site!r} belongs to job {certificate.job!r}", "job")
    signed = _certified(job, site, certificate.key)
    if not verified(identities, site, certificate.signature, signed):
        raise Refusal(
            "NOT_CERTIFIED", f"the key of {site!r} is not signed by its identity: do not use it", "signature"
        )


def confirmation(identity: bytes, job: str, site: str, cohort: bytes, nonce: bytes) -> bytes:
    """The site's signature that its cohort (the hash it froze, 32 bytes) still stands, as it is asked."""
    return Ed25519PrivateKey.from_private_bytes(identity).sign(_confirmed(job, site, cohort, nonce))


def check_confirmation(
    identities: Mapping[str, bytes], job: str, site: str, cohort: bytes, nonce: bytes, signature: bytes
) -> None:
    """Refuse a confirmation that the site did not sign: a withdrawal would be passed over."""
    if not verified(identities, site, signature, _confirmed(job, site, cohort, nonce)):
        said = f"{site!r} did not sign that its cohort still stands: only the site itself confirms it"
        raise Refusal("NOT_SIGNED", said, "signature")


def verified(identities: Mapping[str, bytes], site: str, signature: bytes, signed: bytes) -> bool:
    """Whether the site's identity signed the bytes; Absent when the site is not known."""
    if site not in identities:
        raise Absent(
            "UNKNOWN_SITE", f"no identity of {site!r} is known here: register the site first", "site"
        )
    try:
        Ed25519PublicKey.from_public_bytes(identities[site]).verify(signature, signed)
    except (InvalidSignature, ValueError):
        return False
    return True


def _confirmed(job: str, site: str, cohort: bytes, nonce: bytes) -> bytes:
    return packed(b"pharmaloop secure aggregation 1: confirm", job.encode(), site.encode(), cohort, nonce)


def _certified(job: str, site: str, key: bytes) -> bytes:
    return packed(b"pharmaloop secure aggregation 1: key", job.encode(), site.encode(), key)
