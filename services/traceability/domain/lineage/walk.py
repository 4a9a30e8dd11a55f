"""Which events belong to the lineage of a thing: all that it comes from, and all that it leads to.

Up from the thing to where it comes from, and down to what it leads to. What
is found out about a product is of each of its lots: from the products above,
the walk goes down through their studies as well, and does so before it goes
down to a product's many lots. The walk asks for events by the things that they
join, level by level, never for many more than it may keep, and stops at a
bound, for a molecule may lead to everything that a platform holds.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence

from services.traceability.domain.lineage.links import PRODUCT, STUDIED, Hop, kind_of

#: The events whose `froms`, `tos` or `about` (the field is named) have one of the things, each once: so many
#: at least where there are more, and of one type where it is named.
Find = Callable[[str, Sequence[str], int, str], Awaitable[list[Hop]]]
_ABOVE, _BELOW, _ABOUT = "tos", "froms", "about"


class Walk:
    """One walk; `most` events at most are found."""

    def __init__(self, find: Find, most: int) -> None:
        self._find, self._most = find, most
        self.hops: dict[str, Hop] = {}
        self.truncated = False

    async def whole(self, starts: Sequence[str]) -> None:
        """Up and down from the things."""
        above = await self._go(starts, up=True)
        products = sorted(name for name in above if kind_of(name) == PRODUCT)
        await self._go(products, up=False, first=STUDIED)
        await self._go(starts, up=False)

    async def _go(self, starts: Sequence[str], *, up: bool, first: str = "") -> set[str]:
        """Level by level; with `first`, the first step is by events of that type alone."""
        seen, level, room = set(starts), list(starts), self._most + 1
        while level and not self.truncated:
            following = await self._find(_ABOVE if up else _BELOW, level, room, first)
            about = await self._find(_ABOUT, level, room, "")
            self._keep([*following, *about])
            reached = {name for hop in following for name in (hop.froms if up else hop.tos)}
            level, first = sorted(reached - seen), ""
            seen |= reached
        return seen

    def _keep(self, found: Iterable[Hop]) -> None:
        for hop in sorted(found, key=lambda one: (one.at, one.event)):
            if hop.event not in self.hops and len(self.hops) >= self._most:
                self.truncated = True
                return
            self.hops[hop.event] = hop

    def in_order(self) -> list[Hop]:
        """The events by platform time."""
        return sorted(self.hops.values(), key=lambda one: (one.at, one.event))
