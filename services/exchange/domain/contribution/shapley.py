"""Exact Shapley values over sites, and what is paid for them.

phi_i = sum over S without i of |S|! (n - |S| - 1)! / n! (v(S + i) - v(S)),
Shapley 1953. Values are computed in rationals: they sum to v(N) - v(nobody)
exactly, equal sites get equal values, and one that never changes a value gets
zero, not nearly zero.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from itertools import combinations

from services.refusals import Malformed, Refusal

Coalition = frozenset[str]
NOBODY: Coalition = frozenset()

#: 4,095 fits; beyond, values would have to be estimated from samples.
MOST_SITES = 12


def coalitions(sites: Iterable[str]) -> Iterator[Coalition]:
    """All coalitions but the empty one, small ones first: 2^n - 1."""
    names = sorted(set(sites))
    for size in range(1, len(names) + 1):
        for members in combinations(names, size):
            yield frozenset(members)


def exact(sites: Sequence[str], values: Mapping[Coalition, float]) -> dict[str, Fraction]:
    """The value of each site, in the unit of `values`, which holds every coalition and the empty one.

    Malformed without sites or with more than `MOST_SITES`; Refusal when a
    coalition is missing or its value is no finite number.
    """
    names = sorted(set(sites))
    if not 1 <= len(names) <= MOST_SITES:
        raise Malformed(
            "TOO_MANY_SITES",
            f"exact values are for 1 to {MOST_SITES} sites, not {len(names)}: group sites",
            "sites",
        )
    known = {coalition: _known(values, coalition) for coalition in (NOBODY, *coalitions(names))}
    n = len(names)
    # Integers over n!, so that only one division rounds, the reader's.
    weights = [math.factorial(size) * math.factorial(n - size - 1) for size in range(n)]
    total = dict.fromkeys(names, Fraction(0))
    for coalition, value in known.items():
        for site in names:
            if site in coalition:
                total[site] += weights[len(coalition) - 1] * value
            else:
                total[site] -= weights[len(coalition)] * value
    return {site: summed / math.factorial(n) for site, summed in total.items()}


def _known(values: Mapping[Coalition, float], coalition: Coalition) -> Fraction:
    value = values.get(coalition)
    if value is None or not math.isfinite(value):
        said = ", ".join(sorted(coalition)) or "nobody"
        raise Refusal("NO_VALUE", f"the coalition of {said} has no value: evaluate it first", "values")
    return Fraction(value)


def shares(values: Mapping[str, Fraction], unit: Fraction = Fraction(0)) -> dict[str, Fraction]:
    """What part of a pool each site gets; they sum to one exactly.

    A negative value is paid as zero and takes nothing from others. Values that
    differ by less than `unit`, the last digit to which coalitions were rounded,
    are a tie and are paid their mean. When nobody has a positive value all
    shares are zero: then this says nothing, and other terms of the contract decide.
    """
    paid = {site: max(value, Fraction(0)) for site, value in _tied(values, unit).items()}
    total = sum(paid.values(), Fraction(0))
    return {site: value / total if total else Fraction(0) for site, value in paid.items()}


def _tied(values: Mapping[str, Fraction], unit: Fraction) -> dict[str, Fraction]:
    groups: list[list[str]] = []
    for site in sorted(values, key=lambda name: (values[name], name)):
        # From the least of a group, not from the last: many small steps are not one tie.
        if groups and values[site] - values[groups[-1][0]] < unit:
            groups[-1].append(site)
        else:
            groups.append([site])
    return {
        site: sum((values[one] for one in group), Fraction(0)) / len(group)
        for group in groups
        for site in group
    }


def interval(
    replicates: Sequence[Mapping[str, Fraction]], level: float = 0.95
) -> dict[str, tuple[float, float]]:
    """The percentile interval of each site's value over bootstrap replicates of the test patients."""
    if not replicates or not 0 < level < 1:
        raise Malformed(
            "NO_REPLICATES", "an interval needs replicates and a level between 0 and 1", "replicates"
        )
    count = len(replicates)
    low = math.floor(round((1 - level) / 2 * (count - 1), 9))
    found = {}
    for site in replicates[0]:
        ordered = sorted(float(one[site]) for one in replicates)
        found[site] = (ordered[low], ordered[count - 1 - low])
    return found
