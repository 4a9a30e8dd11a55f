"""Smallest cells, subsets, models and levels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from services.exchange.domain.disclosure.limits import Breach, Limits

Floats = NDArray[np.float64]
_VALUES_OF_A_BINARY = 2


def check_cells(counts: Mapping[str, int], limits: Limits, field: str = "counts") -> list[Breach]:
    """Each cell is empty or holds enough patients. The count itself is not told."""
    rule = f"nfilter.tab {limits.minimum_cell}"
    return [
        Breach(
            rule,
            "CELL_TOO_SMALL",
            f"cell {name!r} holds fewer than {limits.minimum_cell} patients: join it with a neighbour",
            field,
        )
        for name, count in counts.items()
        if 0 < count < limits.minimum_cell
    ]


def check_subset(patients: int, limits: Limits) -> list[Breach]:
    """A subset, or a site's part of a cohort, has enough patients."""
    if patients >= limits.minimum_subset:
        return []
    least = limits.minimum_subset
    return [
        Breach(
            f"nfilter.subset {least}",
            "SUBSET_TOO_SMALL",
            f"the subset holds fewer than {least} patients here: widen it, or leave this site out",
            "cohort",
        )
    ]


def check_model(parameters: int, patients: int, limits: Limits) -> list[Breach]:
    """A model has few enough parameters for its patients: a saturated one gives them back."""
    if parameters <= limits.parameter_share * patients:
        return []
    most = int(limits.parameter_share * patients)
    return [
        Breach(
            f"nfilter.glm {limits.parameter_share:g}",
            "MODEL_TOO_LARGE",
            f"{parameters} parameters are more than the {most} that this many patients allow: "
            "leave variables out or join levels",
            "model",
        )
    ]


def check_levels(levels: Sequence[str], patients: int, limits: Limits, field: str) -> list[Breach]:
    """A factor has few enough levels, for its patients too; their names are no free text."""
    breaches = []
    if len(levels) > limits.most_levels:
        breaches.append(
            Breach(
                f"nfilter.levels.max {limits.most_levels}",
                "TOO_MANY_LEVELS",
                f"{field} has {len(levels)} levels, more than {limits.most_levels}: group them",
                field,
            )
        )
    if len(levels) > limits.level_share * patients:
        breaches.append(
            Breach(
                f"nfilter.levels.density {limits.level_share:g}",
                "LEVELS_TOO_DENSE",
                f"{field} has {len(levels)} levels, too many for the patients here: group them",
                field,
            )
        )
    if any(len(level) > limits.longest_text for level in levels):
        breaches.append(
            Breach(
                f"nfilter.string {limits.longest_text}",
                "TEXT_TOO_LONG",
                f"{field} has a level of more than {limits.longest_text} letters: use a code list",
                field,
            )
        )
    return breaches


def check_design(columns: Mapping[str, Floats], limits: Limits) -> list[Breach]:
    """A model's columns and outcome at a site: each value of a binary one has enough patients.

    A column of one value alone is let pass: whether a level that a site has no
    patient of is kept is decided over all sites, by the first round of a job.
    """
    counts: dict[str, int] = {}
    for name, column in columns.items():
        values, patients = np.unique(column, return_counts=True)
        if len(values) == _VALUES_OF_A_BINARY:
            counts |= {f"{name}={value:g}": int(n) for value, n in zip(values, patients, strict=True)}
    return check_cells(counts, limits, "model")


def check_sites(sites: int, limits: Limits) -> list[Breach]:
    """A job has enough sites: with two, the sum tells each what the other has."""
    if sites >= limits.minimum_sites:
        return []
    return [
        Breach(
            f"minimum sites {limits.minimum_sites}",
            "TOO_FEW_SITES",
            f"{sites} sites cannot hide one another's numbers: {limits.minimum_sites} are needed",
            "participants",
        )
    ]
