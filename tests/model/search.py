"""Every state that can be reached, breadth first: what is found broken is found on a shortest way."""

from __future__ import annotations

import time
from array import array
from dataclasses import dataclass

from tests.model.properties import Properties
from tests.model.world import Move, State, World


@dataclass(frozen=True)
class Result:
    """What a search found. `broken` is empty when everything holds; then `way` is too."""

    states: int
    moves: int
    seconds: float
    broken: str = ""
    way: tuple[Move, ...] = ()
    whole: bool = True


class Search:
    """One search of one world."""

    def __init__(self, world: World, most_states: int = 0) -> None:
        """`most_states` ends the search early; 0 never does."""
        self._world = world
        self._properties = Properties(world)
        self._most = most_states
        self._seen: dict[State, int] = {}
        self._parents = array("q")
        self._shared: dict[object, object] = {}
        #: For each state in turn: how many moves, and where each leads.
        self._counts = array("l")
        self._targets = array("q")

    def run(self) -> Result:
        began = time.process_time()
        broken, way, whole = self._search()
        if not broken and whole and self._goes_round():
            broken = "the parts go round for ever though nothing comes"
        return Result(len(self._seen), len(self._targets), time.process_time() - began, broken, way, whole)

    def _search(self) -> tuple[str, tuple[Move, ...], bool]:
        first, broken = self._settled([Move("a deviation is confirmed", "", self._world.initial())])
        if broken:
            return broken, tuple(first), True
        level = [self._add(first[-1].after, -1)]
        while level:
            following = []
            for state in level:
                here = self._seen[state]
                try:
                    moves = self._world.moves(state)
                except Exception as error:  # noqa: BLE001 -- the code itself says that it is lost
                    return f"the code fails: {error!r}", self._way(here), True
                self._counts.append(len(moves))
                if not moves:
                    broken = self._properties.broken_at_the_end(state)
                    if broken:
                        return broken, self._way(here), True
                for move in moves:
                    broken = self._properties.broken_by(state, move)
                    way = [move]
                    if not broken:
                        way, broken = self._settled(way)
                    if broken:
                        return broken, (*self._way(here), *way), True
                    after = way[-1].after
                    found = self._seen.get(after)
                    if found is None:
                        following.append(self._add(after, here))
                        found = len(self._parents) - 1
                    self._targets.append(found)
            if self._most and len(self._seen) > self._most:
                return "", (), False
            level = following
        return "", (), True

    def _settled(self, way: list[Move]) -> tuple[list[Move], str]:
        """The way with what happens at once after it, and what that breaks."""
        state = way[-1].after
        while move := self._world.at_once(state):
            way.append(move)
            broken = self._properties.broken_by(state, move)
            if broken:
                return way, broken
            state = move.after
        return way, ""

    def _add(self, state: State, parent: int) -> State:
        shared = self._shared.setdefault
        state = State._make([shared(part, part) if type(part) is tuple else part for part in state])
        self._seen[state] = len(self._parents)
        self._parents.append(parent)
        return state

    def _way(self, number: int) -> tuple[Move, ...]:
        """The moves from the beginning to a state."""
        numbers = []
        while number >= 0:
            numbers.append(number)
            number = self._parents[number]
        wanted = set(numbers)
        states = {at: state for state, at in self._seen.items() if at in wanted}
        way, _ = self._settled([Move("a deviation is confirmed", "", self._world.initial())])
        for before, after in zip(reversed(numbers), reversed(numbers[:-1]), strict=False):
            for move in self._world.moves(states[before]):
                on, _ = self._settled([move])
                if on[-1].after == states[after]:
                    way += on
                    break
        return tuple(way)

    def _goes_round(self) -> bool:
        """Is there a circle? States are taken off that nothing leads to, until none is left."""
        incoming = array("l", bytes(array("l").itemsize * len(self._counts)))
        for target in self._targets:
            incoming[target] += 1
        starts = array("q", [0])
        for count in self._counts:
            starts.append(starts[-1] + count)
        free, taken = [0], 0
        while free:
            state = free.pop()
            taken += 1
            for place in range(starts[state], starts[state + 1]):
                target = self._targets[place]
                incoming[target] -= 1
                if not incoming[target]:
                    free.append(target)
        return taken < len(self._counts)
