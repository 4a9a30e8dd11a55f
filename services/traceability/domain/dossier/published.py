"""Counts of people as they may be published: no group of 1 to 9 can be told from them.

A count is withheld when it is 1 to 9, or when it differs by 1 to 9 from another
one that is shown, for the difference is a group too (those with a plan who did
not answer). Who answered and who had a complaint are shown or withheld together,
and before all others, as in what is published to research: that is known beside
this. A number is shown by site only when it may be shown at every site and in
all; else a site that is withheld could be worked out from the others.
What sites released of complaints is known of each of them, whatever is shown
here: so a count is withheld too when it holds 1 to 9 people more than were
released, or fewer than these. Every release is of 10 or more; so what is left
of a count less some of the releases is at least what is left without all.
The threshold is that of statistical offices for frequency tables; the second
rule is their complementary suppression (Hundepool et al., Statistical
Disclosure Control, 2012, chapters 3 and 4), in its strictest form.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

SMALLEST = 10


class People(NamedTuple):
    """Exact counts of people. `released` are those of whom the site released something, which is known."""

    dispenses: int = 0
    patients: int = 0
    plans: int = 0
    notified: int = 0
    answered: int = 0
    affected: int = 0
    released: int = 0


#: What is shown or withheld together, in the order in which it is decided.
_GROUPS = (("answered", "affected"), ("plans",), ("notified",), ("patients",), ("dispenses",))


class Published(NamedTuple):
    """Which of the counts may be shown: over all sites, and at each of them."""

    in_all: frozenset[str]
    by_site: frozenset[str]
    total: People


def published(sites: Mapping[str, People]) -> Published:
    """What may be shown of the counts of a run at its sites."""
    total = People(*map(sum, zip(People(), *sites.values(), strict=True)))
    in_all: set[str] = set()
    by_site: set[str] = set()
    for group in _GROUPS:
        if _may_show(total, group, in_all):
            in_all |= set(group)
            if all(_may_show(people, group, by_site) for people in sites.values()):
                by_site |= set(group)
    return Published(frozenset(in_all), frozenset(by_site), total)


def _may_show(people: People, group: Collection[str], shown: Collection[str]) -> bool:
    counts = people._asdict()
    beside = [0, *(counts[name] for name in (*group, *shown))]
    if any(0 < abs(counts[name] - other) < SMALLEST for name in group for other in beside):
        return False
    return all(_clear(counts[name], people.released) for name in group if name != "affected")


def _clear(count: int, released: int) -> bool:
    """Is nobody, or no small group, left of the count without those who were released?"""
    return count in (0, released) or count >= released + SMALLEST
