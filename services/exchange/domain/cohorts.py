"""A site's cohorts: fixed for a job, named without telling anything, and not nearly equal to an earlier one.

The answers to two cohorts that differ by one patient are that patient's. So a
site computes with a cohort only if it is the same as each earlier one whose
sums it has opened, or differs from it by ten members or more; and it does not
compute the same over nearly the same sites, for the difference would be the
numbers of those that are missing.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from services.exchange.domain.errors import Refusal

#: Members by which a cohort must differ from an earlier one, if it differs at all.
LEAST_DIFFERENCE = 10
#: Sites by which the participants may not differ.
NEARLY_THE_SAME_SITES = 2


@dataclass(frozen=True)
class Cohort:
    """The cohort of a job at this site. `members` are names that only the site can make, sorted."""

    job: str
    study: str
    participants: tuple[str, ...]
    parameters: bytes
    members: tuple[bytes, ...]
    opened: bool = False


def commitment(key: bytes, job: str, members: Iterable[bytes]) -> bytes:
    """Names the cohort to others: HMAC-SHA256 under a key of the site, another in every job."""
    told = hmac.new(key, b"cohort|" + job.encode() + b"|", hashlib.sha256)
    for member in sorted(members):
        told.update(len(member).to_bytes(2, "big") + member)
    return told.digest()


def check_apart(cohort: Cohort, earlier: Sequence[Cohort]) -> None:
    """Refuses a cohort, or participants, whose answer would tell of a few by its difference from an earlier
    one."""
    members = set(cohort.members)
    for before in earlier:
        if not before.opened:
            continue
        differ = len(members.symmetric_difference(before.members))
        if 0 < differ < LEAST_DIFFERENCE:
            said = (
                f"the cohort differs from an earlier one by fewer than {LEAST_DIFFERENCE} patients: "
                "the difference of the two answers would tell of them; it waits until it differs by more"
            )
            raise Refusal("COHORT_TOO_CLOSE", said, "cohort")
        apart = len(set(cohort.participants).symmetric_difference(before.participants))
        same = not differ and before.parameters == cohort.parameters
        if same and 0 < apart <= NEARLY_THE_SAME_SITES:
            said = (
                "the same was computed over nearly the same sites: the difference of the two answers would "
                "be the numbers of the others; compute with the same sites, or when the cohort has changed"
            )
            raise Refusal("SITES_TOO_CLOSE", said, "participants")
