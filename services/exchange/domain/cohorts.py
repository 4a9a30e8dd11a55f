"""The cohort of a job at its site, and what a site refuses to compute with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from services.exchange.domain.disclosure import budget, cells, differencing
from services.exchange.domain.disclosure.budget import Query, Spent
from services.exchange.domain.disclosure.limits import Breach, Limits
from services.exchange.domain.errors import Refusal
from services.exchange.domain.stats.protocol import Spec, Vector


@dataclass(frozen=True)
class Cohort:
    """The cohort of a job at this site. `members` are digests that only the site can make; `opened` says
    whether the site has opened a mask over them, and then `participants` are those that were summed.
    `analyst` asked the study of `dataset`; `rounds` are those the job opened or holds, `epsilon` is what its
    noise costs, 0 without."""

    job: str
    study: str
    participants: tuple[str, ...]
    parameters: bytes
    members: tuple[bytes, ...]
    opened: bool = False
    analyst: str = ""
    dataset: str = ""
    rounds: int = 0
    epsilon: float = 0.0


def breaches(
    cohort: Cohort, earlier: Sequence[Cohort], table: Mapping[str, Vector], spec: Spec, limits: Limits
) -> list[Breach]:
    """Every rule for which the site does not compute with this cohort; empty where it may.

    `earlier` are the site's cohorts, `table` the columns of numbers, `spec` the
    canonical specification of the model.
    """
    used = {name: values for name, values in table.items() if name in _columns(spec)}
    return [
        *cells.check_subset(len(cohort.members), limits),
        *_check_model(_parameters(spec), len(cohort.members), limits),
        *cells.check_design(used, limits),
        *differences(cohort, earlier, limits),
    ]


def differences(cohort: Cohort, earlier: Sequence[Cohort], limits: Limits) -> list[Breach]:
    """The rules for which a sum over the cohort and its participants may not stand beside earlier ones."""
    opened = [before for before in earlier if before.opened]
    members = frozenset(cohort.members)
    sets = {before.job: frozenset(before.members) for before in opened}
    # One job for each cohort is enough: jobs that repeat one would be compared in pairs for nothing.
    distinct = {held: job for job, held in sorted(sets.items(), reverse=True)}
    known = {job: held for held, job in distinct.items()}
    # Whatever was computed: counts and sums of the columns are part of nearly every model.
    same = {before.job: (frozenset(before.participants), sets[before.job]) for before in opened}
    return [
        *differencing.check_cohort(members, known, limits),
        *differencing.check_participants(cohort.participants, members, same, limits),
    ]


def check_repeats(job: str, earlier: Sequence[Cohort]) -> None:
    """Refusal for a job that sums were opened in before.

    A job that could be frozen anew would begin with no memory of what it opened, and its cohort would
    take the place of the one that was stored.
    """
    if any(before.job == job and before.opened for before in earlier):
        said = "this site has opened masks in this job already: open a new job"
        raise Refusal("JOB_REPEATED", said, "job")


def spent(cohort: Cohort, earlier: Sequence[Cohort]) -> Spent:
    """What the cohort's analyst has asked of its dataset in other jobs, by the cohorts that were opened."""
    return budget.spent(
        Query(before.rounds, before.epsilon)
        for before in earlier
        if before.opened
        and before.job != cohort.job
        and (before.analyst, before.dataset) == (cohort.analyst, cohort.dataset)
    )


def _check_model(parameters: int, patients: int, limits: Limits) -> list[Breach]:
    """The rule without its number: what the patients allow tells how many they are."""
    said = "the model has too many parameters for the patients here: leave variables out or join levels"
    return [replace(breach, description=said) for breach in cells.check_model(parameters, patients, limits)]


def _columns(spec: Spec) -> set[str]:
    """Every column that the specification names."""
    found: set[str] = set()

    def walk(value: object) -> None:
        if isinstance(value, Mapping):
            found.update(one for key, one in value.items() if key in _NAMES and isinstance(one, str))
            for one in value.values():
                walk(one)
        elif isinstance(value, (list, tuple)):
            for one in value:
                walk(one)

    walk(spec)
    return found


_NAMES = ("column", "time", "event", "outcome", "exposure")


def _parameters(spec: Spec) -> int:
    """Coefficients that the model has."""
    terms = spec.get("terms") or []
    width = sum(len(one["levels"]) - 1 if "levels" in one else 1 for one in terms)
    return width + bool(spec.get("intercept", False))
