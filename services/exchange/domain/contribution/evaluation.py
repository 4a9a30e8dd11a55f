"""Who fits which coalitions, and what of it is told.

    exchange        agreed(owners, consents) -> Evaluation, or NotValued
    evaluator       for each coalition not yet valued: asks its sites at given parameters
    site            sealed(vector, ...) to the evaluator's public key
    evaluator       opened(...) -> the vectors; their sum drives the job's own model;
                    valued(evaluation, coalition, utility on test patients)
    evaluator       told(evaluation) -> rounded values, all that leaves it
    exchange        shapley.exact(evaluation.owners, told(...)), shapley.shares(...)

The evaluator is an organisation of its own, not the coordinator and not a
site. Sealing and opening are passed in (HPKE, RFC 9180): this package holds no
keys. A coalition is fitted once, so a job costs 2^n - 1 fits and no more; what
was valued is answered from memory.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from services.exchange.domain.contribution.shapley import MOST_SITES, NOBODY, Coalition, coalitions
from services.refusals import Absent, Malformed, Refusal

Floats = NDArray[np.float64]

#: (plain, info, aad) -> sealed, under the evaluator's public key.
Seal = Callable[[bytes, bytes, bytes], bytes]
#: (sealed, info, aad) -> plain, under the evaluator's private key.
Open = Callable[[bytes, bytes, bytes], bytes]

_INFO = b"pharmaloop contribution 1"
_SIGNED = b"pharmaloop contribution signed 1"
_FEWEST = 2


class Utility(Enum):
    """What a model is worth, bounded: an unbounded one lets one bad fit of a small site decide everything."""

    AUC = "auc"
    CONCORDANCE = "concordance"
    #: Accuracy less that of always saying the commonest class.
    ACCURACY_OVER_MAJORITY = "accuracy over majority"
    #: The share of the deviance that is explained (`explained`): what sums alone can tell.
    EXPLAINED = "explained"

    @property
    def nobody(self) -> float:
        """v(nobody): the worth of no model at all."""
        return 0.5 if self in (Utility.AUC, Utility.CONCORDANCE) else 0.0

    @property
    def bounds(self) -> tuple[float, float]:
        return (-1.0, 1.0) if self is Utility.ACCURACY_OVER_MAJORITY else (0.0, 1.0)


@dataclass(frozen=True, slots=True)
class NotValued:
    """The job has no contribution values, and why."""

    reason: str
    description: str
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A job's valuation: owners in order, digits to which values are told, and what was fitted.

    `begun` are the coalitions whose fit was started, `values` the finished ones.
    """

    job: str
    owners: tuple[str, ...]
    evaluator: str
    utility: Utility
    digits: int = 3
    begun: frozenset[Coalition] = frozenset()
    values: Mapping[Coalition, float] = field(default_factory=dict)

    @property
    def budget(self) -> int:
        """Fits that the job may cost in all."""
        return (1 << len(self.owners)) - 1

    @property
    def unit(self) -> Fraction:
        """The last digit that is told: values closer than this are a tie."""
        return Fraction(1, 10**self.digits)

    def remaining(self) -> list[Coalition]:
        """The coalitions still to be valued, small ones first."""
        return [one for one in coalitions(self.owners) if one not in self.values]


def agreed(
    job: str,
    owners: Iterable[str],
    consents: Iterable[str],
    evaluator: str,
    coordinator: str,
    utility: Utility,
    digits: int = 3,
) -> Evaluation | NotValued:
    """The valuation of a job when every owner of its data consents; else that it is not valued.

    Malformed when the evaluator is the coordinator or one of the owners: it
    would see others' statistics under a promise to see none.
    """
    names = tuple(sorted(set(owners)))
    if evaluator in {*names, coordinator} or not evaluator:
        raise Malformed(
            "EVALUATOR_NOT_APART",
            "the evaluator is an organisation of its own, neither the coordinator nor an owner: name another",
            "evaluator",
        )
    if not _FEWEST <= len(names) <= MOST_SITES:
        return NotValued(
            "NUMBER_OF_SITES", f"values are given for {_FEWEST} to {MOST_SITES} owners, not {len(names)}", ()
        )
    if not 1 <= digits <= 6:
        raise Malformed("BAD_DIGITS", f"values are told with 1 to 6 digits, not {digits}", "digits")
    missing = tuple(sorted(set(names) - set(consents)))
    if missing:
        return NotValued(
            "NOT_ALL_CONSENT",
            f"not valued: a coalition's value tells of its sites, and {', '.join(missing)} did not consent",
            missing,
        )
    return Evaluation(job=job, owners=names, evaluator=evaluator, utility=utility, digits=digits)


def begin(evaluation: Evaluation, coalition: Iterable[str]) -> Evaluation:
    """Start, or resume, the fit of a coalition; Refusal when it has its value already.

    A second fit could be asked at other parameters and give away more.
    """
    members = _members(evaluation, coalition)
    if members in evaluation.values:
        raise Refusal(
            "FIT_SPENT",
            f"{_said(members)} was valued: each coalition is fitted once, use that value",
            "coalition",
        )
    return replace(evaluation, begun=evaluation.begun | {members})


def bound(job: str, coalition: Iterable[str], round_: int, site: str) -> bytes:
    """What a sealed ask belongs to, as a sealed vector does: it opens for this site and round alone."""
    return _bound(job, frozenset(coalition), round_, site)


def sealed(vector: Floats, job: str, coalition: Iterable[str], round_: int, site: str, seal: Seal) -> bytes:
    """A site's statistics of one round of a coalition's fit, for the evaluator alone."""
    plain = np.ascontiguousarray(vector, dtype="<f8").tobytes()
    return seal(plain, _INFO, _bound(job, frozenset(coalition), round_, site))


def statement(job: str, coalition: Iterable[str], round_: int, site: str, sealed_: bytes) -> bytes:
    """What a site signs under its sealed statistics: sealing alone does not say who sealed."""
    return _SIGNED + _bound(job, frozenset(coalition), round_, site) + hashlib.sha256(sealed_).digest()


def opened(
    evaluation: Evaluation,
    coalition: Iterable[str],
    round_: int,
    received: Mapping[str, bytes],
    open_: Open,
    *,
    everybody: bool = False,
) -> dict[str, Floats]:
    """The statistics of exactly the coalition's sites in one round of its fit, or of all owners
    (`everybody`) where its estimate is measured.

    Whatever was sealed for another job, coalition, round or site does not open.
    """
    members = _members(evaluation, coalition)
    if members not in evaluation.begun or members in evaluation.values:
        raise Refusal("NOT_BEGUN", f"no fit of {_said(members)} is under way: begin it first", "coalition")
    asked = frozenset(evaluation.owners) if everybody else members
    if set(received) != asked:
        raise Refusal("WRONG_SITES", f"{_said(asked)} were asked, not {_said(received)}", "coalition")
    vectors = {
        site: _vector(open_(received[site], _INFO, _bound(evaluation.job, members, round_, site)), site)
        for site in sorted(asked)
    }
    if len({len(vector) for vector in vectors.values()}) > 1:
        raise Malformed(
            "WRONG_LENGTH", "the sites sent vectors of unequal length: they fit other models", "vector"
        )
    return vectors


def valued(evaluation: Evaluation, coalition: Iterable[str], utility: float) -> Evaluation:
    """The valuation with one coalition's utility, rounded as it will be told.

    A fit that fails (separable, singular) is worth what no model is worth: pass
    `evaluation.utility.nobody`.
    """
    members = _members(evaluation, coalition)
    if members in evaluation.values or members not in evaluation.begun:
        raise Refusal("NOT_BEGUN", f"no fit of {_said(members)} is under way: begin it first", "coalition")
    least, most = evaluation.utility.bounds
    if not (math.isfinite(utility) and least <= utility <= most):
        raise Malformed(
            "UNBOUNDED",
            f"a utility of this kind lies between {least:g} and {most:g}, not {utility}",
            "utility",
        )
    return replace(evaluation, values={**evaluation.values, members: round(utility, evaluation.digits)})


def told(evaluation: Evaluation) -> dict[Coalition, float]:
    """All that leaves the evaluator: the rounded value of each coalition and of nobody."""
    missing = evaluation.remaining()
    if missing:
        raise Refusal(
            "NOT_COMPLETE", f"{len(missing)} of {evaluation.budget} coalitions have no value yet", "values"
        )
    return {NOBODY: evaluation.utility.nobody, **evaluation.values}


def auc(scores: Floats, outcomes: NDArray[np.bool_]) -> float:
    """Area under the ROC curve; a tie counts one half (Mann and Whitney). 0.5 with one class alone."""
    positives, negatives = int(outcomes.sum()), int((~outcomes).sum())
    if not positives or not negatives:
        return Utility.AUC.nobody
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    middle = np.cumsum(counts) - (counts - 1) / 2
    ranks = float(middle[place][outcomes].sum())
    return (ranks - positives * (positives + 1) / 2) / (positives * negatives)


def accuracy_over_majority(predicted: NDArray[np.bool_], outcomes: NDArray[np.bool_]) -> float:
    """Accuracy less that of always saying the commoner class, from -1 to 1/2."""
    share = float(outcomes.mean())
    return float((predicted == outcomes).mean()) - max(share, 1 - share)


def _members(evaluation: Evaluation, coalition: Iterable[str]) -> Coalition:
    members = frozenset(coalition)
    strangers = members - set(evaluation.owners)
    if strangers:
        raise Absent("NOT_AN_OWNER", f"{_said(strangers)} takes no part in this valuation", "coalition")
    if not members:
        raise Malformed("NOBODY", "the value of nobody is defined, not fitted", "coalition")
    return members


def _vector(plain: bytes, site: str) -> Floats:
    vector = np.frombuffer(plain, dtype="<f8") if len(plain) % 8 == 0 else np.array([np.nan])
    if not np.isfinite(vector).all():
        raise Malformed("NOT_A_VECTOR", f"{site!r} sealed something else than finite numbers", "vector")
    return vector.astype(np.float64)


def _bound(job: str, members: Coalition, round_: int, site: str) -> bytes:
    parts = (job, str(round_), site, *sorted(members))
    return b"".join(len(part.encode()).to_bytes(8, "big") + part.encode() for part in parts)


def _said(sites: Iterable[str]) -> str:
    return ", ".join(sorted(sites)) or "nobody"
