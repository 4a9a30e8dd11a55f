"""The cohort of a job at its site, and what a site refuses to compute with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from services.exchange.domain.disclosure import budget, cells, differencing
from services.exchange.domain.disclosure.budget import Query, Spent
from services.exchange.domain.disclosure.limits import Breach, Limits
from services.exchange.domain.insights import EXPOSED
from services.exchange.domain.stats.protocol import Columns, Spec, Vector
from services.refusals import Refusal


@dataclass(frozen=True)
class Cohort:
    """The cohort of a job at this site. `members` are digests that only the site can make; `opened` says
    whether the site has opened a mask over them, and then `participants` are those that were summed.
    `analyst` asked the study of `dataset`; `rounds` are those the job opened or holds, `epsilon` is what its
    noise costs, 0 without. `values` are the columns that the job uses, each with a token of every member's
    value, in the order of `members`, by `differencing.value_tokens`."""

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
    values: tuple[tuple[str, bytes], ...] = ()


def with_values(cohort: Cohort, members: Sequence[bytes], table: Columns, spec: Spec, key: bytes) -> Cohort:
    """The cohort with tokens of what the job uses; `table` has its rows in the order of `members`."""
    order = sorted(range(len(members)), key=members.__getitem__)
    used = sorted(_columns(spec) & set(table))
    tokens = [
        (name, differencing.value_tokens(key, name, cohort.members, table[name][order])) for name in used
    ]
    return replace(cohort, values=tuple(tokens))


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
        *_check_levels(spec, len(cohort.members), limits),
        *_check_crossed(used, spec, limits),
        *differences(cohort, earlier, limits),
    ]


def differences(cohort: Cohort, earlier: Sequence[Cohort], limits: Limits) -> list[Breach]:
    """The rules for which a sum over the cohort and its participants may not stand beside earlier ones."""
    opened = sorted((before for before in earlier if before.opened), key=lambda one: one.job, reverse=True)
    members = frozenset(cohort.members)
    # One job for each cohort is enough: jobs that repeat one would be compared in pairs for nothing.
    distinct = {before.members: before.job for before in opened}
    known = {job: frozenset(held) for held, job in distinct.items()}
    # Whatever was computed: counts and sums of the columns are part of nearly every model.
    same = {
        before.job: (frozenset(before.participants), known[distinct[before.members]]) for before in opened
    }
    told = {before.values: before.job for before in opened if before.members == cohort.members}
    return [
        *differencing.check_cohort(members, known, limits),
        *differencing.check_participants(cohort.participants, members, same, limits),
        *differencing.check_values(cohort.values, {job: values for values, job in told.items()}, limits),
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


def _check_crossed(used: Mapping[str, Vector], spec: Spec, limits: Limits) -> list[Breach]:
    """Enough patients in each cell of a binary exposure and a binary outcome: each row and each column may
    have them, and the exposed with the outcome be one."""
    exposure, outcome = (used.get(name) for name in _exposure_and_outcome(spec))
    if exposure is None or outcome is None or not (_is_binary(exposure) and _is_binary(outcome)):
        return []
    counts = {
        f"exposed={exposed}, outcome={found}": int(((exposure == exposed) & (outcome == found)).sum())
        for exposed in (0, 1)
        for found in (0, 1)
    }
    return cells.check_cells(counts, limits, "model")


def _exposure_and_outcome(spec: Spec) -> tuple[str, str]:
    """The columns of exposure and outcome; empty where the model has none."""
    said = spec.get("exposure")
    terms = {str(one.get("column")) for one in spec.get("terms") or []}
    exposure = said if isinstance(said, str) else EXPOSED if EXPOSED in terms else ""
    outcome = spec.get("outcome", spec.get("event", ""))
    return exposure, outcome if isinstance(outcome, str) else str(outcome.get("column", ""))


def _is_binary(column: Vector) -> bool:
    return bool(np.isin(column, (0.0, 1.0)).all())


def _check_levels(spec: Spec, patients: int, limits: Limits) -> list[Breach]:
    """Every factor of the specification has few enough levels."""
    factors = [
        one
        for field in ("terms", "by", "strata")
        for one in spec.get(field) or []
        if isinstance(one, Mapping) and one.get("levels")
    ]
    groups = spec.get("groups")
    factors += [groups] if isinstance(groups, Mapping) else []
    return [
        breach
        for one in factors
        for breach in cells.check_levels(one["levels"], patients, limits, str(one["column"]))
    ]


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
