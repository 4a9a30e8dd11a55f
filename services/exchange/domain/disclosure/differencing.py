"""Cohorts that differ by a few patients: the difference of two totals would be those patients.

A site keeps, of every job it answered, the set of its members as digests under
a key that never leaves it. A new cohort is compared with each earlier one and
with each two of them: the men, the women, and all patients but one are three
cohorts that differ widely, and two of them with the third leave one patient.
Combinations of more than two earlier cohorts are not searched; the budget of
queries bounds them.

So it is with what a job knows of its members: over one cohort, two totals differ
by those whose value was corrected in between, or is another under a definition
that is nearly the same. Of each column the site keeps a short digest a member,
and a few that differ are refused like a few members.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from services.exchange.domain.disclosure.limits import Breach, Limits

Cohort = frozenset[bytes]
#: Bytes of a member's value in a column: two values have the same by chance once in 2^32.
TOKEN_BYTES = 4
Values = Sequence[tuple[str, bytes]]


def member_digest(key: bytes, pseudonym: str) -> bytes:
    """HMAC-SHA256 of a patient under the site's key for cohorts (32 bytes, kept at the site)."""
    return hmac.digest(key, b"cohort member|" + pseudonym.encode(), hashlib.sha256)


def cohort_of(key: bytes, pseudonyms: Iterable[str]) -> Cohort:
    return frozenset(member_digest(key, one) for one in pseudonyms)


def commitment(key: bytes, job: str, cohort: Cohort) -> bytes:
    """What a site tells of its cohort: 32 bytes that fix it and name nobody.

    Under the site's key and the job's name, so that nobody can try cohorts, and
    two jobs over one cohort do not look alike.
    """
    members = b"".join(sorted(cohort))
    return hmac.digest(
        key, b"cohort|" + len(job.encode()).to_bytes(8, "big") + job.encode() + members, hashlib.sha256
    )


def check_cohort(cohort: Cohort, earlier: Mapping[str, Cohort], limits: Limits) -> list[Breach]:
    """Breaches where the new cohort, with one or two earlier ones, singles out a few patients.

    `earlier` are the cohorts of jobs answered before, by job. Equal cohorts are
    fine: the second total adds nothing. At most one breach a job and one for
    pairs is given.
    """
    least = limits.minimum_difference
    breaches = [
        Breach(
            f"minimum difference {least}",
            "COHORT_TOO_CLOSE",
            f"the cohort differs by fewer than {least} patients from that of job {job!r}: "
            f"use that cohort, or one that differs by {least}",
            "cohort",
        )
        for job, members in sorted(earlier.items())
        if 0 < len(cohort ^ members) < least
    ]
    pair = _pair_that_isolates(cohort, earlier, least)
    if pair:
        breaches.append(
            Breach(
                f"minimum difference {least}",
                "COHORT_ISOLATES_FEW",
                f"with those of jobs {pair[0]!r} and {pair[1]!r} the cohort would single out fewer than "
                f"{least} patients: use an earlier cohort",
                "cohort",
            )
        )
    return breaches


def check_participants(
    participants: Iterable[str],
    cohort: Cohort,
    earlier: Mapping[str, tuple[frozenset[str], Cohort]],
    limits: Limits,
) -> list[Breach]:
    """Breaches where a job repeats an earlier one but for one or two sites: they would be singled out.

    `earlier` holds, by job whose totals were opened, its sites and this site's
    cohort in it. Where this site's own cohort has changed, by enough patients
    for `check_cohort` to pass, the difference is no longer that of the sites
    alone and nothing is said.
    """
    sites = frozenset(participants)
    return [
        Breach(
            f"site difference {limits.site_difference}",
            "SITES_TOO_CLOSE",
            f"over the same patients, job {job!r} differs only by {', '.join(sorted(sites ^ others))}: "
            "ask the same sites again, or wait for new patients",
            "participants",
        )
        for job, (others, members) in sorted(earlier.items())
        if members == cohort and 0 < len(sites ^ others) < limits.site_difference
    ]


def value_tokens(key: bytes, column: str, members: Sequence[bytes], values: NDArray[Any]) -> bytes:
    """Of each member's value in a column a digest under the site's key, `TOKEN_BYTES` each, in order."""
    told = b"cohort value|" + len(column.encode()).to_bytes(8, "big") + column.encode()
    found = values.astype(str).tolist() if values.dtype.kind in "OU" else values.astype(float).tolist()
    return b"".join(
        hmac.digest(key, told + member + repr(value).encode(), hashlib.sha256)[:TOKEN_BYTES]
        for member, value in zip(members, found, strict=True)
    )


def check_values(values: Values, earlier: Mapping[str, Values], limits: Limits) -> list[Breach]:
    """Breaches where a column that both use has other values of a few members than in an earlier job.

    `earlier` holds, by job answered before over the same members, its columns.
    """
    least, new = limits.minimum_difference, dict(values)
    breaches = []
    for job, before in sorted(earlier.items()):
        shared = [(new[name], old) for name, old in before if name in new]
        changed = np.zeros(len(shared[0][0]) // TOKEN_BYTES if shared else 0, dtype=bool)
        for one, other in shared:
            changed |= (_tokens(one) != _tokens(other)).any(axis=1)
        if 0 < np.count_nonzero(changed) < least:
            said = (
                f"over the patients of job {job!r}, what is asked is other for fewer than {least} of them: "
                "ask as that job did, or wait for new patients"
            )
            breaches.append(Breach(f"minimum difference {least}", "VALUES_TOO_CLOSE", said, "cohort"))
    return breaches


def _tokens(column: bytes) -> NDArray[np.uint8]:
    return np.frombuffer(column, dtype=np.uint8).reshape(-1, TOKEN_BYTES)


def _pair_that_isolates(cohort: Cohort, earlier: Mapping[str, Cohort], least: int) -> tuple[str, str] | None:
    """The first two jobs of which some sum or difference is the cohort but for a few patients."""
    jobs = sorted(earlier)
    members = sorted(cohort.union(*earlier.values()))
    new = _indicator(cohort, members)
    old = np.array([_indicator(earlier[job], members) for job in jobs]).reshape(len(jobs), len(members))
    for at, first in enumerate(jobs[:-1]):
        for sign in (1, -1):
            left = new - sign * old[at]
            for other in (left - old[at + 1 :], left + old[at + 1 :]):
                few = np.count_nonzero(other, axis=1)
                found = np.flatnonzero((few > 0) & (few < least))
                if len(found):
                    return first, jobs[at + 1 + int(found[0])]
    return None


def _indicator(cohort: Cohort, members: list[bytes]) -> NDArray[np.int8]:
    return np.fromiter((member in cohort for member in members), dtype=np.int8, count=len(members))
