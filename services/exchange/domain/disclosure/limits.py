"""The numbers of the rules, and which data they are for."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from services.refusals import Refusal


class Profile(Enum):
    """Which limits a dataset is under. Its owner chooses, not the analyst who asks."""

    PROTECTED = "protected"
    #: Published data: reference values are to be met with cells of one.
    PUBLIC_DATA = "public-data"


@dataclass(frozen=True, slots=True)
class Breach:
    """A rule that a job breaks: the rule with its limit, why, and the field at fault."""

    rule: str
    reason: str
    description: str
    field: str


@dataclass(frozen=True, slots=True)
class Limits:
    """Smallest and largest of what a site lets pass.

    minimum_cell          patients in a cell that is not empty (nfilter.tab)
    minimum_subset        patients in a subset (nfilter.subset)
    parameter_share       parameters of a model per patient (nfilter.glm)
    longest_text          letters of a text that may be compared (nfilter.string)
    most_levels           levels of a factor (nfilter.levels.max)
    level_share           levels per patient (nfilter.levels.density)
    minimum_sites         sites in a job
    site_difference       sites by which a job differs from earlier ones over an equal cohort, unless none
    minimum_difference    patients by which a cohort differs from earlier ones, unless it is equal
    """

    minimum_cell: int = 3
    minimum_subset: int = 3
    parameter_share: float = 0.33
    longest_text: int = 80
    most_levels: int = 40
    level_share: float = 0.33
    minimum_sites: int = 3
    site_difference: int = 3
    minimum_difference: int = 10


PROTECTED = Limits()

#: The sites of a job stay: they are about the protocol, and reference jobs keep to them.
PUBLIC_DATA = Limits(
    minimum_cell=1,
    minimum_subset=1,
    parameter_share=1.0,
    longest_text=10_000,
    most_levels=10_000,
    level_share=1.0,
    site_difference=1,
    minimum_difference=1,
)


def limits_of(profile: Profile) -> Limits:
    return PUBLIC_DATA if profile is Profile.PUBLIC_DATA else PROTECTED


def check_profile(asked: Profile, granted: Profile) -> list[Breach]:
    """A job may ask for stricter limits than the owner of the data granted, not for wider ones."""
    if asked is Profile.PUBLIC_DATA and granted is not Profile.PUBLIC_DATA:
        return [
            Breach(
                "profile",
                "PROFILE_NOT_GRANTED",
                "the owner of this dataset has not declared it public: ask under the protected profile",
                "profile",
            )
        ]
    return []


def refuse(breaches: Iterable[Breach]) -> None:
    """Raise the first breach with the sentences of all; nothing when there is none."""
    found = list(breaches)
    if found:
        said = "; ".join(f"{one.description} [{one.rule}]" for one in found)
        raise Refusal(found[0].reason, said, found[0].field)
