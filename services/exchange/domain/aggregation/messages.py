"""What leaves a site and what reaches it in a round. Nothing here holds an unmasked number."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field

from services.exchange.domain.aggregation.context import Context, packed
from services.exchange.domain.aggregation.keys import verified
from services.refusals import Refusal


@dataclass(frozen=True, slots=True)
class Statement:
    """A site's signature under a context, its masked vector and its self-mask.

    `vector` is the SHA-256 of the masked words, `seed` that of the self-mask's
    seed, so that neither can be exchanged afterwards.
    """

    site: str
    vector: bytes
    seed: bytes
    signature: bytes

    def signed(self, context: bytes) -> bytes:
        """The bytes that the site signs; `context` is a context's digest."""
        return statement_bytes(context, self.site, self.vector, self.seed)


@dataclass(frozen=True, slots=True)
class MaskedVector:
    """A site's update under its masks. `context` is the digest; words are little-endian, low limb first."""

    job: str
    round: int
    attempt: int
    context: bytes
    words: bytes = field(repr=False)
    statement: Statement

    @property
    def site(self) -> str:
        return self.statement.site


@dataclass(frozen=True, slots=True)
class SignedSet:
    """A context with the statement of every participant."""

    context: Context
    statements: Mapping[str, Statement]


@dataclass(frozen=True, slots=True)
class Opening:
    """The seed of a site's self-mask in a context (digest)."""

    context: bytes
    site: str
    seed: bytes = field(repr=False)


def statement_bytes(context: bytes, site: str, vector: bytes, seed: bytes) -> bytes:
    return packed(b"pharmaloop secure aggregation 1: statement", context, site.encode(), vector, seed)


def hashed(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def check_statement(statement: Statement, context: bytes, identities: Mapping[str, bytes]) -> None:
    """Refuse a statement that its site did not sign for this context."""
    if not verified(identities, statement.site, statement.signature, statement.signed(context)):
        raise Refusal(
            "NOT_SIGNED",
            f"{statement.site!r} did not sign this round, its participants and parameters",
            "signature",
        )
