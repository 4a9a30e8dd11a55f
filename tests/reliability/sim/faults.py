"""What can go wrong in a simulated world, and how often: the weather of a seed.

Every seed has a weather of its own: some faults are off, others come often,
so that each meets the product alone and with others.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

from services.kit.points import POINTS

#: How often each fault strikes where it can, at the most.
LIKELY: Mapping[str, float] = {
    "part of it": 0.9,  # a consumer is given less than there is, of some partitions
    "mixed": 0.5,  # records of several partitions come mixed
    "broker not reached": 0.05,
    "slow broker": 0.6,  # a producer is answered later
    "publish fails": 0.2,  # a part of it arrives, the client hears of a failure
    "transaction fails": 0.08,
    "commit without answer": 0.05,
    "query fails": 0.02,
    "others between": 0.25,  # something else happens within a transaction of a batch
    "frozen between": 0.02,  # the worker is frozen within its batch, past its session
}
#: How often the scheduler does this, against a hundred ordinary steps.
RARE: Mapping[str, float] = {
    "kill": 1.0,
    "die at a point": 2.0,
    "pause": 2.0,
    "rebalance": 2.0,
    "repeat": 8.0,  # a record is in the log once more
    "lose lease": 1.0,
}
#: Points that a process of the world passes.
DEADLY = POINTS


class Weather:
    """The faults of one seed."""

    def __init__(self, rng: Random, calm: bool) -> None:
        self.calm = calm
        self._rng = rng
        self._likely = {name: _strength(rng, most) for name, most in LIKELY.items()}
        self._rare = {name: _strength(rng, most) for name, most in RARE.items()}
        #: Which faults have happened.
        self.struck: set[str] = set()

    def strikes(self, fault: str) -> bool:
        likely = self._likely[fault]
        if self.calm or likely == 0 or self._rng.random() >= likely:
            return False
        self.struck.add(fault)
        return True

    def rare(self) -> str | None:
        """The rare fault that comes now, if one does."""
        for name, rate in self._rare.items():
            if rate and self._rng.random() * 100 < rate:
                self.struck.add(name)
                return name
        return None


def _strength(rng: Random, most: float) -> float:
    return most * rng.choice((0.0, 0.4, 1.0))
