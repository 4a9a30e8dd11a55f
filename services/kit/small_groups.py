"""Counts of people on pages that more than one organisation reads: no group of 1 to 9 is told.

One rule for all of them. A count is withheld when it is of 1 to 9 people, or when a group of 1 to 9 follows
from it together with others that are shown (complementary suppression: Hundepool et al., Statistical
Disclosure Control, 2012, chapters 3 and 4). A kind of count is shown by site only where it may be shown at
every site: else the one site that is withheld follows from the total and the others. The page of a site
itself, which its own people read, shows every number. What a domain publishes by itself (a lot's dossier, a
release of evidence) draws the same line in its own module, for a domain imports nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

SMALLEST = 10


def small(people: int) -> bool:
    """Is it a group that is not told? Nobody is none."""
    return 0 < abs(people) < SMALLEST


def told(groups: Mapping[str, Mapping[str, Iterable[int]]]) -> frozenset[str]:
    """Which kinds of count may be shown by site.

    `groups`, by site and kind: the count, and the groups that follow from it and from what is known beside it
    (of those who are awaited also those who answered).
    """
    kinds = {kind for site in groups.values() for kind in site}
    return frozenset(
        kind
        for kind in kinds
        if not any(small(group) for site in groups.values() for group in site.get(kind, ()))
    )
