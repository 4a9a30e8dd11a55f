"""The cohort of a job at its site, and what a site refuses to compute with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from services.exchange.domain.disclosure import cells, differencing
from services.exchange.domain.disclosure.limits import Breach, Limits
from services.exchange.domain.stats.protocol import Spec, Vector


@dataclass(frozen=True)
class Cohort:
    """The cohort of a job at this site. `members` are digests that only the site can make; `opened` says
    whether the site has opened a mask over them."""

    job: str
    study: str
    participants: tuple[str, ...]
    parameters: bytes
    members: tuple[bytes, ...]
    opened: bool = False


def breaches(
    cohort: Cohort, earlier: Sequence[Cohort], table: Mapping[str, Vector], spec: Spec, limits: Limits
) -> list[Breach]:
    """Every rule for which the site does not compute with this cohort; empty where it may.

    `earlier` are the site's cohorts, `table` the columns of numbers, `spec` the
    canonical specification of the model.
    """
    opened = [before for before in earlier if before.opened]
    known = {before.job: frozenset(before.members) for before in opened}
    # Whatever was computed: counts and sums of the columns are part of nearly every model.
    same = {before.job: (frozenset(before.participants), known[before.job]) for before in opened}
    members = frozenset(cohort.members)
    used = {name: values for name, values in table.items() if name in _columns(spec)}
    return [
        *cells.check_subset(len(cohort.members), limits),
        *_check_model(_parameters(spec), len(cohort.members), limits),
        *cells.check_design(used, limits),
        *differencing.check_cohort(members, known, limits),
        *differencing.check_participants(cohort.participants, members, same, limits),
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


_NAMES = ("column", "time", "event", "outcome")


def _parameters(spec: Spec) -> int:
    """Coefficients that the model has."""
    terms = spec.get("terms") or []
    width = sum(len(one["levels"]) - 1 if "levels" in one else 1 for one in terms)
    return width + bool(spec.get("intercept", False))
