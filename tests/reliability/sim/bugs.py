"""Bugs that are planted to see whether the checker catches them."""

from __future__ import annotations

from services.kit.relay import Relay
from services.kit.runners.batch import BatchRunner, Reactor, Surroundings


class Bugs:
    """How a process gets its runners and its relay; a bug makes one of them another way."""

    def runner(self, reactor: Reactor, around: Surroundings) -> BatchRunner:
        return BatchRunner(reactor, around)

    def relay(self, relay: Relay) -> Relay:
        return relay


NONE = Bugs()
