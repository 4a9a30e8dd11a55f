"""Smallest cells, subsets, models and levels, and who stands behind a coefficient."""

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
    patient of is kept is decided over all sites, by `contributions` and `kept`.
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


def contributions(columns: Mapping[str, Floats], limits: Limits) -> Floats:
    """For each column 1 if this site has enough patients behind its coefficient, else 0.

    Behind a coefficient stand the patients whose value differs from the
    commonest one. The sites sum these under masks in a round of their own,
    before any gradient.
    """
    flags = []
    for column in columns.values():
        commonest = int(np.unique(column, return_counts=True)[1].max(initial=0))
        flags.append(float(len(column) - commonest >= max(limits.minimum_cell, 1)))
    return np.array(flags)


def kept(names: Sequence[str], contributors: Floats, limits: Limits) -> tuple[tuple[str, ...], list[Breach]]:
    """The columns with enough sites behind them, and a breach for each that must be dropped.

    `contributors` is the sum of `contributions` over sites. The numbers of a
    coefficient that one site alone has patients of are that site's own numbers,
    whatever masks they travelled under.
    """
    least = limits.minimum_contributors
    stays = tuple(name for name, sites in zip(names, contributors, strict=True) if round(sites) >= least)
    breaches = [
        Breach(
            f"minimum contributors {least}",
            "TOO_FEW_CONTRIBUTORS",
            f"{name!r} has patients at fewer than {least} sites: drop it or join it with another level",
            "model",
        )
        for name in names
        if name not in stays
    ]
    return stays, breaches


def suppressed(counts: Mapping[str, int], least: int) -> dict[str, int | None]:
    """Counts to publish beside their total: None for those from 1 to `least` - 1.

    Where one cell alone would be hidden, the total gives it away, so the next
    smallest is hidden with it.
    """
    hidden = {name for name, count in counts.items() if 0 < count < least}
    others = sorted((count, name) for name, count in counts.items() if count > 0 and name not in hidden)
    if len(hidden) == 1 and others:
        hidden.add(others[0][1])
    return {name: None if name in hidden else count for name, count in counts.items()}
