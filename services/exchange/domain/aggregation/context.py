"""What a mask belongs to. A keystream is a function of all of it, so none is ever used twice."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from services.exchange.domain.aggregation.layout import Layout
from services.refusals import Malformed

#: With two sites the total reveals to each the numbers of the other.
MINIMUM_SITES = 3
HASH_BYTES = 32
_PURPOSE = b"pharmaloop secure aggregation 1"


def packed(*parts: bytes) -> bytes:
    """The parts with their lengths before them: no two lists of parts give the same bytes."""
    return b"".join(len(part).to_bytes(8, "big") + part for part in parts)


@dataclass(frozen=True, slots=True)
class Context:
    """One attempt at one round of a job.

    `participants` are site names in ascending order, three or more.
    `parameters` is the hash of what the job computes and of the parameters it
    stands at (`parameters_hash`), `cohort` that of everybody's cohort
    (`cohort_hash`). Rounds and attempts count from 1. Malformed when a rule is
    broken.
    """

    job: str
    round: int
    attempt: int
    participants: tuple[str, ...]
    parameters: bytes
    cohort: bytes
    layout: Layout

    def __post_init__(self) -> None:
        if not self.job:
            raise Malformed("NO_JOB", "a round belongs to a job: name it", "job")
        for name in ("round", "attempt"):
            if getattr(self, name) < 1:
                raise Malformed("BAD_COUNT", f"{name}s count from 1, this is {getattr(self, name)}", name)
        if list(self.participants) != sorted(set(self.participants)) or "" in self.participants:
            raise Malformed(
                "PARTICIPANTS_UNSORTED", "participants are site names, each once, in order", "participants"
            )
        if len(self.participants) < MINIMUM_SITES:
            raise Malformed(
                "TOO_FEW_SITES",
                f"{len(self.participants)} sites cannot hide one another's numbers: "
                f"a round needs at least {MINIMUM_SITES}",
                "participants",
            )
        for name in ("parameters", "cohort"):
            if len(getattr(self, name)) != HASH_BYTES:
                raise Malformed("NO_HASH", f"the hash of the {name} has {HASH_BYTES} bytes", name)
        self.layout.check_sites(len(self.participants))

    def encoded(self) -> bytes:
        """All of it as bytes: what keys are derived from and what is signed."""
        return _encoded(self)

    def digest(self) -> bytes:
        """SHA-256 of `encoded`."""
        return hashlib.sha256(self.encoded()).digest()

    def members(self) -> bytes:
        """Hash of who is summed: the participants and their cohort, whatever the round."""
        names = packed(*(site.encode() for site in self.participants))
        return hashlib.sha256(packed(names, self.cohort)).digest()


# Every key and signature of a round is of it.
@lru_cache(maxsize=8)
def _encoded(context: Context) -> bytes:
    return packed(
        _PURPOSE,
        context.job.encode(),
        context.round.to_bytes(8, "big"),
        context.attempt.to_bytes(8, "big"),
        packed(*(site.encode() for site in context.participants)),
        context.parameters,
        context.cohort,
        context.layout.digest(),
    )


def parameters_hash(specification: bytes, values: NDArray[np.float64]) -> bytes:
    """Hash of a job's specification and of the parameters (any shape) at which a round stands."""
    array = np.ascontiguousarray(values, dtype="<f8")
    shape = packed(*(length.to_bytes(8, "big") for length in array.shape))
    return hashlib.sha256(packed(b"parameters", specification, shape, array.tobytes())).digest()


def cohort_hash(commitments: Mapping[str, bytes]) -> bytes:
    """Hash of everybody's cohort, from each site's commitment to its own (32 bytes that name nobody)."""
    pairs = (packed(site.encode(), commitments[site]) for site in sorted(commitments))
    return hashlib.sha256(packed(b"cohort", *pairs)).digest()
